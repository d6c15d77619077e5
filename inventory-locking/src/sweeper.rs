//! Housekeeping: gives back overdue holds before anybody has to do it on the way to buying.
//!
//! Nothing depends on it (see [`Inventory::expire_due`]); it keeps the audit's `overdue` small
//! and the slow path of a refusal short.

use std::sync::Arc;
use std::time::Duration;

use crate::inventory::Inventory;

/// How often it looks.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// How many holds one transaction gives back, so that it never keeps a hot row for long.
pub const BATCH: u32 = 200;

/// Sweeps until dropped.
pub async fn run<I: Inventory>(inventory: Arc<I>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        loop {
            match inventory.expire_due(BATCH).await {
                Ok(0) => break,
                Ok(released) => metrics::counter!("inventory_expired_total").increment(released),
                Err(error) => {
                    tracing::warn!(%error, "sweeping failed; trying again later");
                    break;
                }
            }
        }
    }
}
