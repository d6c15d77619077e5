//! Durable inserts per second by number of concurrent callers.
//!
//! `cargo run --release -p group-commit --example throughput [DIRECTORY]`: the directory decides
//! which disk is measured (default: the temporary directory).

use std::error::Error;
use std::time::{Duration, Instant};

use group_commit::{Options, Writer};
use tokio::task::JoinSet;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, body TEXT)";
const RUN: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let home = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    println!("{:>8} {:>12} {:>12} {:>12}", "callers", "calls/s", "p50 us", "p99 us");
    for callers in [1, 8, 64, 256, 1024] {
        let directory = tempfile::tempdir_in(&home)?;
        let writer = Writer::open(directory.path().join("t.db"), SCHEMA, Options::default())?;
        let begun = Instant::now();
        let mut running = JoinSet::new();
        for _ in 0..callers {
            running.spawn(insert_until(writer.clone(), begun + RUN));
        }
        let mut latencies: Vec<Duration> = Vec::new();
        while let Some(done) = running.join_next().await {
            latencies.extend(done??);
        }
        let elapsed = begun.elapsed();
        let rows: i64 = writer
            .read(|conn| {
                let count = conn.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
                Ok::<_, group_commit::Error>(count)
            })
            .await?;
        assert_eq!(usize::try_from(rows)?, latencies.len(), "every acknowledged row is there");
        latencies.sort_unstable();
        let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_micros();
        let rate = latencies.len() as f64 / elapsed.as_secs_f64();
        println!("{callers:>8} {rate:>12.0} {:>12} {:>12}", at(50), at(99));
    }
    Ok(())
}

async fn insert_until(writer: Writer, end: Instant) -> Result<Vec<Duration>, group_commit::Error> {
    let mut latencies = Vec::new();
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(latencies);
        }
        writer
            .call(|tx| {
                let mut insert = tx.prepare_cached("INSERT INTO events (body) VALUES (?1)")?;
                insert.execute(["forty bytes of a small event, more or less"])?;
                Ok::<_, group_commit::Error>(())
            })
            .await?;
        latencies.push(begun.elapsed());
    }
}
