//! A worker's whole life, on a store in the same process.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use job_queue::clock::Clock;
use job_queue::message::Position;
use job_queue::store::memory::Memory;
use job_queue::worker::lanes::Lane;
use job_queue::worker::{
    Backoff, Context, Direct, Event, Failure, Handler, Jitter, Policy, Recurring, Worker,
    WorkerSettings, enqueue, recur,
};
use job_queue::{QueueId, Queues, Settings};
use serde::{Deserialize, Serialize};
use testkit::wait_until;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a job of the test does.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
enum Task {
    Succeed,
    FailTimes(u32),
    Panic,
    Refuse,
    Hang,
    Sleep(u64),
}

#[derive(Clone)]
struct Tasks {
    runs: Arc<AtomicU32>,
    finished: Arc<AtomicU32>,
    time_max: Duration,
}

impl Handler for Tasks {
    type Job = Task;
    const JOB: &'static str = "task";

    fn policy(&self) -> Policy {
        let (base, cap) = (Duration::from_millis(5), Duration::from_millis(20));
        let backoff = Backoff { base, cap, jitter: Jitter::Full };
        Policy { time_max: self.time_max, attempts_max: 3, backoff }
    }

    async fn run(&self, task: Task, context: Context) -> Result<(), Failure> {
        self.runs.fetch_add(1, SeqCst);
        match task {
            Task::Succeed => {}
            Task::FailTimes(times) if context.receives <= times => {
                return Err(Failure::Retry(format!("failure {}", context.receives)));
            }
            Task::FailTimes(_) => {}
            Task::Panic => panic!("a bug in the handler"),
            Task::Refuse => return Err(Failure::Permanent("not a picture".to_owned())),
            Task::Hang => std::future::pending().await,
            Task::Sleep(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
        self.finished.fetch_add(1, SeqCst);
        Ok(())
    }
}

struct Scene {
    store: Memory,
    source: Direct<Memory>,
    tasks: Tasks,
    events: Arc<Mutex<Vec<Event>>>,
    stop: CancellationToken,
    settings: WorkerSettings,
}

impl Scene {
    async fn new() -> Self {
        let store = Memory::new(Clock::system());
        for queue in ["work", "low", "dead"] {
            store.create(&QueueId::new("r", queue), Settings::standard()).await.unwrap();
        }
        let settings = WorkerSettings {
            dead_letters: Some("dead".to_owned()),
            visibility: Duration::from_millis(300),
            drain: Duration::from_millis(300),
            ..WorkerSettings::of("work")
        };
        Self {
            source: Direct::new(store.clone(), "r", Clock::system()),
            store,
            tasks: Tasks { runs: Arc::default(), finished: Arc::default(), time_max: PATIENCE },
            events: Arc::default(),
            stop: CancellationToken::new(),
            settings,
        }
    }

    async fn enqueue(&self, queue: &str, task: &Task) {
        enqueue::<Tasks, _>(&self.source, queue, task, Duration::ZERO).await.unwrap();
    }

    fn worker(&self) -> Worker<Direct<Memory>> {
        let events = Arc::clone(&self.events);
        Worker::new(self.source.clone(), self.settings.clone())
            .handle(self.tasks.clone())
            .observe(move |_, event| events.lock().unwrap().push(event.clone()))
    }

    fn start(&self) -> tokio::task::JoinHandle<()> {
        let (worker, stop) = (self.worker(), self.stop.clone());
        tokio::spawn(async move { worker.run(stop).await })
    }

    async fn left(&self, queue: &str) -> usize {
        let counts = self.store.counts(&QueueId::new("r", queue)).await.unwrap();
        counts.ready + counts.in_flight + counts.delayed
    }

    async fn reasons(&self) -> Vec<String> {
        let dead = QueueId::new("r", "dead");
        let letters = self.store.peek(&dead, Position::default(), 100).await.unwrap();
        let reason =
            |it: &job_queue::Peeked| format!("{:?}", it.content.attributes["reason"].value);
        letters.iter().map(reason).collect()
    }

    async fn wait_until_empty(&self) {
        wait_until("the queue is empty", PATIENCE, || async { self.left("work").await == 0 }).await;
    }
}

#[tokio::test]
async fn jobs_end_done_retried_or_given_up_with_their_reason() {
    let scene = Scene::new().await;
    for task in [Task::Succeed, Task::FailTimes(2), Task::FailTimes(9), Task::Refuse, Task::Panic] {
        scene.enqueue("work", &task).await;
    }
    let worker = scene.start();
    scene.wait_until_empty().await;
    scene.stop.cancel();
    worker.await.unwrap();
    assert_eq!(scene.tasks.finished.load(SeqCst), 2);
    // 1 + 3 + 3 + 1 + 3: a permanent failure is not tried again.
    assert_eq!(scene.tasks.runs.load(SeqCst), 11);
    let reasons = scene.reasons().await.join("\n");
    for expected in
        ["not a picture", "failure 3 (after 3 attempts)", "panicked: a bug in the handler"]
    {
        assert!(reasons.contains(expected), "{expected:?} is missing in\n{reasons}");
    }
    assert_eq!(scene.left("dead").await, 3);
}

#[tokio::test]
async fn a_job_longer_than_its_lease_runs_once() {
    let scene = Scene::new().await;
    scene.enqueue("work", &Task::Sleep(1_000)).await; // the lease is 300 ms
    let worker = scene.start();
    scene.wait_until_empty().await;
    scene.stop.cancel();
    worker.await.unwrap();
    assert_eq!((scene.tasks.runs.load(SeqCst), scene.tasks.finished.load(SeqCst)), (1, 1));
    assert_eq!(*scene.events.lock().unwrap(), [Event::Done]);
}

/// Several fetches are under way at once and ends are written together: no job is lost between.
#[tokio::test]
async fn a_backlog_is_worked_off_and_every_job_is_done_once() {
    let mut scene = Scene::new().await;
    scene.settings.concurrency = 32;
    for _ in 0..1_000 {
        scene.enqueue("work", &Task::Succeed).await;
    }
    let worker = scene.start();
    scene.wait_until_empty().await;
    scene.stop.cancel();
    worker.await.unwrap();
    assert_eq!(scene.tasks.finished.load(SeqCst), 1_000);
    let events = scene.events.lock().unwrap();
    assert!(events.len() == 1_000 && events.iter().all(|it| *it == Event::Done), "{events:?}");
}

#[tokio::test]
async fn a_job_that_hangs_is_stopped_and_harms_no_other() {
    let mut scene = Scene::new().await;
    scene.tasks.time_max = Duration::from_millis(100);
    scene.enqueue("work", &Task::Hang).await;
    for _ in 0..10 {
        scene.enqueue("work", &Task::Succeed).await;
    }
    let worker = scene.start();
    scene.wait_until_empty().await;
    scene.stop.cancel();
    worker.await.unwrap();
    assert_eq!(scene.tasks.finished.load(SeqCst), 10);
    let reasons = scene.reasons().await;
    assert!(reasons.len() == 1 && reasons[0].contains("no end within 100ms"), "{reasons:?}");
}

#[tokio::test]
async fn stopping_finishes_what_it_can_and_gives_the_rest_back() {
    let scene = Scene::new().await;
    scene.enqueue("work", &Task::Sleep(100)).await;
    scene.enqueue("work", &Task::Sleep(1_400)).await;
    let worker = scene.start();
    wait_until("both run", PATIENCE, || async { scene.tasks.runs.load(SeqCst) == 2 }).await;
    scene.stop.cancel();
    worker.await.unwrap();
    assert_eq!(scene.tasks.finished.load(SeqCst), 1);
    let counts = scene.store.counts(&QueueId::new("r", "work")).await.unwrap();
    assert_eq!(
        (counts.ready, counts.in_flight),
        (1, 0),
        "given back at once, not at its lease's end"
    );
    let events = scene.events.lock().unwrap().clone();
    assert!(events.contains(&Event::Done) && events.contains(&Event::Released), "{events:?}");
}

#[tokio::test]
async fn what_nobody_can_read_or_do_is_given_up_at_once() {
    use job_queue::worker::{Outgoing, Source};
    let scene = Scene::new().await;
    let message = |job: &str, body: &str| Outgoing {
        body: body.to_owned(),
        attributes: [("job".to_owned(), job.to_owned())].into(),
        ..Outgoing::default()
    };
    scene.source.send("work", message("task", "{")).await.unwrap();
    scene.source.send("work", message("unknown", "{}")).await.unwrap();
    let worker = scene.start();
    scene.wait_until_empty().await;
    scene.stop.cancel();
    worker.await.unwrap();
    let reasons = scene.reasons().await.join("\n");
    assert!(reasons.contains("unreadable") && reasons.contains("no handler"), "{reasons}");
}

#[tokio::test]
async fn the_low_lane_is_served_while_the_high_lane_is_never_empty() {
    let mut scene = Scene::new().await;
    let lane = |queue: &str, weight| Lane { queue: queue.to_owned(), weight };
    scene.settings.lanes = vec![lane("work", 1_000), lane("low", 1)];
    scene.settings.aging = Duration::from_millis(100);
    scene.settings.concurrency = 1;
    for _ in 0..400 {
        scene.enqueue("work", &Task::Sleep(2)).await;
    }
    scene.enqueue("low", &Task::Succeed).await;
    let worker = scene.start();
    wait_until("the low lane is served", PATIENCE, || async { scene.left("low").await == 0 }).await;
    let left = scene.left("work").await;
    scene.stop.cancel();
    worker.await.unwrap();
    assert!(left > 100, "served while the high lane had {left} waiting");
}

#[tokio::test]
async fn workers_follow_the_backlog() {
    use job_queue::worker::autoscale::Aim;
    let mut scene = Scene::new().await;
    scene.settings.concurrency = 1;
    for _ in 0..300 {
        scene.enqueue("work", &Task::Sleep(20)).await;
    }
    let worker = scene.worker();
    let aim = Aim { workers_min: 1, workers_max: 16, drain_ms: 500, patience: 2 };
    let (running, scaling, stop) = (worker.clone(), worker.clone(), scene.stop.clone());
    let run = tokio::spawn(async move { running.run(stop).await });
    let stop = scene.stop.clone();
    let scale = tokio::spawn(async move {
        scaling.autoscale(aim, Duration::from_millis(20), stop).await;
    });
    wait_until("many run at once", PATIENCE, || async { worker.running() >= 8 }).await;
    scene.wait_until_empty().await;
    scene.stop.cancel();
    run.await.unwrap();
    scale.await.unwrap();
    assert_eq!(scene.tasks.finished.load(SeqCst), 300);
}

/// Two schedulers send every tick of one job; one starts late, one dies. Each tick is one message.
#[tokio::test]
async fn a_recurring_job_comes_once_a_tick_whoever_schedules_it() {
    let clock = Clock::manual(1_790_000_000_000);
    let queues = Memory::new(clock.clone());
    let queue = QueueId::new("r", "reports.fifo");
    queues.create(&queue, Settings::fifo()).await.unwrap();
    let source = Direct::new(queues.clone(), "r", clock.clone());
    let schedule = |stop: &CancellationToken| {
        let (source, clock, stop) = (source.clone(), clock.clone(), stop.clone());
        let report = Recurring {
            name: "report".to_owned(),
            every_ms: 60_000,
            job: "task".to_owned(),
            body: "\"Succeed\"".to_owned(),
        };
        tokio::spawn(async move { recur(&source, "reports.fifo", &[report], &clock, stop).await })
    };
    let sent = || async {
        let there = queues.peek(&queue, Position::default(), 100).await.unwrap();
        let ticks: std::collections::BTreeSet<_> =
            there.iter().map(|it| it.content.dedup_id.clone().unwrap()).collect();
        assert_eq!(ticks.len(), there.len(), "a tick came twice");
        ticks.len()
    };
    let [first_stop, second_stop] = [(); 2].map(|()| CancellationToken::new());
    let first = schedule(&first_stop);
    // The ticks of the last two and a half minutes, in case nobody was there.
    wait_until("a scheduler that starts catches up", PATIENCE, || async { sent().await == 3 })
        .await;
    let second = schedule(&second_stop);
    for ticks in 4..=6 {
        clock.advance_ms(60_000);
        wait_until("the next tick", PATIENCE, || async { sent().await >= ticks }).await;
    }
    first_stop.cancel();
    first.await.unwrap();
    clock.advance_ms(60_000);
    wait_until("the other one goes on", PATIENCE, || async { sent().await >= 7 }).await;
    assert_eq!(sent().await, 7);
    second_stop.cancel();
    second.await.unwrap();
}
