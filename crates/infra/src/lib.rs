//! Real servers for tests, benchmarks and the lab: a Redis, a Redis Cluster, a Postgres or a Kafka
//! broker is one function call away, and gone when you are.
//!
//! ```no_run
//! # async fn example() -> infra::Result<()> {
//! let redis = infra::redis().await?; // private, empty, on a free port
//! let client = redis.url(); // "redis://127.0.0.1:14243/"
//!
//! let postgres = infra::postgres().await?; // shared by the processes of a test run
//! let database = postgres.database("job_queue", "create table jobs (id bigint)").await?;
//! let pool = database.url(); // a fresh database, copied from a migrated template
//! # Ok(()) }
//! ```
//!
//! Use it whenever a claim is about a store: a mock agrees with whoever wrote it. Use a key
//! prefix or a [`Database`] when the test only needs isolation, and a server of its own
//! ([`redis()`], [`postgres_with`]) when the test kills, pauses or restarts it.
//!
//! Where a server comes from, first match wins:
//!
//! 1. **the URL you give**: `INFRA_REDIS_URL`, `INFRA_REDIS_CLUSTER_URLS` (comma separated),
//!    `INFRA_POSTGRES_URL`, `INFRA_KAFKA_URL`. Such a server is used as it is: never flushed, killed or paused.
//! 2. **a local program** as a child process, on a free port, in a temporary directory. It dies
//!    with this process, even when this process is SIGKILLed (see [`process`]), and it works as
//!    root, where Postgres itself refuses to run.
//! 3. **a container** (feature `containers`), where a container engine answers.
//! 4. otherwise [`Error::Missing`], which prints the command that installs it. Nothing here ever
//!    pretends: there is no in-memory stand-in.
//!
//! `INFRA_PREFER=container` swaps 2 and 3. Servers listen on the loopback interface only and ask
//! for no password: on a machine you share, other users can reach them while they run.

mod error;
pub use error::{Error, Result};

mod place;
mod port;
pub mod process;
mod backing;
#[cfg(feature = "containers")]
mod container;

mod redis;
pub use redis::cluster::{RedisCluster, RedisNode, SlotMove, redis_cluster};
pub use redis::replicated::{RedisReplicated, redis_replicated};
pub use redis::{Redis, RedisOptions, redis, redis_with};

mod kafka;
pub use kafka::{Kafka, kafka};

mod slow_fsync;
pub use slow_fsync::SlowFsync;
mod small_disk;
pub use small_disk::SmallDisk;

mod postgres;
pub use postgres::database::Database;
pub use postgres::{Postgres, PostgresOptions, Profile, postgres, postgres_with};

mod found;
pub use found::{Found, Presence, found};
