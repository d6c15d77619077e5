//! Every answer against every promise, and every wrong queue against the promise that must catch
//! it. A new answer is one line.

use std::process::ExitCode;

use job_queue::Queues;
use job_queue::clock::Clock;
use job_queue::conformance::{EPOCH_MS, Fixture, promises};
use job_queue::store::memory::Memory;
use job_queue::store::postgres::Postgres;
use job_queue::store::redis::Redis;
use job_queue::store::sqlite::Sqlite;
use testkit::Suite;

mod bugs;
mod naive;

use bugs::Bug;
use naive::Naive;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.answer("memory", promises, || async {
        let clock = Clock::manual(EPOCH_MS);
        Store { queues: Memory::new(clock.clone()), clock, _home: () }
    });
    suite.answer("sqlite", promises, || async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let clock = Clock::manual(EPOCH_MS);
        let queues = Sqlite::open(&directory.path().join("queues.db"), clock.clone()).await;
        let queues = queues.expect("a new SQLite file");
        Store { queues, clock, _home: directory }
    });
    suite.answer("postgres", promises, || async {
        let server = infra::postgres().await.expect("a Postgres to test against");
        let database = server.database("job_queue", "").await.expect("a database");
        let clock = Clock::manual(EPOCH_MS);
        let queues = Postgres::connect(database.url(), clock.clone()).await;
        let queues = queues.expect("a Postgres that was just started");
        Store { queues, clock, _home: (database, server) }
    });
    suite.answer("redis", promises, || async {
        let server = infra::redis().await.expect("a Redis to test against");
        let clock = Clock::manual(EPOCH_MS);
        let queues = Redis::connect(server.url(), clock.clone()).await;
        let queues = queues.expect("a Redis that was just started");
        Store { queues, clock, _home: server }
    });
    // The wrong queues differ from this one by one line each, and this one is right.
    suite.answer("naive", promises, || async { Naive::with(None) });
    for &(bug, caught_by) in Bug::ALL {
        suite.wrong(
            &bug.name(),
            caught_by,
            promises,
            move || async move { Naive::with(Some(bug)) },
        );
    }
    suite.run()
}

/// A store on a clock of its own, and what it lives in, which goes after it.
struct Store<Q, H> {
    queues: Q,
    clock: Clock,
    _home: H,
}

impl<Q: Queues, H: Send + Sync + 'static> Fixture for Store<Q, H> {
    type Queues = Q;

    fn queues(&self) -> &Q {
        &self.queues
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}
