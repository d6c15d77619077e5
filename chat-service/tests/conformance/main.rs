//! Every answer against every promise, and every wrong one against the promise that must catch
//! it. A new answer is one line.

use std::process::ExitCode;
use std::sync::Arc;

use chat_service::bus::local::Local;
use chat_service::bus::redis::RedisBus;
use chat_service::conformance::{BusFixture, Fixture, bus_promises, promises};
use chat_service::store::memory::Memory;
use chat_service::store::postgres::{self, Postgres};
use chat_service::store::sqlite::Sqlite;
use testkit::Suite;

#[cfg(feature = "kafka")]
mod kafka;
mod naive;

use naive::{Bug, Naive};

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.answer("memory", promises, || async { InProcess::new(Memory::default()) });
    suite.answer("sqlite", promises, SqliteFixture::new);
    suite.answer("postgres", promises, PostgresFixture::new);
    suite.answer("bus/local", bus_promises, || async { LocalFixture });
    suite.answer("bus/redis", bus_promises, RedisBusFixture::new);
    #[cfg(feature = "kafka")]
    {
        suite.answer("bus/kafka", bus_promises, kafka::BrokerFixture::new);
        suite.answer("bus/kafka-mock", bus_promises, || async { kafka::MockFixture::new() });
    }
    // The wrong stores differ from this one by one line each, and this one is right.
    suite.answer("naive", promises, || async { InProcess::new(Naive::with(None)) });
    for &(bug, caught_by) in Bug::ALL {
        let naive = move || async move { InProcess::new(Naive::with(Some(bug))) };
        suite.wrong(&bug.name(), caught_by, promises, naive);
    }
    suite.run()
}

/// A store that lives in this process only.
struct InProcess<S>(Arc<S>);

impl<S> InProcess<S> {
    fn new(store: S) -> Self {
        Self(Arc::new(store))
    }
}

impl<S: chat_service::Store> Fixture for InProcess<S> {
    type Store = S;

    fn store(&self) -> Arc<S> {
        Arc::clone(&self.0)
    }

    async fn reopened(&self) -> Arc<S> {
        Arc::clone(&self.0)
    }
}

struct SqliteFixture {
    directory: tempfile::TempDir,
    store: Arc<Sqlite>,
}

impl SqliteFixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Sqlite::open(&directory.path().join("chat.db")).await.expect("a new file");
        Self { directory, store: Arc::new(store) }
    }
}

impl Fixture for SqliteFixture {
    type Store = Sqlite;

    fn store(&self) -> Arc<Sqlite> {
        Arc::clone(&self.store)
    }

    async fn reopened(&self) -> Arc<Sqlite> {
        self.store.close().await;
        let path = self.directory.path().join("chat.db");
        Arc::new(Sqlite::open(&path).await.expect("the file is still there"))
    }
}

struct PostgresFixture {
    database: infra::Database,
    store: Arc<Postgres>,
}

impl PostgresFixture {
    async fn new() -> Self {
        let server = infra::postgres().await.expect("a Postgres to test against");
        let database = server.database("chat", postgres::SCHEMA).await.expect("a database");
        let store = Postgres::connect(database.url()).await.expect("it is there");
        Self { database, store: Arc::new(store) }
    }
}

impl Fixture for PostgresFixture {
    type Store = Postgres;

    fn store(&self) -> Arc<Postgres> {
        Arc::clone(&self.store)
    }

    /// A second server of the same database, while the first one runs.
    async fn reopened(&self) -> Arc<Postgres> {
        Arc::new(Postgres::connect(self.database.url()).await.expect("it is still there"))
    }
}

struct LocalFixture;

impl BusFixture for LocalFixture {
    type Bus = Local;

    async fn servers(&self, count: usize) -> Vec<Arc<Local>> {
        let bus = Arc::new(Local::default());
        (0..count).map(|_| Arc::clone(&bus)).collect()
    }

    async fn disturb(&self) {}
}

/// A real Redis of its own, killed and restarted by `disturb`.
struct RedisBusFixture {
    redis: infra::Redis,
}

impl RedisBusFixture {
    async fn new() -> Self {
        Self { redis: infra::redis().await.expect("a Redis to test against") }
    }
}

impl BusFixture for RedisBusFixture {
    type Bus = RedisBus;

    async fn servers(&self, count: usize) -> Vec<Arc<RedisBus>> {
        let mut buses = Vec::new();
        for _ in 0..count {
            buses.push(Arc::new(
                RedisBus::connect(self.redis.url()).await.expect("a URL from infra"),
            ));
        }
        buses
    }

    async fn disturb(&self) {
        self.redis.kill9().await.expect("it is ours");
        self.redis.restart().await.expect("it starts again");
    }
}
