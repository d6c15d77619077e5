//! The newest hundred of a long conversation: by the interview's index on (sender, receiver,
//! timestamp), and by the sequence.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use chat_service::chat::{Account, PageLimit};
use chat_service::store::postgres::{Postgres, SCHEMA};
use chat_service::store::sqlite::Sqlite;
use chat_service::store::textbook::{Letter, Textbook};
use chat_service::{ConversationId, Store, UserId};
use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::questions::fill;
use measure::harness::{ClosedLoop, Outcome};
use measure::{Bench, Ready, Scenario, Subject};

/// Messages between the two.
const MESSAGES: usize = 100_000;
const PAGE: usize = 100;

/// The textbook's table in Postgres, filled where it stands.
const TEXTBOOK: &str = "
    CREATE TABLE history (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        sender text NOT NULL, receiver text NOT NULL, at_ms bigint NOT NULL, text text NOT NULL
    );
    INSERT INTO history (sender, receiver, at_ms, text)
    SELECT CASE n % 2 WHEN 0 THEN 'alice' ELSE 'bob' END,
           CASE n % 2 WHEN 0 THEN 'bob' ELSE 'alice' END, n / 2, repeat('x', 200)
    FROM generate_series(0, 99999) AS n;
    CREATE INDEX by_pair ON history (sender, receiver, at_ms);
    ANALYZE history;";
const NEWEST: &str = "
    SELECT sender, at_ms, text FROM history
    WHERE (sender = $1 AND receiver = $2) OR (sender = $2 AND receiver = $1)
    ORDER BY at_ms DESC LIMIT $3";

pub(super) async fn compare(bench: &Bench, server: &infra::Postgres) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let textbook = Arc::new(Textbook::open(&directory.path().join("textbook.db"))?);
    let letter = |index: usize| Letter {
        sender: if index.is_multiple_of(2) { "alice" } else { "bob" }.to_owned(),
        receiver: if index.is_multiple_of(2) { "bob" } else { "alice" }.to_owned(),
        at_ms: index as u64 / 2,
        text: "x".repeat(200),
    };
    for from in (0..MESSAGES).step_by(5_000) {
        textbook.send((from..from + 5_000).map(letter).collect()).await?;
    }
    let sqlite = Arc::new(Sqlite::open(&directory.path().join("log.db")).await?);
    let in_sqlite = filled(&*sqlite).await?;
    let database = server.database("chat_pages", SCHEMA).await?;
    let postgres = Arc::new(Postgres::connect(database.url()).await?);
    let in_postgres = filled(&*postgres).await?;
    let pool = PgPoolOptions::new().max_connections(2).connect(database.url()).await?;
    sqlx::raw_sql(TEXTBOOK).execute(&pool).await?;

    let about = format!("the newest {PAGE} of {MESSAGES} messages between two people, one reader");
    let scenario = Scenario::new("newest-page", about, "interview index, sqlite");
    let scenario = Scenario {
        rounds: Some(bench.pick(1, 3, 6)),
        warm_up: Duration::from_millis(200),
        ..scenario
    };
    let duration = Duration::from_millis(bench.pick(500, 1_500, 3_000));
    let load = ClosedLoop { workers: 1, duration, seed: bench.seed() };
    let subjects = vec![
        reading("interview index, sqlite", textbook, |textbook| async move {
            textbook.newest("alice", "bob", PAGE).await.map_or(0, |rows| rows.len())
        }),
        reading("sequence, sqlite", sqlite, move |store| newest(store, in_sqlite)),
        reading("interview index, postgres", Arc::new(pool), by_pair),
        reading("sequence, postgres", postgres, move |store| newest(store, in_postgres)),
    ];
    bench.closed(scenario, load, subjects).await
}

/// Alice and Bob, and what they wrote.
async fn filled<S: Store>(store: &S) -> anyhow::Result<ConversationId> {
    let (alice, bob) = (UserId::new("alice")?, UserId::new("bob")?);
    for user in [&alice, &bob] {
        let (user, password_hash) = (user.clone(), String::new());
        store.create_account(Account { user, password_hash }).await?;
    }
    let conversation = store.open_direct(alice.clone(), bob).await?.conversation;
    fill(store, "alice", conversation, MESSAGES, |index| index as u64 / 2).await?;
    let newest = PageLimit::messages(1);
    let last = store.before(alice, conversation, None, newest).await?.messages;
    ensure!(last.first().is_some_and(|message| message.seq.0 == MESSAGES as u64));
    Ok(conversation)
}

async fn newest<S: Store>(store: Arc<S>, conversation: ConversationId) -> usize {
    let Ok(bob) = UserId::new("bob") else { return 0 };
    let page = store.before(bob, conversation, None, PageLimit::messages(PAGE)).await;
    page.map_or(0, |page| page.messages.len())
}

async fn by_pair(pool: Arc<PgPool>) -> usize {
    let newest = sqlx::query(NEWEST).bind("alice").bind("bob").bind(PAGE as i64);
    newest.fetch_all(&*pool).await.map_or(0, |rows| rows.len())
}

/// A subject that reads one page; nothing is written, so every run reads the same rows.
fn reading<T, Fut>(
    name: &'static str,
    of: Arc<T>,
    page: impl Fn(Arc<T>) -> Fut + Clone + Send + Sync + 'static,
) -> Subject
where
    T: Send + Sync + 'static,
    Fut: Future<Output = usize> + Send + 'static,
{
    Subject::answer(name, move || {
        let (of, page) = (Arc::clone(&of), page.clone());
        async move {
            let op = move |_| {
                let reading = page(Arc::clone(&of));
                async move { whole(reading.await) }
            };
            Ok(Ready::new(op, |summary| async move {
                let read: u64 = summary.ok.values().sum();
                (read > 0).then_some(()).ok_or_else(|| "nothing was read".to_owned())
            }))
        }
    })
}

fn whole(messages: usize) -> Outcome {
    if messages == PAGE { Ok("page") } else { Err("a page of another size") }
}
