//! What the form says, and one buyer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use benches::harness::{Outcome, Shot};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::Problem;

use crate::traffic::{Loopback, RATE_MAX};

/// What is on sale.
pub(super) const SKU: &str = "ticket";

/// A sale that outlasts the ten minutes of a demonstration teaches nothing more.
const STOCK_MAX: u64 = 10_000_000;

/// The form.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// `memory`, `sqlite/batching`, `postgres/naive`, ...
    pub(super) answer: String,
    pub(super) stock: u64,
    pub(super) buyers_per_s: u32,
}

impl Settings {
    /// # Errors
    /// 422 naming the first field at fault.
    pub(super) fn check(&self) -> Result<(), Problem> {
        if !(1..=STOCK_MAX).contains(&self.stock) {
            return Err(Problem::invalid("/stock", format!("must be 1 to {STOCK_MAX}")));
        }
        if !(1..=RATE_MAX).contains(&self.buyers_per_s) {
            return Err(Problem::invalid("/buyers_per_s", format!("must be 1 to {RATE_MAX}")));
        }
        Ok(())
    }
}

/// The crowd: each buyer wants one, with a key of their own.
#[derive(Clone)]
pub(super) struct Buyers {
    client: Loopback,
    wishes: Arc<AtomicU64>,
}

impl Buyers {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { client: Loopback::new(address), wishes: Arc::default() }
    }

    /// The operation that the traffic repeats.
    pub(super) fn op(&self) -> impl Fn(Shot) -> BoxFuture<'static, Outcome> + Send + Sync + use<> {
        let this = self.clone();
        move |_| {
            let this = this.clone();
            Box::pin(async move { this.buy().await })
        }
    }

    async fn buy(self) -> Outcome {
        let key = format!("buyer-{}", self.wishes.fetch_add(1, Ordering::Relaxed));
        let body = format!(r#"{{"lines":[{{"sku":"{SKU}","quantity":1}}],"ttl_ms":600000}}"#);
        let path = "/inventory-locking/v1/reservations";
        let answer = self.client.post_with(path, &[("idempotency-key", &key)], body).await?;
        let kind = || serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        match answer.status {
            StatusCode::CREATED => Ok("reserved"),
            StatusCode::CONFLICT if kind()["type"] == "urn:problem:sold-out" => Ok("sold out"),
            StatusCode::SERVICE_UNAVAILABLE => Err("busy"),
            status if status.is_server_error() => Err("server error"),
            _ => Err("refused"),
        }
    }
}
