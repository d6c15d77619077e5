//! What a cache that loads on a miss promises.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use testkit::{Promise, Verdict, ensure, eventually, promise};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{
    loading::{Loading, OnError},
    shared::SharedCache,
};

/// What a loader does, boxed so that tests can hand over any.
pub type Load = Pin<Box<dyn Future<Output = Result<u64, String>> + Send>>;

/// The answer under test, for keys and values that are numbers.
pub trait Subject: Send + Sync + 'static {
    /// From the cache, from somebody else's load, or from `load`.
    fn get_or_load(&self, key: u64, load: Load)
    -> impl Future<Output = Result<u64, String>> + Send;
    /// From the cache or not at all.
    fn get(&self, key: u64) -> Option<u64>;
    /// An explicit write.
    fn insert(&self, key: u64, value: u64);
    /// An explicit removal.
    fn invalidate(&self, key: u64);
}

impl<C: SharedCache<u64, u64> + 'static> Subject for Loading<u64, u64, String, C> {
    async fn get_or_load(&self, key: u64, load: Load) -> Result<u64, String> {
        self.get_or_load_async(key, || load).await
    }

    fn get(&self, key: u64) -> Option<u64> {
        self.get(&key)
    }

    fn insert(&self, key: u64, value: u64) {
        self.insert(key, value);
    }

    fn invalidate(&self, key: u64) {
        self.invalidate(&key);
    }
}

/// How the suite reaches the answer under test.
pub trait Fixture: Send + Sync + 'static {
    /// The answer.
    type Subject: Subject;

    /// A fresh one.
    fn subject(&self, on_error: OnError) -> Self::Subject;
}

/// The promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    vec![
        promise!(F, ten_thousand_waiters_cause_one_load, "A cold key is loaded once."),
        promise!(F, a_failed_leader_has_one_successor, "After an error one waiter tries again."),
        promise!(F, a_cancelled_leader_has_one_successor, "So after a cancellation."),
        promise!(F, a_panicked_leader_has_one_successor, "And after a panic."),
        promise!(F, a_promoted_waiter_may_vanish, "Who leaves when it is his turn passes it on."),
        promise!(F, an_error_may_be_everybodys, "If asked, one error serves all who waited."),
        promise!(F, an_error_is_not_cached, "The call after an error loads again."),
        promise!(F, an_insert_during_a_load_wins, "What was loaded does not overwrite it."),
        promise!(F, an_invalidate_during_a_load_wins, "What was loaded before is not cached."),
    ]
}

/// One key, its loads, and the gate at which they wait.
struct Stage<S> {
    subject: Arc<S>,
    loads: Arc<AtomicUsize>,
    called: Arc<AtomicUsize>,
    /// Each permit lets one load finish.
    gate: Arc<Semaphore>,
}

const KEY: u64 = 7;
/// Generous: what is waited for takes a moment, or for ever. A busy machine is slow, not for ever.
const LIMIT: Duration = Duration::from_secs(5);

impl<S: Subject> Stage<S> {
    fn new(subject: S) -> Self {
        Self {
            subject: Arc::new(subject),
            loads: Arc::default(),
            called: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    /// A task that wants the key. Its load waits at the gate and ends with what `end` says to its
    /// number, counted from one.
    fn caller(&self, end: fn(usize) -> Result<u64, String>) -> JoinHandle<Result<u64, String>> {
        let (subject, loads) = (Arc::clone(&self.subject), Arc::clone(&self.loads));
        let (gate, called) = (Arc::clone(&self.gate), Arc::clone(&self.called));
        tokio::spawn(async move {
            called.fetch_add(1, SeqCst);
            let load = async move {
                let number = loads.fetch_add(1, SeqCst) + 1;
                gate.acquire().await.map_err(|closed| closed.to_string())?.forget();
                end(number)
            };
            subject.get_or_load(KEY, Box::pin(load)).await
        })
    }

    /// Returns when this many have called and this many loads have begun.
    async fn reach(&self, called: usize, loads: usize) -> Verdict {
        let what = format!("{called} have called and {loads} load");
        eventually(&what, LIMIT, || async {
            (self.called.load(SeqCst), self.loads.load(SeqCst)) == (called, loads)
        })
        .await
    }

    /// Lets one load finish.
    fn open(&self) {
        self.gate.add_permits(1);
    }
}

/// What a caller got. Not to get anything is a verdict, not a hang.
async fn outcome(caller: JoinHandle<Result<u64, String>>) -> Result<String, testkit::Broken> {
    match tokio::time::timeout(LIMIT, caller).await {
        Ok(Ok(result)) => Ok(format!("{result:?}")),
        Ok(Err(error)) => Ok(if error.is_panic() { "panic" } else { "cancelled" }.into()),
        Err(_) => Err(testkit::Broken::because("a caller waits for ever")),
    }
}

/// Hands the first load to one caller, lets `waiters` more wait for it.
async fn with_waiters<S: Subject>(
    stage: &Stage<S>,
    end: fn(usize) -> Result<u64, String>,
    waiters: usize,
) -> Result<(JoinHandle<Result<u64, String>>, Vec<JoinHandle<Result<u64, String>>>), testkit::Broken>
{
    let leader = stage.caller(end);
    stage.reach(1, 1).await?;
    let waiting = (0..waiters).map(|_| stage.caller(end)).collect();
    stage.reach(1 + waiters, 1).await?;
    Ok((leader, waiting))
}

/// The second load succeeds: all waiters get 42 and nobody loads a third time.
async fn one_successor_serves<S: Subject>(
    stage: &Stage<S>,
    waiting: Vec<JoinHandle<Result<u64, String>>>,
) -> Verdict {
    let called = stage.called.load(SeqCst);
    stage.reach(called, 2).await?;
    stage.open();
    for waiter in waiting {
        let got = outcome(waiter).await?;
        ensure!(got == "Ok(42)", "a waiter got {got}");
    }
    let loads = stage.loads.load(SeqCst);
    ensure!(loads == 2, "{loads} loads where the dead leader has one successor");
    ensure!(stage.subject.get(KEY) == Some(42), "the successor's value is not cached");
    Ok(())
}

async fn ten_thousand_waiters_cause_one_load<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let stage = Stage::new(fixture.subject(OnError::default()));
    let (leader, waiting) = with_waiters(&stage, |_| Ok(42), 9_999).await?;
    stage.open();
    for caller in waiting.into_iter().chain([leader]) {
        let got = outcome(caller).await?;
        ensure!(got == "Ok(42)", "a caller got {got}");
    }
    let loads = stage.loads.load(SeqCst);
    ensure!(loads == 1, "10,000 callers caused {loads} loads");
    Ok(())
}

fn first_fails(number: usize) -> Result<u64, String> {
    if number == 1 { Err("down".into()) } else { Ok(42) }
}

async fn a_failed_leader_has_one_successor<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let stage = Stage::new(fixture.subject(OnError::NextWaiterTries));
    let (leader, waiting) = with_waiters(&stage, first_fails, 50).await?;
    stage.open();
    let got = outcome(leader).await?;
    ensure!(got == "Err(\"down\")", "the caller whose load failed got {got}");
    one_successor_serves(&stage, waiting).await
}

