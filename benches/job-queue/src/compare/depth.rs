//! A thousand messages wait, or a million: what does a lease and its delete cost?

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use job_queue::clock::Clock;
use job_queue::store::memory::Memory;
use job_queue::{Ask, Content, Counts, NewMessage, Queues, Settings};

use crate::questions::id;
use measure::harness::{Saturated, Saturation};
use measure::{Bench, LoopSubject, Role, Scenario};

const SHALLOW: usize = 1_000;
const DEEP: usize = 1_000_000;
const GROUPS: usize = 1_000;

pub(super) async fn compare(bench: &Bench) -> anyhow::Result<()> {
    let deep = bench.pick(DEEP / 10, DEEP, DEEP);
    let subjects = vec![
        subject("standard, a thousand", Shape { depth: SHALLOW, groups: 0, blocked: 0 }),
        subject("standard, a million", Shape { depth: deep, groups: 0, blocked: 0 }),
        subject("fifo, a thousand", Shape { depth: SHALLOW, groups: GROUPS, blocked: 0 }),
        subject("fifo, a million", Shape { depth: deep, groups: GROUPS, blocked: 0 }),
        subject(
            "fifo, a million, 100k groups blocked",
            Shape { depth: deep, groups: GROUPS, blocked: deep / 10 },
        ),
    ];
    let about = "in process, one thread: lease one message and delete it; a million in the queue \
                 or a thousand, and nothing sent meanwhile";
    let scenario = Scenario::new("depth", about, "standard, a thousand");
    let scenario = Scenario { rounds: Some(bench.pick(1, 3, 8)), ..scenario };
    let slice = Duration::from_millis(bench.pick(10, 20, 20));
    bench
        .in_process(scenario, Saturation { slices: 5, slice, ..Saturation::default() }, subjects)
        .await
}

#[derive(Clone, Copy)]
struct Shape {
    depth: usize,
    /// 0: a standard queue.
    groups: usize,
    /// More groups, each with one message in flight and one behind it.
    blocked: usize,
}

struct Filled {
    store: Memory,
    shape: Shape,
    before: Counts,
}

fn now<T>(ready: impl Future<Output = Result<T, job_queue::Error>>) -> T {
    ready.now_or_never().expect("memory never waits").expect("a queue that was made")
}

fn subject(name: &'static str, shape: Shape) -> LoopSubject {
    let worker = |filled: Arc<Filled>, _| {
        let queue = id(filled.shape.name());
        let mut batch = Vec::new();
        let mut sent = filled.shape.depth;
        move |_| {
            if batch.is_empty() {
                batch = now(filled.store.receive(&queue, Ask::now(10)));
                if batch.is_empty() {
                    // The shallow queue is filled again, as often as it takes.
                    for _ in 0..SHALLOW / 10 {
                        let new = (0..10).map(|n| filled.shape.message(sent + n)).collect();
                        now(filled.store.send(&queue, new));
                        sent += 10;
                    }
                    batch = now(filled.store.receive(&queue, Ask::now(10)));
                }
            }
            let lease = batch.pop().expect("the queue is never empty");
            now(filled.store.delete(&queue, vec![lease.receipt]))
        }
    };
    let check = |filled: &Filled, measured: &Saturated| {
        let counts = now(filled.store.counts(&id(filled.shape.name())));
        let blocked = filled.before.in_flight;
        // A batch is received at once and deleted one by one.
        let kept = counts.in_flight >= blocked && counts.in_flight <= blocked + 10;
        let gone = filled.before.ready.saturating_sub(counts.ready) as u64;
        match kept && (filled.shape.depth == SHALLOW || gone >= measured.calls) {
            true => Ok(()),
            false => {
                Err(format!("{counts:?} after {} deletes of {:?}", measured.calls, filled.before))
            }
        }
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
        let (store, queue) = (Memory::new(Clock::system()), id(shape.name()));
        let settings = if shape.groups > 0 { Settings::fifo() } else { Settings::standard() };
        let lease_ms = 3_600_000;
        now(store.create(&queue, Settings { visibility_timeout_ms: lease_ms, ..settings }));
        for group in 0..shape.blocked {
            for n in 0..2 {
                let mut content = Content::text("x".repeat(100));
                content.group = Some(format!("blocked-{group}").into());
                content.dedup_id = Some(format!("{group}/{n}"));
                now(store.send(&queue, vec![NewMessage::new(content)]));
            }
            now(store.receive(&queue, Ask::now(1)));
        }
        for n in 0..shape.depth / 10 {
            let new = (0..10).map(|m| shape.message(10 * n + m)).collect();
            now(store.send(&queue, new));
        }
        let before = now(store.counts(&queue));
        Self { store, shape, before }
    }
}
