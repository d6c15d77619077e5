//! Every answer against every promise, and every wrong inventory against the promise that must
//! catch it. A new answer is one line.

use std::process::ExitCode;

use inventory_locking::answer::memory::Memory;
use inventory_locking::answer::postgres::{self, Postgres};
use inventory_locking::answer::sqlite::{self, Sqlite};
use inventory_locking::conformance::{Fixture, promises, promises_of_reserving};
use service::Clock;
use testkit::Suite;

mod bug;
mod gate;
mod naive;

use bug::Bug;
use naive::Naive;

/// Where the suite's clock starts, in 2026.
const EPOCH_MS: u64 = 1_790_000_123_456;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.answer("memory", promises, || async { MemoryFixture(Clock::manual(EPOCH_MS)) });
    for (name, strategy) in sqlite::Strategy::ALL {
        let make = move || async move { SqliteFixture::new(strategy) };
        suite.answer(&format!("sqlite/{name}"), promises, make);
    }
    // One for each way to lay stock out is asked everything; the others differ from conditional
    // in how they take stock and in nothing else.
    let whole = ["conditional", "buckets", "units", "batching"];
    let right = |(_, strategy): &(&str, _)| *strategy != postgres::Strategy::Naive;
    for (name, strategy) in postgres::Strategy::ALL.into_iter().filter(right) {
        let list = if whole.contains(&name) { promises } else { promises_of_reserving };
        suite.answer(&format!("postgres/{name}"), list, move || PostgresFixture::new(strategy));
    }
    gate::register(&mut suite);
    // Not a seeded mistake but the real thing: what it sells twice is in a real database.
    let naive = || PostgresFixture::new(postgres::Strategy::Naive);
    suite.wrong("postgres_naive", "concurrent_buyers_never_oversell", promises, naive);
    // The wrong inventories differ from this one by one line each, and this one is right.
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
    strategy: sqlite::Strategy,
    clock: Clock,
    directory: tempfile::TempDir,
}

impl SqliteFixture {
    fn new(strategy: sqlite::Strategy) -> Self {
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

/// A database of its own on a real server, whose clock the suite moves. Every server has its own
/// connections.
struct PostgresFixture {
    strategy: postgres::Strategy,
    clock: sqlx::PgPool,
    database: infra::Database,
    _server: infra::Postgres,
}

/// The schema with the clock replaced by a table.
const SCHEMA_WITH_CLOCK: &str = concat!(
    include_str!("../../src/answer/postgres/sql/schema.sql"),
    "CREATE TABLE test_clock AS SELECT 1790000123456::bigint AS ms;
     CREATE OR REPLACE FUNCTION inventory_now_ms() RETURNS bigint LANGUAGE sql VOLATILE
     AS 'SELECT ms FROM test_clock';"
);

impl PostgresFixture {
    async fn new(strategy: postgres::Strategy) -> Self {
        let server = infra::postgres().await.expect("a Postgres to test against");
        let database = server.database("inventory", SCHEMA_WITH_CLOCK).await.expect("a database");
        let clock = sqlx::postgres::PgPoolOptions::new().max_connections(1);
        let clock = clock.connect_lazy(database.url()).expect("a URL from infra");
        Self { strategy, clock, database, _server: server }
    }
}

impl Fixture for PostgresFixture {
    type Inventory = Postgres;

    async fn servers(&self, count: usize) -> Vec<Postgres> {
        let settings = postgres::Settings { connections: 8, per_sku: 8 };
        let mut servers = Vec::new();
        for _ in 0..count {
            let server = Postgres::connect(self.database.url(), self.strategy, settings).await;
            servers.push(server.expect("a database from infra"));
        }
        servers
    }

    async fn advance_ms(&self, by_ms: u64) {
        let update = sqlx::query("UPDATE test_clock SET ms = ms + $1").bind(by_ms as i64);
        update.execute(&self.clock).await.expect("the clock can be moved");
    }
}
