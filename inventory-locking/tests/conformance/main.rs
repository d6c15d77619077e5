//! Every answer against every promise, and every wrong inventory against the promise that must
//! catch it. A new answer is one line.

use std::process::ExitCode;

use inventory_locking::answer::memory::Memory;
use inventory_locking::answer::sqlite::{Sqlite, Strategy};
use inventory_locking::conformance::{Fixture, promises};
use service::Clock;
use testkit::Suite;

mod naive;

use naive::{Bug, Naive};

/// Where the suite's clock starts, in 2026.
const EPOCH_MS: u64 = 1_790_000_123_456;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.answer("memory", promises, || async { MemoryFixture(Clock::manual(EPOCH_MS)) });
    for (name, strategy) in Strategy::ALL {
        let make = move || async move { SqliteFixture::new(strategy) };
        suite.answer(&format!("sqlite/{name}"), promises, make);
    }
    // The wrong inventories differ from this one by one line each, and this one is right.
    suite.answer("naive", promises, || async { Naive::with(None) });
    for (bug, caught_by) in Bug::ALL {
        suite.wrong(
            &bug.name(),
            caught_by,
            promises,
            move || async move { Naive::with(Some(bug)) },
        );
    }
    suite.run()
}

struct MemoryFixture(Clock);

impl Fixture for MemoryFixture {
    type Inventory = Memory;

    async fn servers(&self, count: usize) -> Vec<Memory> {
        vec![Memory::new(self.0.clone()); count]
    }

    async fn advance_ms(&self, by_ms: u64) {
        self.0.advance_ms(by_ms);
    }
}

/// Every server opens the file for itself, as separate processes would.
struct SqliteFixture {
    strategy: Strategy,
    clock: Clock,
    directory: tempfile::TempDir,
}

impl SqliteFixture {
    fn new(strategy: Strategy) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the database");
        Self { strategy, clock: Clock::manual(EPOCH_MS), directory }
    }
}

impl Fixture for SqliteFixture {
    type Inventory = Sqlite;

    async fn servers(&self, count: usize) -> Vec<Sqlite> {
        let path = self.directory.path().join("inventory.db");
        let server = |_| Sqlite::open(&path, self.strategy, self.clock.clone());
        (0..count).map(|index| server(index).expect("a database")).collect()
    }

    async fn advance_ms(&self, by_ms: u64) {
        self.clock.advance_ms(by_ms);
    }
}
