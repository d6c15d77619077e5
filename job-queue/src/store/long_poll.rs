//! Waiting for a message without asking again and again.
//!
//! A consumer that finds nothing joins the queue's line and is woken when a message becomes ready:
//! one consumer for each message, in the order they came. Delays and leases end by themselves, so
//! each queue that has any gets *one* task that sleeps until the next of them ends.
//!
//! Trap: the consumer must stand in line *before* it looks. Between looking and lining up, a
//! message could arrive and wake nobody.

use std::sync::{Arc, Weak};

use crate::clock::Clock;
use crate::engine::Slot;
use crate::message::Delivery;
use crate::queue::{Ask, Error};

/// Looks, and waits until something is found, the queue is removed or `ask.wait_ms` has passed.
///
/// A consumer that goes away while it waits (its connection closed, so this future is dropped)
/// leaves the line, and hands on a wake-up it did not use.
pub(super) async fn receive<L>(
    slot: &Slot,
    ask: &Ask,
    clock: &Clock,
    mut look: impl FnMut() -> L,
) -> Result<Vec<Delivery>, Error>
where
    L: Future<Output = Result<Vec<Delivery>, Error>>,
{
    let wait_ms = ask.wait_ms.unwrap_or_else(|| slot.with(|it| it.settings().wait_ms));
    if wait_ms == 0 {
        return look().await;
    }
    let deadline_ms = clock.now_ms() + wait_ms;
    let deadline = clock.sleep_until(Some(deadline_ms));
    tokio::pin!(deadline);
    loop {
        let ready = slot.ready.notified();
        tokio::pin!(ready);
        ready.as_mut().enable();
        let found = look().await?;
        if !found.is_empty() {
            return Ok(found);
        }
        tokio::select! {
            () = ready => {}
            () = &mut deadline => return look().await,
        }
        if slot.is_removed() {
            return Err(Error::NoSuchQueue);
        }
    }
}

/// Wakes consumers when delays and leases end, for as long as the queue exists.
pub(super) fn watch(slot: &Arc<Slot>, clock: Clock) {
    let weak = Arc::downgrade(slot);
    tokio::spawn(async move { wake_when_due(weak, clock).await });
}

async fn wake_when_due(weak: Weak<Slot>, clock: Clock) {
    loop {
        let Some(slot) = weak.upgrade().filter(|slot| !slot.is_removed()) else { return };
        let now_ms = clock.now_ms();
        // Nothing is journalled by the end of a delay or a lease; expiry is left to consumers.
        let due_ms = slot.with(|state| {
            state.end_what_is_due(now_ms);
            state.next_due_ms()
        });
        tokio::select! {
            () = clock.sleep_until(due_ms) => {}
            () = slot.due_changed.notified() => {}
        }
    }
}
