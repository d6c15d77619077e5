//! What a FIFO queue remembers of the last five minutes: which deduplication ids were accepted,
//! and which receive attempts got what. Both are forgotten in order of age, from the front of a
//! list, so that forgetting costs as much as remembering did.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::limits::{ATTEMPTS_MAX, DEDUP_IDS_MAX, DEDUP_WINDOW_MS};
use crate::message::{Delivery, Epoch, Sent, Seq};
use crate::queue::Error;
use crate::settings::Scope;

/// A deduplication id within its scope: alone, or behind its group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<str>);

impl Key {
    pub(super) fn new(scope: Scope, group: &str, id: &str) -> Self {
        match scope {
            Scope::Queue => Self(id.into()),
            // Neither may hold a control character, so no two pairs look alike.
            Scope::MessageGroup => Self(format!("{group}\n{id}").into()),
        }
    }
}

/// A used id as it is kept on disk. It outlives its message: a duplicate of a deleted message is
/// still a duplicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The id within its scope.
    pub key: Arc<str>,
    /// The message that had it first.
    pub original: Sent,
    /// When it is forgotten.
    pub expires_at_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Duplicates {
    originals: HashMap<Key, (Sent, u64), foldhash::fast::RandomState>,
    by_age: VecDeque<(u64, Key)>,
}

impl Duplicates {
    pub(super) fn find(&self, key: &Key) -> Option<Sent> {
        self.originals.get(key).map(|&(original, _)| original)
    }

    pub(super) fn remember(
        &mut self,
        key: Key,
        original: Sent,
        now_ms: u64,
    ) -> Result<Duplicate, Error> {
        if self.originals.len() >= DEDUP_IDS_MAX {
            return Err(Error::Full { what: "the deduplication window", limit: DEDUP_IDS_MAX });
        }
        let record = Duplicate {
            key: Arc::clone(&key.0),
            original,
            expires_at_ms: now_ms + DEDUP_WINDOW_MS,
        };
        self.restore(record.clone());
        Ok(record)
    }

    pub(super) fn restore(&mut self, record: Duplicate) {
        let key = Key(record.key);
        self.by_age.push_back((record.expires_at_ms, key.clone()));
        self.originals.insert(key, (record.original, record.expires_at_ms));
    }

    pub(super) fn expire(&mut self, now_ms: u64) {
        while let Some((_, key)) = self.by_age.pop_front_if(|(expires, _)| *expires <= now_ms) {
            self.originals.remove(&key);
        }
    }
}

/// The leases an attempt got, and when they are forgotten.
type Held = (u64, Vec<(Seq, Epoch)>);

#[derive(Debug, Default)]
pub(super) struct Attempts {
    held: HashMap<Arc<str>, Held, foldhash::fast::RandomState>,
    by_age: VecDeque<(u64, Arc<str>)>,
}

impl Attempts {
    pub(super) fn find(&mut self, attempt: &str, now_ms: u64) -> Option<Vec<(Seq, Epoch)>> {
        while let Some((expires, attempt)) =
            self.by_age.pop_front_if(|(expires, _)| *expires <= now_ms)
        {
            // Remembered again since: that later memory is the one to keep.
            if self.held.get(&attempt).is_some_and(|(later, _)| *later == expires) {
                self.held.remove(&attempt);
            }
        }
        self.held.get(attempt).map(|(_, held)| held.clone())
    }

    pub(super) fn remember(&mut self, attempt: &Arc<str>, deliveries: &[Delivery], now_ms: u64) {
        if self.by_age.len() >= ATTEMPTS_MAX
            && let Some((_, oldest)) = self.by_age.pop_front()
        {
            self.held.remove(&oldest);
        }
        let expires = now_ms + DEDUP_WINDOW_MS;
        let held = deliveries.iter().map(|it| (it.seq, it.receipt.epoch)).collect();
        self.by_age.push_back((expires, Arc::clone(attempt)));
        self.held.insert(Arc::clone(attempt), (expires, held));
    }
}
