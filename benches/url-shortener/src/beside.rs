//! A reader's codes and store beside ours, called directly: a link is made, and found.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use measure::harness::{ClosedLoop, Outcome, Shot};
use measure::{Bench, Ready, SCENARIO, Scenario, Subject, YOURS};
use service::Clock;
use url_shortener::Error;
use url_shortener::codes::{AnyCodes, Codes, Draw, Scheme};
use url_shortener::link::Creation;
use url_shortener::shortener::ATTEMPTS_MAX;
use url_shortener::store::Store;
use url_shortener::store::memory::Memory;
use url_shortener::store::sqlite::Sqlite;

use crate::compare::terms;

/// Callers at once.
const CALLERS: usize = 32;

/// A reader's store, and codes on top of it, as one more row.
pub fn beside_ours<S: Store, C: Codes>(store: fn() -> Arc<S>, codes: fn(Arc<S>) -> C) -> ExitCode {
    measure::beside("url-shortener", |bench| compare(bench, store, codes))
}

async fn compare<S: Store, C: Codes>(
    bench: Bench,
    store: fn() -> Arc<S>,
    codes: fn(Arc<S>) -> C,
) -> anyhow::Result<()> {
    let subjects = vec![
        Subject::answer("memory", || async { ours(Memory::default(), ()).await }),
        Subject::answer("sqlite", || async {
            let directory = tempfile::tempdir()?;
            ours(Sqlite::open(&directory.path().join("links.db"))?, directory).await
        }),
        Subject::answer(YOURS, move || async move {
            let store = store();
            Ok(ready(Arc::clone(&store), codes(store), ()))
        }),
    ];
    let about = "a code drawn, a link made with it, and looked up; called directly; sqlite with \
                 an fsync";
    let (rounds, warm_up) = (Some(3), Duration::from_millis(150));
    let scenario = Scenario { rounds, warm_up, ..Scenario::new(SCENARIO, about, "memory") };
    let duration = Duration::from_millis(400);
    let load = ClosedLoop { workers: CALLERS, duration, seed: bench.seed() };
    bench.closed(scenario, load, subjects).await
}

async fn ours<S: Store, H: Send + 'static>(store: S, home: H) -> anyhow::Result<Ready> {
    let store = Arc::new(store);
    let codes = AnyCodes::new(Scheme::default(), 7, &store, Clock::system()).await?;
    Ok(ready(store, codes, home))
}

fn ready<S: Store, C: Codes, H: Send + 'static>(store: Arc<S>, codes: C, home: H) -> Ready {
    let (codes, made) = (Arc::new(codes), Arc::new(AtomicU64::new(0)));
    let (links, counting) = (Arc::clone(&store), Arc::clone(&made));
    let op = move |shot: Shot| {
        let (links, codes, made) = (Arc::clone(&links), Arc::clone(&codes), Arc::clone(&counting));
        async move { one_link(&*links, &*codes, &made, shot).await }
    };
    Ready::new(op, move |_| async move {
        let counted = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&counted);
        let each = move |_: url_shortener::link::Entry<'_>| {
            counting.fetch_add(1, Ordering::SeqCst);
        };
        store.load(each).await.map_err(|error| error.to_string())?;
        drop(home);
        let (there, made) = (counted.load(Ordering::SeqCst), made.load(Ordering::SeqCst));
        let adds_up = made > 0 && there == made;
        adds_up.then_some(()).ok_or_else(|| format!("{made} links were made, {there} are there"))
    })
}

async fn one_link<S: Store, C: Codes>(
    store: &S,
    codes: &C,
    made: &AtomicU64,
    shot: Shot,
) -> Outcome {
    let target = format!("https://example.com/{}/{}", shot.rng().u64(..), shot.n);
    for attempt in 0..ATTEMPTS_MAX {
        let draw = Draw { target: &target, attempt };
        let code = codes.draw(draw).await.map_err(|_| "no code")?;
        let terms = terms(code.clone(), target.clone());
        let created = store.create(vec![Creation { terms, once: None }]).await;
        match created.map_err(|_| "not made")?.pop() {
            Some(Ok(_)) => {}
            Some(Err(Error::Taken { .. })) => continue,
            _ => return Err("not made"),
        }
        made.fetch_add(1, Ordering::SeqCst);
        return match store.look_up(&code).await {
            Ok(Some(_)) => Ok("made and found"),
            _ => Err("not found"),
        };
    }
    Err("no free code")
}
