//! What must hold inside the state after every step of a random history, and the news it tells.

use proptest::prelude::*;

use super::*;
use crate::limits::seconds;

impl QueueState {
    /// Panics unless every message is in exactly the structures it belongs in.
    fn check(&self) {
        let (mut in_flight, mut delayed, mut bytes) = (0, 0, 0);
        for Kept { message, lane, bytes: counted } in self.messages.values() {
            let seq = &message.seq;
            let position = Position { sent_at_ms: message.sent_at_ms, seq: *seq };
            assert!(self.by_age.contains(&position), "{seq:?} is not in by_age");
            let is_ready = self.lanes.has(*lane, *seq);
            let due = match message.phase {
                Phase::Ready => None,
                Phase::Delayed { until_ms } => {
                    delayed += 1;
                    Some(until_ms)
                }
                Phase::Leased { until_ms, .. } => {
                    in_flight += 1;
                    Some(until_ms)
                }
            };
            assert_eq!(is_ready, due.is_none(), "{seq:?} is {:?}", message.phase);
            let is_due = due.is_some_and(|until_ms| self.due.contains(&(until_ms, *seq)));
            assert_eq!(is_due, due.is_some(), "{seq:?} is {:?}", message.phase);
            assert_eq!(*counted as usize, message.content.bytes());
            bytes += message.content.bytes();
        }
        assert_eq!(self.by_age.len(), self.messages.len());
        assert_eq!(self.due.len(), in_flight + delayed);
        assert_eq!((self.in_flight, self.delayed, self.bytes), (in_flight, delayed, bytes));
        self.lanes.check();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send { group: u8, dedup: u8, delay_ms: u64 },
    Receive { max: usize },
    Delete { which: usize },
    Hide { which: usize, ms: u64 },
    Pass { ms: u64 },
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, any::<u8>(), prop_oneof![Just(0), 1..5_000_u64])
            .prop_map(|(group, dedup, delay_ms)| Step::Send { group, dedup, delay_ms }),
        (1..10_usize).prop_map(|max| Step::Receive { max }),
        any::<usize>().prop_map(|which| Step::Delete { which }),
        (any::<usize>(), 0..60_000_u64).prop_map(|(which, ms)| Step::Hide { which, ms }),
        (0..70_000_u64).prop_map(|ms| Step::Pass { ms }),
        Just(Step::Take),
    ]
}

fn message(group: u8, dedup: u8, delay_ms: u64) -> NewMessage {
    let content = Content {
        group: Some(group.to_string().into()),
        dedup_id: Some(dedup.to_string()),
        ..Content::text("x")
    };
    NewMessage { delay_ms: Some(delay_ms), ..NewMessage::new(content) }
}

proptest! {
    #[test]
    fn the_structures_agree_after_every_step_and_so_does_what_is_restored(
        is_fifo in any::<bool>(), steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut settings = if is_fifo { Settings::fifo() } else { Settings::standard() };
        settings.retention_ms = seconds(120);
        let mut state = QueueState::new(1, settings.clone());
        let (mut now_ms, mut receipts) = (1_000, vec![]);
        for (n, step) in steps.into_iter().enumerate() {
            let journal = &mut Unrecorded;
            match step {
                Step::Send { group, dedup, delay_ms } => {
                    let new = message(group, dedup, delay_ms);
                    state.send(Seq(n as u64 + 1), new, now_ms, journal).unwrap();
                }
                Step::Receive { max } => {
                    let received = state.receive(&Ask::now(max), false, now_ms, journal).unwrap();
                    receipts.extend(received.deliveries.iter().map(|it| it.receipt));
                }
                Step::Delete { which } if !receipts.is_empty() => {
                    let _ = state.delete(receipts[which % receipts.len()], now_ms, journal);
                }
                Step::Hide { which, ms } if !receipts.is_empty() => {
                    let receipt = receipts[which % receipts.len()];
                    let _ = state.change_visibility(receipt, ms, now_ms, journal);
                }
                Step::Pass { ms } => now_ms += ms,
                Step::Take => drop(state.take_ready(now_ms, journal)),
                Step::Delete { .. } | Step::Hide { .. } => {}
            }
            state.check();
        }
        // A restart: the same messages, put back one by one.
        let mut restored = QueueState::new(1, settings);
        for kept in state.messages.values() {
            restored.restore(kept.message.clone());
        }
        restored.check();
        prop_assert_eq!(restored.counts_at(now_ms), state.counts_at(now_ms));
    }
}

/// Found by a worker's test: a lease that ended was noticed by somebody's delete, which told
/// nobody, and a waiting consumer slept on.
#[test]
fn whoever_notices_that_a_lease_is_over_has_news_for_the_consumers() {
    let journal = &mut Unrecorded;
    let mut state = QueueState::new(1, Settings::standard());
    for n in 1..=3 {
        state.send(Seq(n), NewMessage::new(Content::text("x")), 0, journal).unwrap();
    }
    assert_eq!(state.take_news(), 3);
    let held = state.receive(&Ask::now(3), false, 0, journal).unwrap().deliveries;
    assert_eq!(state.take_news(), 0);
    state.delete(held[0].receipt, seconds(30), journal).unwrap();
    assert_eq!(state.take_news(), 3, "all three leases were over when the delete looked");
}

#[test]
fn a_group_that_opens_is_news_for_one_consumer() {
    let journal = &mut Unrecorded;
    let mut state = QueueState::new(1, Settings::fifo());
    for n in 1..=5 {
        state.send(Seq(n), message(0, n as u8, 0), 0, journal).unwrap();
    }
    assert_eq!(state.take_news(), 1, "one group, one consumer");
    let held = state.receive(&Ask::now(1), false, 0, journal).unwrap().deliveries;
    assert_eq!(state.take_news(), 0);
    state.delete(held[0].receipt, 1, journal).unwrap();
    assert_eq!(state.take_news(), 1);
}
