//! Postgres: for several servers over the same links.
//!
//! Each server has an index of its own. A transaction that changes links notifies the others
//! (`NOTIFY` is delivered when it commits, never before), and they read the changed rows. A
//! notification can be lost with its connection, so each server also asks twice a second for what
//! changed lately: the one makes it fast, the other makes it certain. A redirect is at most a
//! second behind.

use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use sqlx::postgres::{PgListener, PgPoolOptions, PgRow};
use sqlx::{PgConnection, PgPool, Row};

use super::memory::{new_secret, too_many_keys};
use crate::code::Code;
use crate::codes::Sequences;
use crate::keys::{KEYS_MAX, KeyRecord, Keys};
use crate::link::{
    Change, Created, Creation, Entry, Error, Link, LinkId, Links, Listing, Once, OwnedEntry, Owner,
    PAGE_LINKS_MAX, REPLAY_KEPT_MS, Redirect, State, Terms, Version, Why,
};
use crate::target_url::TargetUrl;

mod clicks;

/// Connections of one server. Postgres does its best work with a few per core; more callers wait
/// here, where it costs nothing.
const CONNECTIONS_MAX: u32 = 10;
/// How long a caller waits for a connection before it is told that the store is down.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Times a transaction is tried again after a deadlock or a serialization failure.
const ATTEMPTS_MAX: u32 = 5;
/// How often changes are asked for, notified or not: half of how stale a redirect may be.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// How far back a poll looks: a transaction may commit this much after its statement ran. One that
/// takes longer is found by its notification.
const POLL_OVERLAP_US: i64 = 2_000_000;
/// How far back the first look after a lost connection goes. No transaction here lasts so long:
/// each statement is cut off after ten seconds.
const CATCH_UP_OVERLAP_US: i64 = 60_000_000;
/// Replies forgotten in one pass: a pass over a backlog would hold its locks, and the one
/// connection, for as long as the backlog is.
const FORGET_ROWS: i64 = 5_000;
const CHANNEL: &str = "url_shortener_links";
/// Any number, the same in every server: they take turns at the schema.
const SCHEMA_LOCK: i64 = 0x7573_686f_7274;

/// The schema, for tests that make their own database.
pub const SCHEMA: &str = include_str!("postgres/schema.sql");

/// The store.
pub struct Postgres {
    pool: PgPool,
    /// Up to where this server knows all changes, by the clock of Postgres.
    seen_until_us: AtomicI64,
}

impl Postgres {
    /// Connects, and makes the tables when they are not there.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let options = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_TIME_MAX)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    let limits = "SET statement_timeout = '10s'; \
                                  SET idle_in_transaction_session_timeout = '10s'";
                    sqlx::raw_sql(limits).execute(connection).await.map(drop)
                })
            });
        let pool = options.connect(url).await?;
        let mut tx = pool.begin().await?;
        // Trap: CREATE IF NOT EXISTS is no protection between two transactions at once.
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(SCHEMA_LOCK).execute(&mut *tx).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Self { pool, seen_until_us: AtomicI64::new(0) })
    }

    async fn now_us(&self) -> Result<i64, Error> {
        let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        Ok(sqlx::query_scalar(now).fetch_one(&self.pool).await?)
    }

    async fn entries(
        &self,
        of: Entries<'_>,
        mut each: impl FnMut(Entry<'_>) + Send,
    ) -> Result<i64, Error> {
        let sql = include_str!("postgres/entries.sql");
        let (from, to) = of.ids.map_or((None, None), |(from, to)| (Some(from), Some(to)));
        let query = sqlx::query(sql).bind(from).bind(to).bind(of.changed_from_us).bind(of.code);
        let mut rows = query.fetch(&self.pool);
        let mut newest_us = 0;
        while let Some(row) = rows.try_next().await? {
            newest_us = newest_us.max(row.try_get(8)?);
            each(entry(&row)?);
        }
        Ok(newest_us)
    }

    async fn notify(tx: &mut PgConnection, ids: (i64, i64)) -> Result<(), Error> {
        let payload = format!("{} {}", ids.0, ids.1);
        let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload);
        notify.execute(tx).await?;
        Ok(())
    }
}

