//! How long each server takes to be ready on this machine, and what it is:
//! `cargo run --release -p infra --example startup`.

use std::time::{Duration, Instant};

use infra::{PostgresOptions, Profile, RedisOptions};

const ROUNDS: usize = 10;

#[tokio::main]
async fn main() -> infra::Result<()> {
    let found = infra::found().await;
    println!(
        "redis     {}\npostgres  {}\ndocker    {}\n",
        found.redis, found.postgres, found.docker
    );
    println!("{:<34} {:>9} {:>9} {:>9}", "milliseconds until ready", "least", "median", "most");

    show("found()", ROUNDS, async || Ok(infra::found().await)).await?;
    show("redis()", ROUNDS, infra::redis).await?;
    let durable = || RedisOptions { durable: true, ..RedisOptions::default() };
    show("redis_with(durable)", ROUNDS, async || infra::redis_with(durable()).await).await?;
    show("redis_replicated()", ROUNDS, infra::redis_replicated).await?;
    show("redis_cluster()", 3, infra::redis_cluster).await?;

    show("postgres(), the first of a run", 1, infra::postgres).await?;
    show("postgres(), again", ROUNDS, infra::postgres).await?;
    for (name, profile) in [
        ("postgres_with(Fast)", Profile::Fast),
        ("postgres_with(Durable)", Profile::Durable),
        ("postgres_with(SlowFsync 20 ms)", Profile::SlowFsync(Duration::from_millis(20))),
    ] {
        let options = || PostgresOptions { profile, ..PostgresOptions::default() };
        show(name, 5, async || infra::postgres_with(options()).await).await?;
    }
    let postgres = infra::postgres().await?;
    let schema = "create table notes (id bigint primary key, body text)";
    show("database(), template made", 1, async || postgres.database("startup", schema).await)
        .await?;
    show("database(), template copied", ROUNDS, async || {
        postgres.database("startup", schema).await
    })
    .await?;
    Ok(())
}

/// Prints how long `start` takes, and how long its result takes to drop.
async fn show<T>(
    name: &str,
    rounds: usize,
    start: impl AsyncFn() -> infra::Result<T>,
) -> infra::Result<()> {
    let (mut starting, mut dropping) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let clock = Instant::now();
        let started = start().await?;
        starting.push(clock.elapsed());
        let clock = Instant::now();
        drop(started);
        dropping.push(clock.elapsed());
    }
    starting.sort_unstable();
    dropping.sort_unstable();
    let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    let (least, most) = (starting[0], starting[rounds - 1]);
    println!(
        "{name:<34} {:>9.1} {:>9.1} {:>9.1}   dropped in {:.1}",
        ms(least),
        ms(starting[rounds / 2]),
        ms(most),
        ms(dropping[rounds / 2]),
    );
    Ok(())
}
