//! A Redis for the page, behind a proxy that can break it.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use faultline::{Fault, Proxy};
use rate_limiter::store::redis::{RESPONSE_TIMEOUT_DEFAULT, RedisStore};
use serde::{Deserialize, Serialize};
use service::Problem;

/// What `latency` adds each way when nothing is said.
const LATENCY_MS_DEFAULT: u64 = 20;
/// Far above the service's own timeout, so that both sides of it can be tried.
const LATENCY_MS_MAX: u64 = 1_000;

/// The switches, by their house names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FaultName {
    /// Redis is killed with SIGKILL; off: started again, empty.
    RedisDown,
    /// Every byte to and from Redis arrives later.
    Latency,
    /// Nothing passes between the service and Redis, and nobody is told.
    Partition,
}

impl FaultName {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::RedisDown => "redis-down",
            Self::Latency => "latency",
            Self::Partition => "partition",
        }
    }
}

/// A running Redis, its proxy, and the store that goes through it.
pub(super) struct LabRedis {
    redis: infra::Redis,
    /// A Redis that was given by URL is not ours to kill: then it is cut off instead.
    is_ours: bool,
    proxy: Proxy,
    store: Arc<RedisStore>,
    faults: BTreeSet<FaultName>,
}

impl LabRedis {
    /// Starts a private Redis, or takes the one given by URL.
    ///
    /// # Errors
    /// 503 that says how to install one.
    pub(super) async fn start() -> Result<Self, Problem> {
        let redis = infra::redis().await.map_err(unavailable)?;
        let proxy = Proxy::start(redis.url()).await.map_err(unavailable)?;
        let store = RedisStore::connect(&proxy.url_of(redis.url()), RESPONSE_TIMEOUT_DEFAULT)?;
        let is_ours = redis.pid().is_some();
        Ok(Self { redis, is_ours, proxy, store: Arc::new(store), faults: BTreeSet::new() })
    }

    /// The store that goes through the proxy.
    pub(super) fn store(&self) -> Arc<RedisStore> {
        Arc::clone(&self.store)
    }

    /// The faults that are on.
    pub(super) fn faults(&self) -> Vec<FaultName> {
        self.faults.iter().copied().collect()
    }

    /// What it is, for people.
    pub(super) fn describe(&self) -> String {
        let version = self.redis.version();
        match self.is_ours {
            true => {
                format!("Redis {version}, a private process, through a proxy that can break it")
            }
            false => format!("Redis {version}, given by URL, through a proxy that can break it"),
        }
    }

    /// Turns a fault on or off; returns when it is in place.
    ///
    /// # Errors
    /// 422 for a latency out of bounds, 500 when Redis does not come back.
    pub(super) async fn switch(
        &mut self,
        name: FaultName,
        on: bool,
        latency_ms: Option<u64>,
    ) -> Result<(), Problem> {
        match name {
            FaultName::Latency => {
                let latency_ms = latency_ms.unwrap_or(LATENCY_MS_DEFAULT);
                if !(1..=LATENCY_MS_MAX).contains(&latency_ms) {
                    let detail = format!("must be 1 to {LATENCY_MS_MAX}, not {latency_ms}");
                    return Err(Problem::invalid("/latency_ms", detail));
                }
                self.set(Fault::Latency { delay: Duration::from_millis(latency_ms) }, on);
            }
            FaultName::Partition => self.set(Fault::Partition, on),
            FaultName::RedisDown if !self.is_ours => self.set(Fault::Cut, on),
            FaultName::RedisDown if on => self.redis.kill9().await.map_err(Problem::internal)?,
            FaultName::RedisDown => self.redis.restart().await.map_err(Problem::internal)?,
        }
        if on {
            self.faults.insert(name)
        } else {
            self.faults.remove(&name)
        };
        Ok(())
    }

    fn set(&self, fault: Fault, on: bool) {
        if on { self.proxy.set(fault) } else { self.proxy.unset(fault) }
    }
}

fn unavailable(error: impl Display) -> Problem {
    let detail = error.to_string();
    Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail(detail.clone()).field("/store", detail)
}
