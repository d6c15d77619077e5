//! A thousand messages wait, or a million: what does a lease and its delete cost?

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use job_queue::clock::Clock;
use job_queue::store::memory::Memory;
use job_queue::{Ask, Content, NewMessage, Queues, Settings};

use crate::questions::id;
use measure::harness::{Saturated, Saturation};
use measure::{Bench, LoopSubject, Role, Scenario};

const SHALLOW: usize = 1_000;
const DEEP: usize = 1_000_000;
const GROUPS: usize = 1_000;

pub(super) async fn compare(bench: &Bench) -> anyhow::Result<()> {
    let deep = bench.pick(DEEP / 4, DEEP, DEEP);
    let shallow = Shape { queues: deep / SHALLOW, depth: SHALLOW, groups: 0, blocked: 0 };
    let deep = Shape { queues: 1, depth: deep, ..shallow };
    let blocked = deep.depth / 10;
    let subjects = vec![
        subject("standard, a thousand", shallow),
        subject("standard, a million", deep),
        subject("fifo, a thousand", Shape { groups: GROUPS, ..shallow }),
        subject("fifo, a million", Shape { groups: GROUPS, ..deep }),
        subject("fifo, a million, 100k groups blocked", Shape { groups: GROUPS, blocked, ..deep }),
    ];
    let about = "in process, one thread: lease one message (ten at a time) and delete it; a million \
                 messages in one queue, or in a thousand queues of a thousand, which are emptied one \
                 after the other; nothing is sent meanwhile";
    let scenario = Scenario::new("depth", about, "standard, a thousand");
    let scenario = Scenario { rounds: Some(bench.pick(1, 5, 8)), ..scenario };
    let slice = Duration::from_millis(bench.pick(10, 20, 20));
    bench
        .in_process(scenario, Saturation { slices: 5, slice, ..Saturation::default() }, subjects)
        .await
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Each in a store of its own, so that finding it costs the same.
    queues: usize,
    depth: usize,
    /// 0: a standard queue.
    groups: usize,
    /// More groups, each with one message in flight and one behind it.
    blocked: usize,
}

struct Filled {
    stores: Vec<Memory>,
    shape: Shape,
}

fn now<T>(ready: impl Future<Output = Result<T, job_queue::Error>>) -> T {
    ready.now_or_never().expect("memory never waits").expect("a queue that was made")
}

fn subject(name: &'static str, shape: Shape) -> LoopSubject {
    let worker = |filled: Arc<Filled>, _| {
        let queue = id(filled.shape.name());
        let (mut batch, mut at) = (Vec::new(), 0);
        move |_| {
            while batch.is_empty() {
                let store = filled.stores.get(at).expect("more than can be taken in the time");
                batch = now(store.receive(&queue, Ask::now(10)));
                at += usize::from(batch.is_empty());
            }
            let lease = batch.pop().expect("it was filled above");
            now(filled.stores[at].delete(&queue, vec![lease.receipt]))
        }
    };
    let check = move |filled: &Filled, measured: &Saturated| {
        let counts = filled.stores.iter().map(|it| now(it.counts(&id(shape.name()))));
        let (ready, held) =
            counts.fold((0, 0), |(ready, held), it| (ready + it.ready, held + it.in_flight));
        let gone = (shape.queues * shape.depth + shape.blocked).saturating_sub(ready);
        // A batch is received at once and deleted one by one; the warm-up is not counted.
        let held_by_us = held.saturating_sub(shape.blocked);
        let adds_up = held_by_us <= 10 && gone >= held_by_us + measured.calls as usize;
        adds_up.then_some(()).ok_or_else(|| format!("{ready} ready and {held} held in {shape:?}"))
    };
    LoopSubject::new(name, Role::Answer, move || Filled::new(shape), worker, check)
}

impl Shape {
    fn name(self) -> &'static str {
        if self.groups > 0 { "depth.fifo" } else { "depth" }
    }

    fn message(self, n: usize) -> NewMessage {
        let mut content = Content::text("x".repeat(100));
        if self.groups > 0 {
            content.group = Some((n / 10 % self.groups).to_string().into());
            content.dedup_id = Some(n.to_string());
        }
        NewMessage::new(content)
    }
}

impl Filled {
    fn new(shape: Shape) -> Self {
        Self { stores: (0..shape.queues).map(|_| shape.filled()).collect(), shape }
    }
}

impl Shape {
    fn filled(self) -> Memory {
        let (store, queue) = (Memory::new(Clock::system()), id(self.name()));
        let settings = if self.groups > 0 { Settings::fifo() } else { Settings::standard() };
        let lease_ms = 3_600_000;
        now(store.create(&queue, Settings { visibility_timeout_ms: lease_ms, ..settings }));
        for group in 0..self.blocked {
            for n in 0..2 {
                let mut content = Content::text("x".repeat(100));
                content.group = Some(format!("blocked-{group}").into());
                content.dedup_id = Some(format!("{group}/{n}"));
                now(store.send(&queue, vec![NewMessage::new(content)]));
            }
            now(store.receive(&queue, Ask::now(1)));
        }
        for n in 0..self.depth / 10 {
            let new = (0..10).map(|m| self.message(10 * n + m)).collect();
            now(store.send(&queue, new));
        }
        store
    }
}
