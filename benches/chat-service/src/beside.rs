//! A reader's message store beside ours, behind the same server: from one person's socket to
//! another's.

use std::process::ExitCode;
use std::time::Duration;

use chat_service::Store;
use chat_service::store::memory::Memory;
use chat_service::store::sqlite::Sqlite;
use measure::harness::ClosedLoop;
use measure::{Bench, SCENARIO, Scenario, Subject, YOURS};

use crate::compare::ready;

/// Messages on their way at once.
const IN_FLIGHT: usize = 256;

/// A reader's store, empty, as one more row.
pub fn beside_ours<S: Store>(make: fn() -> S) -> ExitCode {
    measure::beside("chat-service", |bench| compare(bench, make))
}

async fn compare<S: Store>(bench: Bench, make: fn() -> S) -> anyhow::Result<()> {
    let subjects = vec![
        Subject::answer("memory", || ready(Memory::default(), ())),
        Subject::answer("sqlite", || async {
            let directory = tempfile::tempdir()?;
            let store = Sqlite::open(&directory.path().join("chat.db")).await?;
            ready(store, directory).await
        }),
        Subject::answer(YOURS, move || ready(make(), ())),
    ];
    let about = "a message of 200 bytes from one person's socket to another's, acknowledged; \
                 sqlite with an fsync before \"sent\"; clients and server in one process";
    let (rounds, warm_up) = (Some(3), Duration::from_millis(150));
    let scenario = Scenario { rounds, warm_up, ..Scenario::new(SCENARIO, about, "memory") };
    let duration = Duration::from_millis(500);
    let load = ClosedLoop { workers: IN_FLIGHT, duration, seed: bench.seed() };
    bench.closed(scenario, load, subjects).await
}
