//! Where a running server came from, and what may therefore be done to it.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::process::Server;

/// The three sources of a server.
pub(crate) enum Backing {
    /// A URL from the environment: use it, leave it alone.
    Given,
    /// A local server that other test processes use at this moment.
    Shared,
    /// A child process of ours.
    Local(Arc<Server>),
    /// A container of ours.
    #[cfg(feature = "containers")]
    Container(Box<crate::container::Container>),
}

impl Backing {
    pub(crate) async fn kill9(&self, server: &'static str) -> Result<()> {
        match self {
            Self::Local(local) => blocking(local, Server::kill9).await,
            #[cfg(feature = "containers")]
            Self::Container(container) => container.kill9().await,
            Self::Given | Self::Shared => Err(self.not_ours(server, "kill")),
        }
    }

    pub(crate) async fn pause(&self, server: &'static str) -> Result<()> {
        match self {
            Self::Local(local) => blocking(local, Server::pause).await,
            #[cfg(feature = "containers")]
            Self::Container(container) => container.pause().await,
            Self::Given | Self::Shared => Err(self.not_ours(server, "pause")),
        }
    }

    pub(crate) async fn resume(&self, server: &'static str) -> Result<()> {
        match self {
            Self::Local(local) => blocking(local, Server::resume).await,
            #[cfg(feature = "containers")]
            Self::Container(container) => container.resume().await,
            Self::Given | Self::Shared => Err(self.not_ours(server, "resume")),
        }
    }

    pub(crate) async fn stop(&self, server: &'static str) -> Result<()> {
        match self {
            Self::Local(local) => blocking(local, Server::stop).await,
            #[cfg(feature = "containers")]
            Self::Container(container) => container.stop().await,
            Self::Given | Self::Shared => Err(self.not_ours(server, "stop")),
        }
    }

    pub(crate) async fn restart(&self, server: &'static str) -> Result<()> {
        match self {
            Self::Local(local) => blocking(local, Server::restart).await,
            #[cfg(feature = "containers")]
            Self::Container(container) => container.restart().await,
            Self::Given | Self::Shared => Err(self.not_ours(server, "restart")),
        }
    }

    fn not_ours(&self, server: &'static str, action: &'static str) -> Error {
        let why = match self {
            Self::Shared => "other tests use it; ask for a private one with postgres_with(..)",
            _ => "it was given by URL; unset the variable to get a private one",
        };
        Error::NotOurs { server, action, why }
    }
}

async fn blocking(server: &Arc<Server>, action: fn(&Server) -> Result<()>) -> Result<()> {
    let server = Arc::clone(server);
    off_the_runtime(move || action(&server)).await
}

/// Runs blocking work off the async workers. Besides sparing them, this keeps tests with paused
/// time honest: tokio does not skip ahead while a blocking task runs, so a start that takes 30 ms
/// of real time is not cut short by a virtual timeout.
pub(crate) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) => match failure.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Unsupported("the async runtime is shutting down".to_owned())),
        },
    }
}

/// True when the user asked for containers before local programs.
pub(crate) fn containers_first() -> bool {
    std::env::var("INFRA_PREFER").is_ok_and(|preferred| preferred == "container")
}

/// A non-empty environment variable.
pub(crate) fn given(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}
