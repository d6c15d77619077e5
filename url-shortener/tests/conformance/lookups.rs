//! Our lookups, and the wrong ones: a map with one mistake each.

use std::collections::HashMap;

use parking_lot::Mutex;
use url_shortener::conformance::lookups::Fixture;
use url_shortener::index::Index;
use url_shortener::link::{Entry, OwnedEntry};
use url_shortener::lookup::{AnyLookup, Found, Lookup};
use url_shortener::recent::{BYTES_MIN, Recent};
use url_shortener::{Code, Error};

/// All links in memory.
pub(crate) struct All;

impl Fixture for All {
    type Lookup = AnyLookup;

    fn start(&self, stored: &[OwnedEntry]) -> AnyLookup {
        let index = Index::default();
        stored.iter().for_each(|entry| index.apply(entry.as_entry()));
        AnyLookup::All(index)
    }
}

/// Those asked for lately.
pub(crate) struct Bounded;

impl Fixture for Bounded {
    type Lookup = AnyLookup;

    fn start(&self, _: &[OwnedEntry]) -> AnyLookup {
        AnyLookup::Recent(Recent::new(BYTES_MIN))
    }
}

testkit::mistakes! {
    /// A mistake.
    pub(crate) enum Slip {
        ForgetsDeletedLinks => what_is_stored_is_found,
        FoldsCase => codes_are_told_apart_by_case,
        RemembersNoAbsence => an_answer_is_remembered,
        IsNotToldOfChanges => a_change_is_seen_at_once,
        KeepsAbsenceForEver => a_new_link_ends_its_404,
        TakesWhateverIsTold => the_newer_version_stays,
        KeepsWhatItReadBefore => a_reading_of_the_past_is_not_kept,
        LetsTheCrowdThrough => a_crowd_asks_once,
        TakesAnOutageForAbsence => a_failed_question_is_asked_again,
    }
}

/// A map without a bound, wrong in one way or right.
pub(crate) struct Naive(pub(crate) Option<Slip>);

impl Fixture for Naive {
    type Lookup = NaiveLookup;

    fn start(&self, _: &[OwnedEntry]) -> NaiveLookup {
        NaiveLookup {
            slip: self.0,
            table: Mutex::default(),
            one_asks: tokio::sync::Mutex::default(),
        }
    }
}

#[derive(Default)]
struct Table {
    known: HashMap<String, Option<OwnedEntry>>,
    /// Grows with every change that is told.
    changes: u64,
}

pub(crate) struct NaiveLookup {
    slip: Option<Slip>,
    table: Mutex<Table>,
    /// Simple and slow: one question at a time, whatever it is about.
    one_asks: tokio::sync::Mutex<()>,
}

impl NaiveLookup {
    fn has(&self, slip: Slip) -> bool {
        self.slip == Some(slip)
    }

    fn key(&self, code: &str) -> String {
        if self.has(Slip::FoldsCase) { code.to_lowercase() } else { code.to_owned() }
    }

    fn keep(&self, key: String, seen: u64, answer: &Option<OwnedEntry>) {
        let mut table = self.table.lock();
        let overtaken = table.changes != seen && !self.has(Slip::KeepsWhatItReadBefore);
        let unwelcome = answer.is_none() && self.has(Slip::RemembersNoAbsence);
        if !overtaken && !unwelcome {
            table.known.insert(key, answer.clone());
        }
    }
}

impl Lookup for NaiveLookup {
    fn find_now<T>(&self, code: &str, read: impl FnOnce(Entry<'_>) -> T) -> Found<T> {
        match self.table.lock().known.get(&self.key(code)) {
            None => Found::AskTheStore,
            Some(None) => Found::Nowhere,
            Some(Some(entry)) => Found::Here(read(entry.as_entry())),
        }
    }

    async fn find<T: Send, F: Future<Output = Result<Option<OwnedEntry>, Error>> + Send>(
        &self,
        code: &Code,
        ask: impl FnOnce() -> F + Send,
        read: impl FnOnce(Entry<'_>) -> T + Send,
    ) -> Result<Option<T>, Error> {
        let key = self.key(code.as_str());
        let _turn = match self.has(Slip::LetsTheCrowdThrough) {
            true => None,
            false => Some(self.one_asks.lock().await),
        };
        let seen = {
            let table = self.table.lock();
            if let Some(known) = table.known.get(&key) {
                return Ok(known.as_ref().map(|entry| read(entry.as_entry())));
            }
            table.changes
        };
        let mut answer = match ask().await {
            Err(_) if self.has(Slip::TakesAnOutageForAbsence) => None,
            answer => answer?,
        };
        if self.has(Slip::ForgetsDeletedLinks) {
            answer = answer.filter(|entry| !entry.target.is_empty());
        }
        self.keep(key, seen, &answer);
        Ok(answer.map(|entry| read(entry.as_entry())))
    }

    fn apply(&self, entry: Entry<'_>) {
        let (key, mut table) = (self.key(entry.code), self.table.lock());
        table.changes += 1;
        let is_absent = matches!(table.known.get(&key), Some(None));
        match self.slip {
            Some(Slip::IsNotToldOfChanges) if !is_absent => {}
            Some(Slip::KeepsAbsenceForEver) if is_absent => {}
            Some(Slip::TakesWhateverIsTold) => {
                table.known.insert(key, Some(entry.into()));
            }
            _ => {
                table.known.remove(&key);
            }
        }
    }
}
