//! What every lookup of links promises.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use testkit::conformance::{Broken, Promise, Verdict};
use testkit::ensure;
use tokio::sync::Notify;

use super::code;
use crate::link::{Entry, Error, LinkId, OwnedEntry, Redirect, State, Version};
use crate::lookup::Lookup;

/// How the suite reaches the lookup under test.
pub trait Fixture: Send + Sync + 'static {
    /// The lookup.
    type Lookup: Lookup;

    /// A fresh lookup, as after a start over a store that holds these.
    fn start(&self, stored: &[OwnedEntry]) -> Self::Lookup;
}

/// The promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    testkit::promises! { F;
        what_is_stored_is_found => "Every link, deleted ones included, and nothing else.",
        codes_are_told_apart_by_case => "`Ab` and `aB` are different links.",
        an_answer_is_remembered => "The store is asked about a code once, also when there is none.",
        a_change_is_seen_at_once => "No visitor is sent where a link led before.",
        a_new_link_ends_its_404 => "Somebody tried the code before it existed.",
        the_newer_version_stays => "Two changes may be told in the other order.",
        a_reading_of_the_past_is_not_kept => "The store was read before a change and answers after.",
        a_crowd_asks_once.on_many_threads() => "However many miss a code at once.",
        a_failed_question_is_asked_again => "An outage is not remembered as a 404.",
    }
}

/// What a store would hold, and how often it was asked.
#[derive(Default)]
struct Stored {
    entries: Mutex<HashMap<String, OwnedEntry>>,
    asked: AtomicUsize,
}

impl Stored {
    fn with(entries: &[OwnedEntry]) -> Self {
        let stored = Self::default();
        entries.iter().for_each(|entry| stored.write(entry));
        stored
    }

    fn write(&self, entry: &OwnedEntry) {
        self.entries.lock().insert(entry.code.to_string(), entry.clone());
    }

    fn read(&self, text: &str) -> Result<Option<OwnedEntry>, Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.entries.lock().get(text).cloned())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn entry(text: &str, version: u32) -> OwnedEntry {
    let target = format!("https://example.com/{text}/{version}");
    OwnedEntry::from(Entry {
        id: LinkId(7),
        version: Version(version),
        state: State::Enabled,
        redirect: Redirect::Found,
        limited: false,
        expires_at_ms: None,
        code: text,
        target: &target,
    })
}

fn owned(entry: Entry<'_>) -> OwnedEntry {
    entry.into()
}

async fn find(
    lookup: &impl Lookup,
    stored: &Stored,
    text: &str,
) -> Result<Option<OwnedEntry>, Broken> {
    let found = lookup.find(&code(text), || async { stored.read(text) }, owned).await;
    found.map_err(|error| Broken::because(format!("finding {text} failed: {error}")))
}

async fn what_is_stored_is_found<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let gone = entry("gone", 2);
    let gone = Entry { state: State::Deleted, target: "", ..gone.as_entry() };
    let entries = [entry("a", 1), entry("b", 3), gone.into()];
    let (lookup, stored) = (fixture.start(&entries), Stored::with(&entries));
    for _ in 0..2 {
        for expected in &entries {
            let found = find(&lookup, &stored, &expected.code).await?;
            ensure!(found.as_ref() == Some(expected), "{expected:?} was found as {found:?}");
        }
        let found = find(&lookup, &stored, "nobody").await?;
        ensure!(found.is_none(), "a code that never was is {found:?}");
    }
    Ok(())
}

async fn codes_are_told_apart_by_case<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let entries = [entry("Ab", 1), entry("aB", 1)];
    let (lookup, stored) = (fixture.start(&entries), Stored::with(&entries));
    for expected in entries.iter().chain(&entries) {
        let found = find(&lookup, &stored, &expected.code).await?;
        ensure!(found.as_ref() == Some(expected), "{} was found as {found:?}", expected.code);
    }
    Ok(())
}

async fn an_answer_is_remembered<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let entries = [entry("a", 1)];
    let (lookup, stored) = (fixture.start(&entries), Stored::with(&entries));
    for text in ["a", "nobody"] {
        let before = stored.asked();
        for _ in 0..5 {
            find(&lookup, &stored, text).await?;
        }
        let asked = stored.asked() - before;
        ensure!(asked <= 1, "five visitors of {text} asked the store {asked} times");
    }
    Ok(())
}

