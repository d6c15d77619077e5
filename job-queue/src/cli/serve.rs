//! `serve`: settings, then the answer, then the service.

use anyhow::{Context, Result};
use clap::Args;
use job_queue::clock::Clock;
use job_queue::http::{self, Metered};
use job_queue::sqs::ACCOUNT_DEFAULT;
use job_queue::store::memory::Memory;
use job_queue::store::postgres::Postgres;
use job_queue::store::redis::Redis;
use job_queue::store::sqlite::Sqlite;
use service::{ServerSettings, StoreUrl};

/// Where clients of SQS-compatible servers look first.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:9324";

#[derive(Args)]
#[command(mut_arg("listen", |arg| arg.default_value(LISTEN_DEFAULT)))]
pub(crate) struct Serve {
    #[command(flatten)]
    server: ServerSettings,
    /// memory: | sqlite:PATH | postgres://... | redis://...
    #[arg(long, env = "SERVICE_STORE", default_value = "sqlite:job-queue.db", value_name = "URL")]
    store: StoreUrl,
    /// The account in queue addresses and ARNs
    #[arg(long, env = "JOB_QUEUE_ACCOUNT_ID", default_value = ACCOUNT_DEFAULT,
          value_parser = account_id)]
    account_id: String,
}

fn account_id(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    Err("must be 12 digits".to_owned())
}

impl Serve {
    pub(crate) async fn run(self) -> Result<()> {
        service::telemetry::init(&self.server);
        match &self.store {
            StoreUrl::Memory => self.serve(Memory::new(Clock::system())).await,
            StoreUrl::Sqlite(path) => {
                let queues = Sqlite::open(path, Clock::system()).await;
                let queues = queues.with_context(|| self.store.unusable())?;
                self.serve(queues.clone()).await?;
                queues.close().await;
                Ok(())
            }
            StoreUrl::Postgres(url) => {
                let queues = Postgres::connect(url, Clock::system()).await;
                self.serve(queues.with_context(|| self.store.unusable())?).await
            }
            StoreUrl::Redis(url) => {
                let queues = Redis::connect(url, Clock::system()).await;
                self.serve(queues.with_context(|| self.store.unusable())?).await
            }
            other => {
                let supported = ["memory:", "sqlite:PATH", "postgres://...", "redis://..."];
                Err(other.unsupported(&supported).into())
            }
        }
    }

    async fn serve<Q: Metered>(&self, queues: Q) -> Result<()> {
        let shutdown = self.server.shutdown()?;
        let router = http::router(queues, &self.account_id, &shutdown);
        let router = service::harden(router, http::limits(self.server.limits()));
        let listener = service::bind(self.server.listen).await?;
        let address = listener.local_addr().context("the listener's address")?;
        tracing::info!(%address, store = %self.store, "serving Amazon SQS");
        let limits = self.server.connection_limits();
        service::serve_with(listener, router, shutdown, limits).await;
        Ok(())
    }
}
