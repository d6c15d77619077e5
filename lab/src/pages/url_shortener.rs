//! The page of the URL shortener: the service itself, open to everybody on this machine.

use std::sync::Arc;

use anyhow::Context;
use rate_limiter::{AlgorithmName, Policy};
use service::{Readiness, TrustedProxies};
use url_shortener::http::{self, Api, ApiOptions};
use url_shortener::shortener::{Options, Shortener};
use url_shortener::store::sqlite::Sqlite;
use url_shortener::target_url::UrlPolicy;

use super::{Lab, Page};

/// The service on a SQLite file that goes when the lab stops.
pub(super) async fn page(lab: &Lab) -> anyhow::Result<Page> {
    let directory = tempfile::tempdir().context("a directory for the links")?;
    let store = Arc::new(Sqlite::open(&directory.path().join("links.db"))?);
    let own_host = lab.address.ip().to_string();
    let options = Options { policy: UrlPolicy::new([own_host.as_str()])?, ..Options::default() };
    let shortener = Shortener::start(store, options).await?;
    // Registered first, so that it runs last: after the clicks that are still to be written.
    lab.shutdown.on_drained("url-shortener", async move { drop(directory) });
    shortener.run(&lab.shutdown);
    let bucket = AlgorithmName::TokenBucket;
    let api = Api::new(
        shortener,
        ApiOptions {
            base_url: format!("http://{}/url-shortener", lab.address),
            open: true,
            per_key: Policy::single("per-key", bucket, 100, 1_000, Some(1_000))?,
            unknown_codes: Policy::single("unknown-codes", bucket, 60, 60_000, None)?,
            proxies: TrustedProxies::default(),
        },
    );
    let router = http::router(&api, Readiness::new(&lab.shutdown));
    let question = "Short links that resolve in microseconds, cannot be guessed, never collide, \
                    and survive one of them becoming famous.";
    Ok(Page::new("url-shortener", "URL shortener", question)
        .stored_on("a SQLite file that goes when the lab stops")
        .serving(router))
}
