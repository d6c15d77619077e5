//! A server in a container, where neither a URL nor a local program is at hand.
//!
//! Weaker than a local process in two ways, both the engine's: "kill" is the stop signal
//! followed at once by SIGKILL, and a container outlives a SIGKILLed owner (it carries the label
//! `working-answers`, so `docker ps --filter label=working-answers` finds it). The engine's API
//! must be as new as the one testcontainers speaks; engines of 2023 and before refuse it.

use testcontainers::core::IntoContainerPort;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};

use crate::backing::off_the_runtime;
use crate::error::{Error, Result};
use crate::port::PortLease;
use crate::postgres::{self, PostgresOptions, Profile};
use crate::process::wait_for;
use crate::redis::{self, RedisOptions};

/// Seconds between the stop signal and SIGKILL in an orderly stop.
const STOP_SECONDS: i32 = 10;

/// A container of ours. Its port is fixed, so that a restarted server is found where it was.
pub(crate) struct Container {
    container: ContainerAsync<GenericImage>,
    ready: Ready,
    _port: PortLease,
}

/// Whom to ask whether the server answers.
enum Ready {
    Redis(String),
    Postgres(String),
}

impl Container {
    async fn start_new(
        image: ContainerRequest<GenericImage>,
        inner_port: u16,
        ready: impl FnOnce(&str, u16) -> Ready,
    ) -> Result<Self> {
        let port = PortLease::take()?;
        let container = image
            .with_mapped_port(port.port, inner_port.tcp())
            .with_label("working-answers", std::process::id().to_string())
            .start()
            .await
            .map_err(failed)?;
        let host = container.get_host().await.map_err(failed)?.to_string();
        let ready = ready(&host, port.port);
        let started = Self { container, ready, _port: port };
        started.wait_ready().await?;
        Ok(started)
    }

    /// The engine accepts connections on a mapped port before the server behind it listens, so
    /// only an answer in the server's own protocol counts.
    async fn wait_ready(&self) -> Result<()> {
        match &self.ready {
            Ready::Redis(url) => {
                let url = url.clone();
                off_the_runtime(move || {
                    wait_for("Redis in its container to answer", || {
                        redis::version(&url).map(|_| true)
                    })
                })
                .await
            }
            Ready::Postgres(url) => postgres::wait_until_it_answers(url).await,
        }
    }

    pub(crate) async fn kill9(&self) -> Result<()> {
        self.container.stop_with_timeout(Some(0)).await.map_err(failed)
    }

    pub(crate) async fn stop(&self) -> Result<()> {
        self.container.stop_with_timeout(Some(STOP_SECONDS)).await.map_err(failed)
    }

    pub(crate) async fn pause(&self) -> Result<()> {
        self.container.pause().await.map_err(failed)
    }

    pub(crate) async fn resume(&self) -> Result<()> {
        self.container.unpause().await.map_err(failed)
    }

    pub(crate) async fn restart(&self) -> Result<()> {
        if self.container.is_running().await.map_err(failed)? {
            self.stop().await?;
        }
        self.container.start().await.map_err(failed)?;
        self.wait_ready().await
    }
}

/// A Redis in a container, and its URL. `INFRA_REDIS_IMAGE` names another image.
pub(crate) async fn redis(options: &RedisOptions) -> Result<(Container, String)> {
    if options.fsync_delay.is_some() {
        return Err(no_slow_fsync());
    }
    let mut command = vec!["redis-server".to_owned(), "--save".to_owned(), String::new()];
    if options.durable {
        command.extend(["--appendonly", "yes", "--appendfsync", "always"].map(String::from));
    }
    command.extend(options.arguments.iter().cloned());
    let image = image("INFRA_REDIS_IMAGE", "redis:7.4-alpine").with_cmd(command);
    let container = Container::start_new(image, 6379, |host, port| {
        Ready::Redis(format!("redis://{host}:{port}/"))
    })
    .await?;
    let url = container.ready.url().to_owned();
    Ok((container, url))
}

/// A Postgres in a container, and its URL. `INFRA_POSTGRES_IMAGE` names another image.
pub(crate) async fn postgres(options: &PostgresOptions) -> Result<(Container, String)> {
    if matches!(options.profile, Profile::SlowFsync(_)) {
        return Err(no_slow_fsync());
    }
    let mut command = vec!["postgres".to_owned()];
    for (name, value) in postgres::settings(options) {
        command.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    let image = image("INFRA_POSTGRES_IMAGE", "postgres:16-alpine")
        .with_env_var("POSTGRES_HOST_AUTH_METHOD", "trust")
        .with_cmd(command);
    let container = Container::start_new(image, 5432, |host, port| {
        Ready::Postgres(format!("postgres://postgres@{host}:{port}/postgres"))
    })
    .await?;
    let url = container.ready.url().to_owned();
    Ok((container, url))
}

impl Ready {
    fn url(&self) -> &str {
        let (Self::Redis(url) | Self::Postgres(url)) = self;
        url
    }
}

fn image(variable: &str, default: &str) -> ContainerRequest<GenericImage> {
    let named = crate::backing::given(variable).unwrap_or_else(|| default.to_owned());
    let (name, tag) = named.rsplit_once(':').unwrap_or((&named, "latest"));
    GenericImage::new(name, tag).into()
}

fn no_slow_fsync() -> Error {
    let why = "the slow-fsync emulation preloads a library, which needs a local server";
    Error::Unsupported(why.to_owned())
}

fn failed(error: testcontainers::TestcontainersError) -> Error {
    let server = "the container".to_owned();
    let install = "no local program was found either; `cargo x setup` installs one";
    Error::Start { server, why: format!("{error} ({install})"), log: String::new() }
}
