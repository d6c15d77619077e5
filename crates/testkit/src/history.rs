//! What concurrent callers asked and were told, in the order in which it happened.
//!
//! Every operation begins with `Invoke` and ends with one of three: `Ok` (it happened, with this
//! result), `Fail` (it certainly did not happen), `Info` (nobody knows: a timeout, a reset
//! connection, a killed server). Recording an `Info` as a `Fail` is how a checker is made to
//! accept lost writes, so a pending operation that is dropped becomes `Info` by itself.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What<Op, Ret> {
    /// The operation was asked for.
    Invoke(Op),
    /// It happened and returned this.
    Ok(Ret),
    /// It certainly did not happen.
    Fail(String),
    /// It may have happened, may happen later, or never.
    Info(String),
}

/// One entry of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<Op, Ret> {
    /// Who asked; one process has one operation under way at a time.
    pub process: u64,
    /// Which operation of the whole history, counted from 0.
    pub operation: u64,
    /// Nanoseconds since the recorder was made. For reading; the order of the list decides.
    pub at_ns: u64,
    /// What happened.
    pub what: What<Op, Ret>,
}

impl<Op: Debug, Ret: Debug> fmt::Display for Event<Op, Ret> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_ms = self.at_ns as f64 / 1e6;
        write!(f, "{at_ms:>10.3} ms  process {:<3} ", self.process)?;
        match &self.what {
            What::Invoke(op) => write!(f, "asks     {op:?}"),
            What::Ok(ret) => write!(f, "is told  {ret:?}"),
            What::Fail(why) => write!(f, "failed:  {why}"),
            What::Info(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// Collects a history from any number of tasks and threads; clones share it.
#[derive(Debug)]
pub struct Recorder<Op, Ret> {
    shared: Arc<Shared<Op, Ret>>,
}

#[derive(Debug)]
struct Shared<Op, Ret> {
    begun: Instant,
    events: Mutex<Events<Op, Ret>>,
}

#[derive(Debug)]
struct Events<Op, Ret> {
    operations: u64,
    list: Vec<Event<Op, Ret>>,
}

impl<Op, Ret> Clone for Recorder<Op, Ret> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Op, Ret> Default for Recorder<Op, Ret> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Op, Ret> Recorder<Op, Ret> {
    /// An empty history.
    pub fn new() -> Self {
        let events = Mutex::new(Events { operations: 0, list: Vec::new() });
        Self { shared: Arc::new(Shared { begun: Instant::now(), events }) }
    }

    /// Records that `process` asks for `op`; call it right before sending. End it with
    /// [`Pending::ok`], [`Pending::fail`] or [`Pending::info`] right after the answer.
    pub fn invoke(&self, process: u64, op: Op) -> Pending<Op, Ret> {
        let operation = self.record(process, None, What::Invoke(op));
        Pending { recorder: self.clone(), process, operation, ended: false }
    }

    /// What has been recorded so far.
    pub fn history(&self) -> History<Op, Ret>
    where
        Op: Clone,
        Ret: Clone,
    {
        History { events: self.events().list.clone() }
    }

    fn record(&self, process: u64, operation: Option<u64>, what: What<Op, Ret>) -> u64 {
        let mut events = self.events();
        // Read under the lock: times then rise with the order.
        let at_ns = u64::try_from(self.shared.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let operation = operation.unwrap_or_else(|| {
            events.operations += 1;
            events.operations - 1
        });
        events.list.push(Event { process, operation, at_ns, what });
        operation
    }

    fn events(&self) -> MutexGuard<'_, Events<Op, Ret>> {
        // A panic elsewhere must not hide the history that explains it.
        self.shared.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation that has not been answered yet.
#[derive(Debug)]
#[must_use = "an operation ends with ok, fail or info"]
pub struct Pending<Op, Ret> {
    recorder: Recorder<Op, Ret>,
    process: u64,
    operation: u64,
    ended: bool,
}

impl<Op, Ret> Pending<Op, Ret> {
    /// It happened and returned `ret`.
    pub fn ok(self, ret: Ret) {
        self.end(What::Ok(ret));
    }

    /// It certainly did not happen.
    pub fn fail(self, why: impl fmt::Display) {
        self.end(What::Fail(why.to_string()));
    }

    /// Nobody knows whether it happened.
    pub fn info(self, why: impl fmt::Display) {
        self.end(What::Info(why.to_string()));
    }

    fn end(mut self, what: What<Op, Ret>) {
        self.ended = true;
        self.recorder.record(self.process, Some(self.operation), what);
    }
}

impl<Op, Ret> Drop for Pending<Op, Ret> {
    fn drop(&mut self) {
        if !self.ended {
            let never = What::Info("dropped without an answer".to_owned());
            self.recorder.record(self.process, Some(self.operation), never);
        }
    }
}

/// A recorded history. Give it to [`Broken::with_history`](crate::Broken::with_history) with
/// `&history`, or write it to a file as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History<Op, Ret> {
    /// In the order in which they happened.
    pub events: Vec<Event<Op, Ret>>,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended<'a, Ret> {
    /// With this result, at this place in the list.
    Ok(usize, &'a Ret),
    /// It did not happen.
    Fail,
    /// Not known, or not yet.
    Unknown,
}

/// An operation with its beginning and its end brought together.
#[derive(Debug, Clone)]
pub struct Operation<'a, Op, Ret> {
    /// Who asked.
    pub process: u64,
    /// What was asked.
    pub op: &'a Op,
    /// The place of its `Invoke` in the list.
    pub invoked: usize,
    /// How it ended.
    pub ended: Ended<'a, Ret>,
}

impl<Op, Ret> History<Op, Ret> {
    /// The operations, in the order in which they were asked for.
    pub fn operations(&self) -> Vec<Operation<'_, Op, Ret>> {
        let mut operations = BTreeMap::new();
        for (at, event) in self.events.iter().enumerate() {
            if let What::Invoke(op) = &event.what {
                let process = event.process;
                let begun = Operation { process, op, invoked: at, ended: Ended::Unknown };
                operations.insert(event.operation, begun);
            } else if let Some(operation) = operations.get_mut(&event.operation) {
                operation.ended = match &event.what {
                    What::Ok(ret) => Ended::Ok(at, ret),
                    What::Fail(_) => Ended::Fail,
                    What::Info(_) | What::Invoke(_) => Ended::Unknown,
                };
            }
        }
        operations.into_values().collect()
    }

    /// One history per key: a system of independent keys is correct if it is for each of them,
    /// and small histories can be checked where the whole cannot.
    pub fn by_key<K: Ord + Clone>(&self, key: impl Fn(&Op) -> K) -> BTreeMap<K, History<Op, Ret>>
    where
        Op: Clone,
        Ret: Clone,
    {
        let mut keys = BTreeMap::new();
        let mut histories: BTreeMap<K, History<Op, Ret>> = BTreeMap::new();
        for event in &self.events {
            if let What::Invoke(op) = &event.what {
                keys.insert(event.operation, key(op));
            }
            let Some(key) = keys.get(&event.operation) else { continue };
            let history = histories.entry(key.clone());
            history.or_insert(History { events: vec![] }).events.push(event.clone());
        }
        histories
    }
}

impl<'a, Op, Ret> IntoIterator for &'a History<Op, Ret> {
    type Item = &'a Event<Op, Ret>;
    type IntoIter = std::slice::Iter<'a, Event<Op, Ret>>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_paired_across_processes_and_a_dropped_one_is_unknown() {
        let recorder = Recorder::new();
        let first = recorder.invoke(1, "a");
        let second = recorder.invoke(2, "b");
        let third = recorder.invoke(3, "c");
        second.ok(7);
        drop(first);
        third.fail("refused");
        let history = recorder.history();
        let ended: Vec<_> = history.operations().into_iter().map(|o| (*o.op, o.ended)).collect();
        assert_eq!(ended, [("a", Ended::Unknown), ("b", Ended::Ok(3, &7)), ("c", Ended::Fail)]);
        assert!(history.events.is_sorted_by_key(|event| event.at_ns));
        assert_eq!(history.by_key(|op| *op).len(), 3);
        assert_eq!(history.by_key(|op| *op)["b"].events.len(), 2);
    }

    #[test]
    fn a_history_survives_json() {
        let recorder = Recorder::new();
        recorder.invoke(1, "a".to_owned()).ok(1);
        let history = recorder.history();
        let json = serde_json::to_string(&history).expect("it serialises");
        let back: History<String, i32> = serde_json::from_str(&json).expect("and comes back");
        assert_eq!(back, history);
    }
}