/// Which entries to read; no condition means all.
#[derive(Clone, Copy, Default)]
struct Entries<'a> {
    ids: Option<(i64, i64)>,
    changed_from_us: Option<i64>,
    code: Option<&'a str>,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Error::unavailable("Postgres", error)
    }
}

/// Deadlock or serialization failure: nothing happened, the same transaction may work now.
fn may_be_repeated(error: &Error) -> bool {
    let Error::Unavailable { source: Some(source), .. } = error else { return false };
    let database = source.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    database.and_then(|error| error.code()).is_some_and(|code| code == "40P01" || code == "40001")
}

impl Links for Postgres {
    async fn create(&self, batch: Vec<Creation>) -> Result<Vec<Result<Created, Error>>, Error> {
        for _ in 1..ATTEMPTS_MAX {
            match self.try_create(&batch).await {
                Err(error) if may_be_repeated(&error) => {}
                done => return done,
            }
        }
        self.try_create(&batch).await
    }

    async fn get(&self, owner: &Owner, code: &Code) -> Result<Link, Error> {
        let query = sqlx::query(include_str!("postgres/get_link.sql"));
        let row = query.bind(code.as_str()).bind(&owner.0).fetch_optional(&self.pool).await?;
        link(&row.ok_or_else(|| Error::NotFound(code.clone()))?)
    }

