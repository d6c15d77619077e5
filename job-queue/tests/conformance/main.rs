//! Every answer against every promise, and every wrong queue against the promise that must catch
//! it. A new answer is one line.

use std::process::ExitCode;

use job_queue::clock::Clock;
use job_queue::conformance::{EPOCH_MS, Fixture, promises};
use job_queue::store::memory::Memory;
use job_queue::store::sqlite::Sqlite;
use job_queue::Queues;
use testkit::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.answer("memory", promises, || async {
        let clock = Clock::manual(EPOCH_MS);
        Store { queues: Memory::new(clock.clone()), clock, directory: None }
    });
    suite.answer("sqlite", promises, || async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let clock = Clock::manual(EPOCH_MS);
        let queues = Sqlite::open(&directory.path().join("queues.db"), clock.clone()).await;
        let queues = queues.expect("a new SQLite file");
        Store { queues, clock, directory: Some(directory) }
    });
    suite.run()
}

/// A store on a clock of its own, and the directory it lives in.
struct Store<Q> {
    queues: Q,
    clock: Clock,
    #[allow(dead_code, reason = "held so that it is removed after the store")]
    directory: Option<tempfile::TempDir>,
}

impl<Q: Queues> Fixture for Store<Q> {
    type Queues = Q;

    fn queues(&self) -> &Q {
        &self.queues
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}
