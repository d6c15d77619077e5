//! The shared Postgres and its databases, and a private one to hurt.

use std::time::{Duration, Instant};

use infra::{Error, Postgres, PostgresOptions, Profile};
use sqlx::{Connection, PgConnection, Row};

const SCHEMA: &str = "create table notes (id bigint primary key, body text not null);
                      insert into notes values (1, 'from the template');";

async fn private(profile: Profile) -> Postgres {
    let options = PostgresOptions { profile, ..PostgresOptions::default() };
    infra::postgres_with(options).await.unwrap()
}

async fn count(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("select count(*) from notes").fetch_one(&mut connection).await.unwrap()
}

async fn write(url: &str, id: i64) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let insert = sqlx::query("insert into notes values ($1, 'written')").bind(id);
    insert.execute(&mut connection).await.unwrap();
}

async fn setting(url: &str, name: &str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let shown = sqlx::query("select current_setting($1)").bind(name).fetch_one(&mut connection);
    shown.await.unwrap().get(0)
}

#[tokio::test]
async fn databases_from_one_template_do_not_see_each_other() {
    let postgres = infra::postgres().await.unwrap();
    let one = postgres.database("notes", SCHEMA).await.unwrap();
    let other = postgres.database("notes", SCHEMA).await.unwrap();
    write(one.url(), 2).await;
    assert_eq!((count(one.url()).await, count(other.url()).await), (2, 1));
}

#[tokio::test]
async fn a_changed_schema_is_another_template() {
    let postgres = infra::postgres().await.unwrap();
    let _old = postgres.database("notes", SCHEMA).await.unwrap();
    let changed = format!("{SCHEMA} insert into notes values (7, 'second version');");
    let new = postgres.database("notes", &changed).await.unwrap();
    assert_eq!(count(new.url()).await, 2);
}

#[tokio::test]
async fn concurrent_first_uses_of_a_template_all_succeed() {
    let postgres = infra::postgres().await.unwrap();
    let fresh = format!("{SCHEMA} -- {}", fastrand::u64(..));
    let made = (0..8).map(|_| postgres.database("raced", &fresh));
    let databases = futures::future::try_join_all(made).await.unwrap();
    for database in &databases {
        assert_eq!(count(database.url()).await, 1);
    }
}

#[tokio::test]
async fn a_dropped_database_is_gone_even_with_somebody_connected() {
    let postgres = infra::postgres().await.unwrap();
    let database = postgres.database("notes", SCHEMA).await.unwrap();
    let _guest = PgConnection::connect(database.url()).await.unwrap();
    let name = database.name().to_owned();
    drop(database);
    let mut admin = PgConnection::connect(postgres.url()).await.unwrap();
    let query = sqlx::query_scalar("select exists (select from pg_database where datname = $1)");
    let exists: bool = query.bind(name).fetch_one(&mut admin).await.unwrap();
    assert!(!exists);
}

#[tokio::test]
async fn a_bad_schema_is_refused_every_time() {
    let postgres = infra::postgres().await.unwrap();
    for attempt in ["first", "second"] {
        let error = postgres.database("bad", "create table oops (").await.unwrap_err();
        assert!(matches!(error, Error::Schema { .. }), "{attempt}: {error}");
    }
    let error = postgres.database("Robert'); --", "").await.unwrap_err();
    assert!(error.to_string().contains("a-z"), "{error}");
}

#[tokio::test]
async fn the_shared_server_cannot_be_disturbed() {
    let postgres = infra::postgres().await.unwrap();
    let error = postgres.kill9().await.unwrap_err();
    assert!(error.to_string().contains("postgres_with"), "{error}");
}

#[tokio::test]
async fn a_killed_durable_server_recovers_what_it_acknowledged() {
    let postgres = private(Profile::Durable).await;
    assert_eq!(setting(postgres.url(), "fsync").await, "on");
    let database = postgres.database("notes", SCHEMA).await.unwrap();
    write(database.url(), 2).await;
    postgres.kill9().await.unwrap();
    assert!(PgConnection::connect(database.url()).await.is_err());
    postgres.restart().await.unwrap();
    assert_eq!(count(database.url()).await, 2);
}

#[tokio::test]
async fn a_fast_server_still_recovers_from_a_killed_process() {
    let postgres = private(Profile::Fast).await;
    assert_eq!(setting(postgres.url(), "fsync").await, "off");
    let database = postgres.database("notes", SCHEMA).await.unwrap();
    write(database.url(), 2).await;
    postgres.kill9().await.unwrap();
    postgres.restart().await.unwrap();
    assert_eq!(count(database.url()).await, 2);
}

#[tokio::test]
async fn no_backend_survives_kill_nine() {
    let postgres = private(Profile::Fast).await;
    let mut busy = PgConnection::connect(postgres.url()).await.unwrap();
    let pid: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut busy).await.unwrap();
    let working = tokio::spawn(async move {
        // Nothing here waits, so the backend would not notice its postmaster's death for minutes.
        let endless = "select count(*) from generate_series(1, 10000000000)";
        sqlx::query(endless).execute(&mut busy).await
    });
    postgres.kill9().await.unwrap();
    assert!(!crate::orphans::is_running(u32::try_from(pid).unwrap()));
    assert!(working.await.unwrap().is_err());
}

#[tokio::test]
async fn a_paused_server_freezes_open_connections_too() {
    let postgres = private(Profile::Fast).await;
    let mut open = PgConnection::connect(postgres.url()).await.unwrap();
    postgres.pause().await.unwrap();
    {
        let query = sqlx::query("select 1").execute(&mut open);
        let mut query = std::pin::pin!(query);
        let early = tokio::time::timeout(Duration::from_millis(200), &mut query).await;
        assert!(early.is_err(), "a frozen backend answered");
        postgres.resume().await.unwrap();
        query.await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_disk_is_felt_by_each_commit_and_can_be_switched_off() {
    let delay = Duration::from_millis(40);
    let postgres = private(Profile::SlowFsync(delay)).await;
    let database = postgres.database("notes", SCHEMA).await.unwrap();
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let started = Instant::now();
    for id in 10..15 {
        let insert = sqlx::query("insert into notes values ($1, 'slow')").bind(id);
        insert.execute(&mut connection).await.unwrap();
    }
    // A lower bound only: a real disk may add as much as it likes.
    assert!(started.elapsed() >= 5 * delay, "took {:?}", started.elapsed());
    postgres.slow_fsync().expect("asked for").set_delay(Duration::ZERO).unwrap();
    write(database.url(), 20).await;
}

#[tokio::test]
async fn more_settings_win() {
    let settings = vec![("max_connections".to_owned(), "17".to_owned())];
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let postgres = infra::postgres_with(options).await.unwrap();
    assert_eq!(setting(postgres.url(), "max_connections").await, "17");
}