    async fn update(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Link, Error> {
        let mut tx = self.pool.begin().await?;
        let link = lock(&mut tx, owner, code, expected).await?.changed(change);
        let state = if link.enabled { State::Enabled } else { State::Disabled };
        write(&mut tx, &link, state).await?;
        tx.commit().await?;
        Ok(link)
    }

    async fn delete(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
    ) -> Result<Link, Error> {
        let mut tx = self.pool.begin().await?;
        let mut link = lock(&mut tx, owner, code, expected).await?;
        link.version = link.version.next();
        // The target is forgotten; only that the code was used is kept.
        let target = TargetUrl::stored(String::new());
        let terms = Terms { target, tags: vec![], ..link.terms.clone() };
        write(&mut tx, &Link { terms, ..link.clone() }, State::Deleted).await?;
        tx.commit().await?;
        Ok(link)
    }

    async fn list(&self, owner: &Owner, listing: &Listing) -> Result<Vec<Link>, Error> {
        let search = listing.search.as_ref().map(|text| text.to_ascii_lowercase());
        let rows = sqlx::query(include_str!("postgres/list_links.sql"))
            .bind(&owner.0)
            .bind(listing.before.map_or(i64::MAX, |id| i64::from(id.0)))
            // Postgres has no text with a NUL in it, so no tag or target has one either.
            .bind(listing.tag.as_ref().map(|tag| tag.replace('\0', "\u{fffd}")))
            .bind(search.map(|text| text.replace('\0', "\u{fffd}")))
            .bind(i64::from(listing.limit.min(PAGE_LINKS_MAX)))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(link).collect()
    }

    async fn visit(&self, code: &Code, peek: bool) -> Result<Option<u32>, Error> {
        if !peek {
            let charge = sqlx::query_scalar(include_str!("postgres/visit_link.sql"));
            let left: Option<i64> = charge.bind(code.as_str()).fetch_optional(&self.pool).await?;
            if let Some(left) = left {
                return Ok(Some(left as u32));
            }
        }
        // Not charged: there is no limit, no visit left, or no link.
        let left = sqlx::query_scalar(
            "SELECT max_visits - visits FROM links WHERE code = $1 AND state <> 2",
        );
        let left: Option<Option<i64>> = left.bind(code.as_str()).fetch_optional(&self.pool).await?;
        match left.ok_or_else(|| Error::NotFound(code.clone()))? {
            None => Ok(None),
            Some(..1) => Err(Error::Gone(Why::UsedUp)),
            Some(left) => Ok(Some(left as u32)),
        }
    }

    async fn load(&self, each: impl FnMut(Entry<'_>) + Send + 'static) -> Result<(), Error> {
        let begun_us = self.now_us().await?;
        self.entries(Entries::default(), each).await?;
        self.seen_until_us.store(begun_us, Ordering::Relaxed);
        Ok(())
    }

    async fn look_up(&self, code: &Code) -> Result<Option<OwnedEntry>, Error> {
        let mut found = None;
        let of = Entries { code: Some(code.as_str()), ..Entries::default() };
        self.entries(of, |entry| found = Some(entry.into())).await?;
        Ok(found)
    }

    async fn watch(&self, mut each: impl FnMut(Entry<'_>) + Send) -> Result<(), Error> {
        if self.seen_until_us.load(Ordering::Relaxed) == 0 {
            // Nothing was loaded, so nothing can have been missed but what was asked for just now.
            self.seen_until_us.store(self.now_us().await?, Ordering::Relaxed);
        }
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(CHANNEL).await?;
        // Listening first, then looking back: what commits in between is seen twice, not never.
        let mut overlap_us = CATCH_UP_OVERLAP_US;
        loop {
            let from = self.seen_until_us.load(Ordering::Relaxed) - overlap_us;
            let of = Entries { changed_from_us: Some(from), ..Entries::default() };
            let newest_us = self.entries(of, &mut each).await?;
            self.seen_until_us.fetch_max(newest_us, Ordering::Relaxed);
            overlap_us = POLL_OVERLAP_US;
            let poll = tokio::time::sleep(POLL_EVERY);
            tokio::pin!(poll);
            loop {
                let notified = tokio::select! {
                    () = &mut poll => break,
                    notified = listener.try_recv() => notified?,
                };
                let lost = || Error::Unavailable {
                    what: "the connection that listens for changes".to_owned(),
                    source: None,
                };
                let notification = notified.ok_or_else(lost)?;
                if let Some(ids) = parse_ids(notification.payload()) {
                    self.entries(Entries { ids: Some(ids), ..Entries::default() }, &mut each)
                        .await?;
                }
            }
        }
    }

    async fn housekeep(&self, now_ms: u64) -> Result<(), Error> {
        let old = sqlx::query(include_str!("postgres/forget_replies.sql"));
        let kept_from = now_ms.saturating_sub(REPLAY_KEPT_MS) as i64;
        old.bind(kept_from).bind(FORGET_ROWS).execute(&self.pool).await?;
        Ok(())
    }

    async fn ping(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }
}

fn parse_ids(payload: &str) -> Option<(i64, i64)> {
    let (from, to) = payload.split_once(' ')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

impl Postgres {
    async fn try_create(&self, batch: &[Creation]) -> Result<Vec<Result<Created, Error>>, Error> {
        let mut tx = self.pool.begin().await?;
        let mut answers = Vec::with_capacity(batch.len());
        if batch.iter().all(|creation| creation.once.is_none()) {
            let terms: Vec<&Terms> = batch.iter().map(|creation| &creation.terms).collect();
            answers = insert(&mut tx, &terms).await?;
        } else {
            for creation in batch {
                answers.push(create_once(&mut tx, creation).await?);
            }
        }
        let new = answers.iter().filter_map(|answer| match answer {
            Ok(Created::New(link)) => Some(i64::from(link.id.0)),
            _ => None,
        });
        let ids = new.fold(None, |ids: Option<(i64, i64)>, id| {
            Some(ids.map_or((id, id), |(from, to)| (from.min(id), to.max(id))))
        });
        if let Some(ids) = ids {
            Self::notify(&mut tx, ids).await?;
        }
        tx.commit().await?;
        Ok(answers)
    }
}

/// One row that may come again. The reply goes in first: of two requests with one key the second
/// waits at its primary key until the first has committed, and then finds the reply.
async fn create_once(
    tx: &mut PgConnection,
    creation: &Creation,
) -> Result<Result<Created, Error>, Error> {
    let terms = &creation.terms;
    let Some(Once { key, fingerprint, reply }) = &creation.once else {
        return Ok(insert(tx, &[terms]).await?.remove(0));
    };
    sqlx::query("SAVEPOINT one_row").execute(&mut *tx).await?;
    let first =
        sqlx::query("INSERT INTO replies VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING")
            .bind(&terms.owner.0)
            .bind(key)
            .bind(&fingerprint[..])
            .bind(terms.code.as_str())
            .bind(reply)
            .bind(terms.created_at_ms as i64)
            .execute(&mut *tx)
            .await?;
    if first.rows_affected() == 0 {
        let known = "SELECT fingerprint, code, reply FROM replies WHERE owner = $1 AND key = $2";
        let row = sqlx::query(known).bind(&terms.owner.0).bind(key).fetch_one(&mut *tx).await?;
        return Ok(match row.try_get::<&[u8], _>(0)? == fingerprint {
            true => Ok(Created::Replayed {
                code: Code::parse(row.try_get(1)?)?,
                reply: row.try_get(2)?,
            }),
            false => Err(Error::KeyReused),
        });
    }
    let answer = insert(tx, &[terms]).await?.remove(0);
    if answer.is_err() {
        // The code was taken: the key may be used again.
        sqlx::query("ROLLBACK TO SAVEPOINT one_row").execute(&mut *tx).await?;
    }
    Ok(answer)
}

/// Inserts all rows whose code is free, and answers each in its place.
async fn insert(
    tx: &mut PgConnection,
    rows: &[&Terms],
) -> Result<Vec<Result<Created, Error>>, Error> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| (&rows[*row].code, *row));
    let sorted = || order.iter().map(|row| rows[*row]);
    let tags = sorted().map(|terms| serde_json::to_string(&terms.tags).expect("strings are JSON"));
    let inserted = sqlx::query(include_str!("postgres/create_links.sql"))
        .bind(sorted().map(|terms| terms.code.as_str()).collect::<Vec<_>>())
        .bind(sorted().map(|terms| terms.target.as_str()).collect::<Vec<_>>())
        .bind(sorted().map(|terms| terms.owner.0.as_str()).collect::<Vec<_>>())
        .bind(sorted().map(|terms| terms.created_at_ms as i64).collect::<Vec<_>>())
        .bind(sorted().map(|terms| terms.expires_at_ms.map(|at| at as i64)).collect::<Vec<_>>())
        .bind(sorted().map(|terms| terms.max_visits.map(i64::from)).collect::<Vec<_>>())
        .bind(sorted().map(|terms| terms.redirect.status() as i16).collect::<Vec<_>>())
        .bind(tags.collect::<Vec<_>>())
        .bind(sorted().map(|terms| terms.unlisted).collect::<Vec<_>>())
        .fetch_all(tx)
        .await?;
    let mut ids = std::collections::HashMap::with_capacity(inserted.len());
    for row in &inserted {
        ids.insert(row.try_get::<String, _>(0)?, id(row.try_get(1)?)?);
    }
    let answer = |terms: &&Terms| match ids.remove(terms.code.as_str()) {
        Some(id) => {
            let link = Link { id, version: Version::FIRST, enabled: true, terms: (*terms).clone() };
            Ok(Created::New(Box::new(link)))
        }
        // Taken before, or by an earlier row of this batch.
        None => Err(Error::Taken(terms.code.clone())),
    };
    Ok(rows.iter().map(answer).collect())
}

async fn lock(
    tx: &mut PgConnection,
    owner: &Owner,
    code: &Code,
    expected: Option<Version>,
) -> Result<Link, Error> {
    let query = sqlx::query(include_str!("postgres/lock_link.sql"));
    let row = query.bind(code.as_str()).bind(&owner.0).fetch_optional(tx).await?;
    let link = link(&row.ok_or_else(|| Error::NotFound(code.clone()))?)?;
    match expected {
        Some(expected) if expected != link.version => {
            Err(Error::VersionMismatch { current: link.version })
        }
        _ => Ok(link),
    }
}

async fn write(tx: &mut PgConnection, link: &Link, state: State) -> Result<(), Error> {
    let (terms, id) = (&link.terms, i64::from(link.id.0));
    sqlx::query(include_str!("postgres/update_link.sql"))
        .bind(id)
        .bind(i64::from(link.version.0))
        .bind(state as i16)
        .bind(terms.target.as_str())
        .bind(terms.expires_at_ms.map(|at| at as i64))
        .bind(terms.max_visits.map(i64::from))
        .bind(terms.redirect.status() as i16)
        .bind(&terms.tags)
        .execute(&mut *tx)
        .await?;
    Postgres::notify(tx, (id, id)).await
}

fn id(number: i64) -> Result<LinkId, Error> {
    u32::try_from(number).map(LinkId).map_err(|error| Error::unavailable("a link's number", error))
}

fn state(number: i16) -> State {
    State::ALL.get(number as usize).copied().unwrap_or(State::Disabled)
}

fn redirect(status: i16) -> Result<Redirect, Error> {
    Redirect::try_from(status as u16)
        .map_err(|error| Error::unavailable("a stored redirect", std::io::Error::other(error)))
}

fn link(row: &PgRow) -> Result<Link, Error> {
    Ok(Link {
        id: id(row.try_get("id")?)?,
        version: Version(row.try_get::<i64, _>("version")? as u32),
        enabled: state(row.try_get("state")?) == State::Enabled,
        terms: Terms {
            code: Code::parse(row.try_get("code")?)?,
            target: TargetUrl::stored(row.try_get("target")?),
            owner: Owner(row.try_get("owner")?),
            created_at_ms: row.try_get::<i64, _>("created_at_ms")? as u64,
            expires_at_ms: row.try_get::<Option<i64>, _>("expires_at_ms")?.map(|at| at as u64),
            max_visits: row.try_get::<Option<i64>, _>("max_visits")?.map(|visits| visits as u32),
            redirect: redirect(row.try_get("redirect")?)?,
            tags: row.try_get("tags")?,
            unlisted: row.try_get("unlisted")?,
        },
    })
}

fn entry(row: &PgRow) -> Result<Entry<'_>, Error> {
    Ok(Entry {
        id: id(row.try_get(0)?)?,
        version: Version(row.try_get::<i64, _>(1)? as u32),
        state: state(row.try_get(2)?),
        redirect: redirect(row.try_get(3)?)?,
        limited: row.try_get(4)?,
        expires_at_ms: row.try_get::<Option<i64>, _>(5)?.map(|at| at as u64),
        code: row.try_get(6)?,
        target: row.try_get(7)?,
    })
}

impl Sequences for Postgres {
    async fn lease(&self, sequence: &'static str, count: u64) -> Result<Range<u64>, Error> {
        let sql = "INSERT INTO sequences VALUES ($1, $2) \
                   ON CONFLICT (name) DO UPDATE SET next = sequences.next + $2 RETURNING next";
        let step = i64::try_from(count).expect("a lease is small");
        let end: i64 =
            sqlx::query_scalar(sql).bind(sequence).bind(step).fetch_one(&self.pool).await?;
        Ok((end - step) as u64..end as u64)
    }

