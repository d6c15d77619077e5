//! Real servers, really started, really killed. One binary; each test has its own server unless
//! it says otherwise.

mod cluster;
mod orphans;
mod postgres;
mod redis;
mod resolution;
mod small_disk;
mod victim;

use std::time::{Duration, Instant};

/// Waits until `condition` holds, or panics saying what was awaited.
async fn wait_until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited 20 s for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
