//! One request of the page's traffic: which caller, how it ended, and now and then a response
//! kept to be shown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use benches::harness::{Keys, Outcome, Shot};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::settings::Settings;
use crate::exchange::Answer;
use crate::traffic::{Loopback, Traffic};

const PATH: &str = "/rate-limiter/v1/check";
/// How often a response is kept to be shown: a person cannot read faster.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// Sends requests and keeps a response of each verdict.
#[derive(Clone)]
pub(super) struct Requests {
    client: Loopback,
    traffic: Traffic,
    shown: Arc<Mutex<[Option<Instant>; 2]>>,
}

impl Requests {
    /// To the lab at `address`.
    pub(super) fn new(address: SocketAddr, traffic: Traffic) -> Self {
        Self { client: Loopback::new(address), traffic, shown: Arc::default() }
    }

    /// The operation that the traffic repeats.
    pub(super) fn op(
        &self,
        settings: &Settings,
        policy: &'static str,
    ) -> impl Fn(Shot) -> BoxFuture<'static, Outcome> + Send + Sync + use<> {
        let callers = u64::from(settings.callers);
        let keys = match callers {
            1 => Keys::uniform(1),
            n => Keys::hot(n, f64::from(settings.hot_percent) / 100.0),
        };
        *self.shown.lock() = [None, None];
        let this = self.clone();
        move |shot| {
            let caller = keys.pick(&mut shot.rng());
            let body = format!(r#"{{"policy":"{policy}","key":"caller-{caller}","cost":1}}"#);
            let this = this.clone();
            Box::pin(async move { this.check(body).await })
        }
    }

    async fn check(self, body: String) -> Outcome {
        let answer = self.client.post(PATH, body.clone()).await?;
        let verdict = verdict(&answer);
        if let Ok(class) = verdict {
            self.show(class.starts_with("allowed"), &body, &answer);
        }
        verdict
    }

    /// Shows a response of this verdict, unless one was shown a moment ago.
    fn show(&self, allowed: bool, body: &str, answer: &Answer) {
        let now = Instant::now();
        let last = &mut self.shown.lock()[usize::from(allowed)];
        if last.is_some_and(|last| now - last < SHOWN_EVERY) {
            return;
        }
        *last = Some(now);
        let headers: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, value)| {
                [name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()]
            })
            .collect();
        let response = json!({
            "request": format!("POST {PATH}\n{body}"),
            "status": answer.status.as_u16(),
            "reason": answer.status.canonical_reason(),
            "headers": headers,
            "body": serde_json::from_slice::<Value>(&answer.body).ok(),
        });
        self.traffic.note(if allowed { "allowed" } else { "denied" }, response);
    }
}

/// The part of the answer that says who decided.
#[derive(Deserialize)]
struct Decided<'a> {
    source: &'a str,
}

/// `allowed store`, `denied fail-closed`...: the verdict and who gave it. Anything that is no
/// decision is a failure.
fn verdict(answer: &Answer) -> Outcome {
    let decided = serde_json::from_slice::<Decided<'_>>(&answer.body);
    let source = decided.map(|decided| decided.source).unwrap_or_default();
    match (answer.status, source) {
        (StatusCode::OK, "store") => Ok("allowed store"),
        (StatusCode::OK, "fail-open") => Ok("allowed fail-open"),
        (StatusCode::OK, "local-share") => Ok("allowed local-share"),
        (StatusCode::TOO_MANY_REQUESTS, "store") => Ok("denied store"),
        (StatusCode::TOO_MANY_REQUESTS, "local-share") => Ok("denied local-share"),
        (StatusCode::SERVICE_UNAVAILABLE, "fail-closed") => Ok("denied fail-closed"),
        (StatusCode::SERVICE_UNAVAILABLE, _) => Err("overloaded"),
        (status, _) if status.is_server_error() => Err("server error"),
        _ => Err("refused"),
    }
}