    async fn secret(&self) -> Result<[u8; 32], Error> {
        let fresh = new_secret()?;
        let make = sqlx::query("INSERT INTO installation VALUES (1, $1) ON CONFLICT DO NOTHING");
        make.bind(&fresh[..]).execute(&self.pool).await?;
        let secret: Vec<u8> =
            sqlx::query_scalar("SELECT secret FROM installation").fetch_one(&self.pool).await?;
        bytes32(&secret)
    }
}

fn bytes32(bytes: &[u8]) -> Result<[u8; 32], Error> {
    bytes.try_into().map_err(|error| Error::unavailable("32 stored bytes", error))
}

impl Keys for Postgres {
    async fn add_key(&self, key: KeyRecord) -> Result<(), Error> {
        let sql = "INSERT INTO api_keys SELECT $1, $2, $3, $4 \
                   WHERE (SELECT count(*) FROM api_keys) < $5";
        let added = sqlx::query(sql)
            .bind(key.id)
            .bind(key.name)
            .bind(&key.hash[..])
            .bind(key.created_at_ms as i64)
            .bind(KEYS_MAX as i64)
            .execute(&self.pool)
            .await?;
        if added.rows_affected() == 0 { Err(too_many_keys()) } else { Ok(()) }
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>, Error> {
        let sql = "SELECT id, name, hash, created_at_ms FROM api_keys ORDER BY id";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        let key = |row: &PgRow| {
            Ok(KeyRecord {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                hash: bytes32(row.try_get(2)?)?,
                created_at_ms: row.try_get::<i64, _>(3)? as u64,
            })
        };
        rows.iter().map(key).collect()
    }

    async fn revoke_key(&self, id: &str) -> Result<bool, Error> {
        let revoke = sqlx::query("DELETE FROM api_keys WHERE id = $1");
        Ok(revoke.bind(id).execute(&self.pool).await?.rows_affected() > 0)
    }
}