async fn a_cancelled_leader_has_one_successor<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let stage = Stage::new(fixture.subject(OnError::default()));
    let (leader, waiting) = with_waiters(&stage, |_| Ok(42), 50).await?;
    leader.abort();
    one_successor_serves(&stage, waiting).await
}

async fn a_panicked_leader_has_one_successor<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let stage = Stage::new(fixture.subject(OnError::default()));
    let first_panics =
        |number| if number == 1 { panic!("a loader panics, on purpose") } else { Ok(42) };
    let (leader, waiting) = with_waiters(&stage, first_panics, 50).await?;
    stage.open();
    let got = outcome(leader).await?;
    ensure!(got == "panic", "the caller whose load panicked got {got}");
    one_successor_serves(&stage, waiting).await
}

async fn a_promoted_waiter_may_vanish<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let stage = Stage::new(fixture.subject(OnError::default()));
    let (leader, mut waiting) = with_waiters(&stage, |_| Ok(42), 50).await?;
    // Both at once: the first waiter is promoted and cancelled before it can run.
    leader.abort();
    waiting.remove(0).abort();
    one_successor_serves(&stage, waiting).await
}

async fn an_error_may_be_everybodys<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let stage = Stage::new(fixture.subject(OnError::EveryWaiterFails));
    let (leader, waiting) = with_waiters(&stage, first_fails, 50).await?;
    stage.open();
    for caller in waiting.into_iter().chain([leader]) {
        let got = outcome(caller).await?;
        ensure!(got == "Err(\"down\")", "a waiter of a load that failed for all got {got}");
    }
    let loads = stage.loads.load(SeqCst);
    ensure!(loads == 1, "one error for everybody took {loads} loads");
    Ok(())
}

async fn an_error_is_not_cached<F: Fixture>(fixture: Arc<F>) -> Verdict {
    for on_error in [OnError::NextWaiterTries, OnError::EveryWaiterFails] {
        let stage = Stage::new(fixture.subject(on_error));
        stage.open();
        stage.open();
        let first = outcome(stage.caller(first_fails)).await?;
        ensure!(first == "Err(\"down\")", "a failing load gave {first}");
        let second = outcome(stage.caller(first_fails)).await?;
        ensure!(second == "Ok(42)", "the call after an error got {second}");
    }
    Ok(())
}

async fn an_insert_during_a_load_wins<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let stage = Stage::new(fixture.subject(OnError::default()));
    let (leader, waiting) = with_waiters(&stage, |_| Ok(42), 5).await?;
    stage.subject.insert(KEY, 99);
    stage.open();
    for caller in waiting.into_iter().chain([leader]) {
        let got = outcome(caller).await?;
        ensure!(got == "Ok(99)", "99 was written during the load, a waiter got {got}");
    }
    let cached = stage.subject.get(KEY);
    ensure!(cached == Some(99), "the load overwrote the newer value: {cached:?}");
    Ok(())
}

async fn an_invalidate_during_a_load_wins<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let stage = Stage::new(fixture.subject(OnError::default()));
    let (leader, waiting) = with_waiters(&stage, |number| Ok(number as u64), 5).await?;
    stage.subject.invalidate(KEY);
    // Who asks from now on must not get what was read before the invalidation.
    let late = stage.caller(|number| Ok(number as u64));
    stage.reach(7, 2).await?;
    stage.open();
    stage.open();
    for caller in waiting.into_iter().chain([leader]) {
        let got = outcome(caller).await?;
        ensure!(got == "Ok(1)" || got == "Ok(2)", "a waiter got {got}");
    }
    let got = outcome(late).await?;
    ensure!(got == "Ok(2)", "a caller after the invalidation got {got}");
    let cached = stage.subject.get(KEY);
    ensure!(cached == Some(2), "cached after all: {cached:?}");
    Ok(())
}
