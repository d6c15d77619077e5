//! The flags every binary has, each also readable from the environment.
//!
//! A binary flattens them into its own clap struct:
//! `#[command(flatten)] server: service::ServerSettings`.
//! The flag wins over the environment, the environment over the default.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::client_ip::TrustedProxies;
use crate::limits::{self, Limits};
use crate::serve::{self, ConnectionLimits};
use crate::shutdown::{self, Shutdown};
use crate::store_url::StoreUrl;
use crate::{Error, telemetry};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a terminal.
    #[default]
    Pretty,
    /// One JSON object a line, for a collector.
    Json,
}

/// Where and how a service listens, logs, bounds its work and stops.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server", about = None, long_about = None)]
pub struct ServerSettings {
    /// Address to listen on; port 0 takes any free port
    #[arg(long, env = "SERVICE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub listen: SocketAddr,

    /// How log lines look
    #[arg(long, env = "SERVICE_LOG", value_enum, default_value_t, value_name = "FORMAT")]
    pub log: LogFormat,

    /// Which lines are logged, e.g. `info,job_queue=debug`
    #[arg(long, env = "SERVICE_LOG_FILTER", default_value = "info",
          value_parser = telemetry::parse_filter)]
    pub log_filter: String,

    /// Largest request body
    #[arg(long, env = "SERVICE_BODY_LIMIT_BYTES", default_value_t = limits::BODY_BYTES_MAX)]
    pub body_limit_bytes: usize,

    /// Longest time from a request's head to its response's head
    #[arg(long, env = "SERVICE_REQUEST_TIMEOUT_MS",
          default_value_t = limits::REQUEST_TIME_MAX.as_millis() as u64)]
    pub request_timeout_ms: u64,

    /// Requests worked on at once; one more is answered 503
    #[arg(long, env = "SERVICE_MAX_IN_FLIGHT", default_value_t = limits::IN_FLIGHT_MAX)]
    pub max_in_flight: usize,

    /// Connections open at once; one more waits in the backlog
    #[arg(long, env = "SERVICE_MAX_CONNECTIONS", default_value_t = serve::CONNECTIONS_MAX)]
    pub max_connections: usize,

    /// Longest wait for requests in flight when stopping; what is left is aborted
    #[arg(long, env = "SERVICE_SHUTDOWN_DEADLINE_MS",
          default_value_t = shutdown::DEADLINE.as_millis() as u64)]
    pub shutdown_deadline_ms: u64,

    /// Time between "not ready" and closing the port, for a load balancer to notice
    #[arg(long, env = "SERVICE_SHUTDOWN_DELAY_MS", default_value_t = 0)]
    pub shutdown_delay_ms: u64,

    /// Proxies whose X-Forwarded-For is believed: addresses or CIDR blocks, comma separated
    #[arg(long, env = "SERVICE_TRUSTED_PROXIES", default_value = "", value_name = "CIDR,...")]
    pub trusted_proxies: TrustedProxies,

    /// Collector that traces are sent to over OTLP/HTTP, e.g. http://127.0.0.1:4318
    #[cfg(feature = "otlp")]
    #[arg(long, env = "SERVICE_OTLP_ENDPOINT", value_name = "URL",
          value_parser = crate::otlp::parse_endpoint)]
    pub otlp_endpoint: Option<String>,
}

impl ServerSettings {
    /// The limits for [`harden`](fn@crate::harden).
    pub fn limits(&self) -> Limits {
        Limits {
            body_bytes: self.body_limit_bytes,
            request_time: Duration::from_millis(self.request_timeout_ms),
            in_flight: self.max_in_flight,
            ..Limits::default()
        }
    }

    /// The limits for [`serve_with`](crate::serve_with).
    pub fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits { connections: self.max_connections, ..ConnectionLimits::default() }
    }

    /// A [`Shutdown`] that SIGTERM or Ctrl-C starts.
    ///
    /// # Errors
    /// [`Error::Signals`] when the handlers cannot be installed.
    pub fn shutdown(&self) -> Result<Shutdown, Error> {
        let shutdown = Shutdown::new()
            .with_deadline(Duration::from_millis(self.shutdown_deadline_ms))
            .with_delay(Duration::from_millis(self.shutdown_delay_ms));
        shutdown.on_signals()?;
        Ok(shutdown)
    }
}

/// The `--store` flag, apart from [`ServerSettings`] because a binary may keep nothing.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Store", about = None, long_about = None)]
pub struct StoreSettings {
    /// memory: | sqlite:PATH | postgres://... | redis://... | redis-cluster://h1,h2,h3
    #[arg(long, env = "SERVICE_STORE", default_value = "memory:", value_name = "URL")]
    pub store: StoreUrl,
}
