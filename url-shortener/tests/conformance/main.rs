//! Every store, generator and lookup against every promise, and every wrong one against the promise
//! that must catch it. A new answer is one line.

use std::process::ExitCode;
use std::sync::Arc;

use testkit::Suite;
use url_shortener::codes::Scheme;
use url_shortener::conformance::{Fixture, codes, lookups as lookup, promises};
use url_shortener::store::postgres::{Postgres, SCHEMA};
use url_shortener::store::{memory::Memory, sqlite::Sqlite};

mod generators;
mod lookups;
mod naive;

use generators::{Flaw, FlawedFixture, Ours};
use lookups::{All, Bounded, Naive, Slip};
use naive::{Bug, NaiveFixture};

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.answer("memory", promises, || async { MemoryFixture::default() });
    suite.answer("sqlite", promises, || async { SqliteFixture::new() });
    suite.answer("postgres", promises, PostgresFixture::new);
    // The wrong stores differ from this one by one line each, and this one is right.
    let naive = |bug| async move { NaiveFixture { bug, rows: Arc::default() } };
    suite.answer("naive", promises, move || naive(None));
    for &(bug, caught_by) in Bug::ALL {
        suite.wrong(&bug.name(), caught_by, promises, move || naive(Some(bug)));
    }
    for scheme in Scheme::ALL {
        let name = format!("codes/{}", scheme.name());
        suite.answer(&name, codes::promises, move || async move { Ours::new(scheme) });
    }
    for &(flaw, caught_by) in Flaw::ALL {
        let name = format!("codes/{}", flaw.name());
        suite.wrong(&name, caught_by, codes::promises, move || async move {
            FlawedFixture { flaw, counter: Arc::default() }
        });
    }
    suite.answer("lookup/all", lookup::promises, || async { All });
    suite.answer("lookup/recent", lookup::promises, || async { Bounded });
    suite.answer("lookup/naive", lookup::promises, || async { Naive(None) });
    for &(slip, caught_by) in Slip::ALL {
        let name = format!("lookup/{}", slip.name());
        suite.wrong(&name, caught_by, lookup::promises, move || async move { Naive(Some(slip)) });
    }
    suite.run()
}

#[derive(Default)]
struct MemoryFixture(Arc<Memory>);

impl Fixture for MemoryFixture {
    type Store = Memory;

    async fn servers(&self, count: usize) -> Vec<Arc<Memory>> {
        vec![Arc::clone(&self.0); count]
    }
}

/// A file of its own. One process has one writer, so all servers are that one.
struct SqliteFixture {
    store: Arc<Sqlite>,
    _directory: tempfile::TempDir,
}

impl SqliteFixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Sqlite::open(&directory.path().join("links.db")).expect("SQLite opens");
        Self { store: Arc::new(store), _directory: directory }
    }
}

impl Fixture for SqliteFixture {
    type Store = Sqlite;

    async fn servers(&self, count: usize) -> Vec<Arc<Sqlite>> {
        vec![Arc::clone(&self.store); count]
    }
}

/// A database of its own; every server has connections of its own.
struct PostgresFixture {
    database: infra::Database,
    _server: infra::Postgres,
}

impl PostgresFixture {
    async fn new() -> Self {
        let server = infra::postgres().await.expect("a Postgres to test against");
        let database = server.database("url_shortener", SCHEMA).await.expect("a database");
        Self { database, _server: server }
    }
}

impl Fixture for PostgresFixture {
    type Store = Postgres;

    async fn servers(&self, count: usize) -> Vec<Arc<Postgres>> {
        let mut servers = Vec::new();
        for _ in 0..count {
            let store = Postgres::connect(self.database.url()).await;
            servers.push(Arc::new(store.expect("the database answers")));
        }
        servers
    }
}