async fn a_change_is_seen_at_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let entries = [entry("a", 1)];
    let (lookup, stored) = (fixture.start(&entries), Stored::with(&entries));
    find(&lookup, &stored, "a").await?;
    for version in 2..5 {
        let changed = entry("a", version);
        stored.write(&changed);
        lookup.apply(changed.as_entry());
        let found = find(&lookup, &stored, "a").await?;
        ensure!(found.as_ref() == Some(&changed), "after {changed:?} came {found:?}");
    }
    Ok(())
}

async fn a_new_link_ends_its_404<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let (lookup, stored) = (fixture.start(&[]), Stored::default());
    let before = find(&lookup, &stored, "a").await?;
    ensure!(before.is_none(), "before it was created it was {before:?}");
    let created = entry("a", 1);
    stored.write(&created);
    lookup.apply(created.as_entry());
    let found = find(&lookup, &stored, "a").await?;
    ensure!(found.as_ref() == Some(&created), "the new link was found as {found:?}");
    Ok(())
}

async fn the_newer_version_stays<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let (lookup, stored) = (fixture.start(&[]), Stored::default());
    let newest = entry("a", 3);
    stored.write(&newest);
    for version in [3, 1, 2] {
        lookup.apply(entry("a", version).as_entry());
        let found = find(&lookup, &stored, "a").await?;
        ensure!(found.as_ref() == Some(&newest), "told of version {version}, it was {found:?}");
    }
    Ok(())
}

async fn a_reading_of_the_past_is_not_kept<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let (old, new) = (entry("a", 1), entry("a", 2));
    let lookup = Arc::new(fixture.start(std::slice::from_ref(&old)));
    let stored = Stored::with(std::slice::from_ref(&old));
    let (has_read, may_answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let visitor = {
        let (lookup, old) = (Arc::clone(&lookup), old.clone());
        let (has_read, may_answer) = (Arc::clone(&has_read), Arc::clone(&may_answer));
        tokio::spawn(async move {
            let ask = || async {
                has_read.notify_one();
                may_answer.notified().await;
                Ok(Some(old))
            };
            let answer = lookup.find(&code("a"), ask, |_| ()).await.map(drop);
            // A lookup that asks nobody answers at once.
            has_read.notify_one();
            answer
        })
    };
    has_read.notified().await;
    stored.write(&new);
    lookup.apply(new.as_entry());
    may_answer.notify_one();
    let answered = visitor.await.map_err(|error| Broken::because(error.to_string()))?;
    ensure!(answered.is_ok(), "the visitor who asked before the change got {answered:?}");
    let found = find(&*lookup, &stored, "a").await?;
    ensure!(found.as_ref() == Some(&new), "after the change it is still {found:?}");
    Ok(())
}

async fn a_crowd_asks_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let entries = [entry("a", 1)];
    let lookup = Arc::new(fixture.start(&entries));
    let stored = Arc::new(Stored::with(&entries));
    let here = Arc::new(AtomicUsize::new(0));
    let crowd: Vec<_> = (0..64)
        .map(|_| {
            let (lookup, stored) = (Arc::clone(&lookup), Arc::clone(&stored));
            let here = Arc::clone(&here);
            tokio::spawn(async move {
                here.fetch_add(1, Ordering::AcqRel);
                let ask = || async {
                    // The store takes as long as it takes all others to come.
                    while here.load(Ordering::Acquire) < 64 {
                        tokio::task::yield_now().await;
                    }
                    stored.read("a")
                };
                lookup.find(&code("a"), ask, owned).await
            })
        })
        .collect();
    for visitor in crowd {
        let found = visitor.await.map_err(|error| Broken::because(error.to_string()))?;
        let right = found.as_ref().is_ok_and(|found| found.as_ref() == Some(&entries[0]));
        ensure!(right, "one of the crowd got {found:?}");
    }
    ensure!(stored.asked() <= 1, "64 visitors at once asked the store {} times", stored.asked());
    Ok(())
}

async fn a_failed_question_is_asked_again<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let entries = [entry("a", 1)];
    let (lookup, stored) = (fixture.start(&entries), Stored::with(&entries));
    let down = || async { Err(Error::Unavailable { what: "an outage".to_owned(), source: None }) };
    let during = lookup.find(&code("a"), down, |_| ()).await;
    let right = matches!(during, Ok(Some(())) | Err(Error::Unavailable { .. }));
    ensure!(right, "during an outage it was {during:?}");
    let found = find(&lookup, &stored, "a").await?;
    ensure!(found.as_ref() == Some(&entries[0]), "after the outage it is {found:?}");
    Ok(())
}
