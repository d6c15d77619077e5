//! SQLite, the default: one file, no server, and every acknowledged write is on disk.
//!
//! One thread writes. Whatever queued while it waited for the disk goes into its next transaction
//! ([`group_commit`]), so a commit's fsync is shared by everybody who is waiting.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use group_commit::{Location, Options, Writer};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::memory::{new_secret, too_many_keys};
use crate::clicks::pipeline::CLICKS_PER_TURN;
use crate::clicks::tally::{DayTally, decode_some, encode_row};
use crate::clicks::{ClickBatch, ClickLog, Day, Tallies};
use crate::code::Code;
use crate::codes::Sequences;
use crate::keys::{KEYS_MAX, KeyRecord, Keys};
use crate::link::{
    Change, Created, Creation, Entry, Error, Link, LinkId, Links, Listing, Once, OwnedEntry, Owner,
    PAGE_LINKS_MAX, REPLAY_KEPT_MS, Redirect, State, Terms, Version, Why,
};
use crate::target_url::TargetUrl;
use crate::turns;

/// Bytes of the click log that one [`Links::housekeep`] folds into days: tens of milliseconds of
/// the writer's time, during which creates wait.
const FOLD_BYTES: usize = 64 * 1024;
/// The click log is folded with every batch when it is larger: reading a link's clicks looks
/// through all of it.
const LOG_BYTES_MAX: i64 = 32 * 1024 * 1024;
/// Replies forgotten in one step.
const FORGET_ROWS: u32 = 10_000;

/// Memory for pages. Codes come in no order, so each create touches another page of their index:
/// that of a million links fits, and is not read again from the file for every link.
const CACHE_KIB: u32 = 32 * 1024;
/// Pages in the log before they are copied into the file, 64 MB: for the same reason most of them
/// are there more than once by then, and only the last is copied.
const CHECKPOINT_PAGES: u32 = 16_000;
/// Links of a batch, or links and days of a fold, between two offers of the processor to others:
/// some tens of microseconds.
const ROWS_PER_TURN: usize = 16;

/// The store.
#[derive(Clone)]
pub struct Sqlite {
    writer: Writer,
}

impl Sqlite {
    /// Opens the file, and creates it when it is not there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the step that failed.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let options = Options {
            name: "url-shortener",
            cache_kib: CACHE_KIB,
            checkpoint_pages: CHECKPOINT_PAGES,
            ..Options::default()
        };
        let writer =
            Writer::open(Location::from(path), include_str!("sqlite/schema.sql"), options)?;
        Ok(Self { writer })
    }

    /// Finishes what is queued and closes the file.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

impl From<group_commit::Error> for Error {
    fn from(error: group_commit::Error) -> Self {
        Error::unavailable("SQLite", error)
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        group_commit::Error::from(error).into()
    }
}

impl Links for Sqlite {
    async fn create(&self, batch: Vec<Creation>) -> Result<Vec<Result<Created, Error>>, Error> {
        self.writer
            .call(move |tx| {
                let created = batch.into_iter().enumerate().map(|(row, creation)| {
                    give_way(row);
                    create(tx, creation)
                });
                // A row that was refused wrote nothing; any other error ends the whole batch.
                created
                    .map(|row| match row {
                        Err(error @ Error::Unavailable { .. }) => Err(error),
                        row => Ok(row),
                    })
                    .collect()
            })
            .await
    }

    async fn get(&self, owner: &Owner, code: &Code) -> Result<Link, Error> {
        let (owner, code) = (owner.clone(), code.clone());
        self.writer.read(move |db| get(db, &owner, &code, None)).await
    }

    async fn update(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Link, Error> {
        let (owner, code) = (owner.clone(), code.clone());
        self.writer
            .call(move |tx| {
                let before = get(tx, &owner, &code, expected)?;
                let retag = change.tags.is_some();
                if retag {
                    untag(tx, &before)?;
                }
                let link = before.changed(change);
                write(tx, &link, if link.enabled { State::Enabled } else { State::Disabled })?;
                if retag {
                    tag(tx, link.id, &link.terms)?;
                }
                Ok(link)
            })
            .await
    }

    async fn delete(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
    ) -> Result<Link, Error> {
        let (owner, code) = (owner.clone(), code.clone());
        self.writer
            .call(move |tx| {
                let mut link = get(tx, &owner, &code, expected)?;
                untag(tx, &link)?;
                link.version = link.version.next();
                // The target is forgotten; only that the code was used is kept.
                let target = TargetUrl::stored(String::new());
                let terms = Terms { target, tags: vec![], ..link.terms.clone() };
                write(tx, &Link { terms, ..link.clone() }, State::Deleted)?;
                Ok(link)
            })
            .await
    }

    async fn list(&self, owner: &Owner, listing: &Listing) -> Result<Vec<Link>, Error> {
        let (owner, listing) = (owner.clone(), listing.clone());
        self.writer
            .read(move |db| {
                let before = listing.before.map_or(i64::MAX, |id| i64::from(id.0));
                let search = listing.search.map(|text| text.to_ascii_lowercase());
                let limit = listing.limit.min(PAGE_LINKS_MAX);
                let links: Result<Vec<Link>, rusqlite::Error> = match listing.tag {
                    Some(tag) => db
                        .prepare_cached(include_str!("sqlite/list_links_by_tag.sql"))?
                        .query_map(params![owner.0, before, search, limit, tag], link)?
                        .collect(),
                    None => db
                        .prepare_cached(include_str!("sqlite/list_links.sql"))?
                        .query_map(params![owner.0, before, search, limit], link)?
                        .collect(),
                };
                Ok(links?)
            })
            .await
    }

    async fn visit(&self, code: &Code, peek: bool) -> Result<Option<u32>, Error> {
        let code = code.clone();
        if peek {
            return self.writer.read(move |db| visits_left(db, &code)).await;
        }
        self.writer
            .call(move |tx| {
                let sql = include_str!("sqlite/visit_link.sql");
                let charged = tx.prepare_cached(sql)?.query_row([code.as_str()], |row| row.get(0));
                match charged.optional()? {
                    Some(left) => Ok(Some(left)),
                    // Not charged: there is no limit, no visit left, or no link.
                    None => visits_left(tx, &code),
                }
            })
            .await
    }

    async fn load(&self, mut each: impl FnMut(Entry<'_>) + Send + 'static) -> Result<(), Error> {
        self.writer
            .read(move |db| {
                let mut statement = db.prepare(include_str!("sqlite/entries.sql"))?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    each(entry(row)?);
                }
                Ok(())
            })
            .await
    }

    async fn look_up(&self, code: &Code) -> Result<Option<OwnedEntry>, Error> {
        let code = code.clone();
        self.writer
            .read(move |db| {
                let sql = concat!(include_str!("sqlite/entries.sql"), " WHERE code = ?1");
                let mut statement = db.prepare_cached(sql)?;
                let found =
                    statement.query_row([code.as_str()], |row| entry(row).map(OwnedEntry::from));
                Ok(found.optional()?)
            })
            .await
    }

    async fn housekeep(&self, now_ms: u64) -> Result<(), Error> {
        let kept_from = now_ms.saturating_sub(REPLAY_KEPT_MS);
        let due = self.writer.read(move |db| due(db, kept_from)).await?;
        if !due {
            // The usual second: nothing to write, so no commit and no fsync.
            return Ok(());
        }
        self.writer
            .call(move |tx| {
                let old = "DELETE FROM replies WHERE (owner, key) IN (SELECT owner, key \
                           FROM replies WHERE created_at_ms < ?1 LIMIT ?2)";
                tx.prepare_cached(old)?.execute(params![kept_from as i64, FORGET_ROWS])?;
                fold(tx)
            })
            .await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.writer.read(|db| Ok(db.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }
}

/// Lets redirects go first where they share a core with this thread. The kernel would let a thread
/// that is busy run on for milliseconds, which is ten times what a redirect may take.
fn give_way(row: usize) {
    if row % ROWS_PER_TURN == ROWS_PER_TURN - 1 {
        std::thread::yield_now();
    }
}

fn create(tx: &Connection, creation: Creation) -> Result<Created, Error> {
    let Creation { terms, once } = creation;
    if let Some(once) = &once
        && let Some(replayed) = replay(tx, &terms.owner, once)?
    {
        return replayed;
    }
    let tags = serde_json::to_string(&terms.tags).expect("strings are JSON");
    let created = tx.prepare_cached(include_str!("sqlite/create_link.sql"))?.execute(params![
        terms.code.as_str(),
        terms.target.as_str(),
        terms.owner.0,
        terms.created_at_ms as i64,
        terms.expires_at_ms.map(|at| at as i64),
        terms.max_visits,
        terms.redirect.status(),
        tags,
        terms.unlisted,
    ])?;
    if created == 0 {
        return Err(Error::Taken(terms.code));
    }
    let id = LinkId(u32::try_from(tx.last_insert_rowid()).map_err(|_| full())?);
    tag(tx, id, &terms)?;
    if let Some(Once { key, fingerprint, reply }) = once {
        let sql = "INSERT INTO replies VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let (code, at) = (terms.code.as_str(), terms.created_at_ms as i64);
        tx.prepare_cached(sql)?.execute(params![
            terms.owner.0,
            key,
            fingerprint,
            code,
            reply,
            at
        ])?;
    }
    Ok(Created::New(Box::new(Link { id, version: Version::FIRST, enabled: true, terms })))
}

/// The stored reply when the request came before, or that another request did.
fn replay(
    tx: &Connection,
    owner: &Owner,
    once: &Once,
) -> Result<Option<Result<Created, Error>>, Error> {
    let sql = "SELECT fingerprint, code, reply FROM replies WHERE owner = ?1 AND key = ?2";
    let found = tx.prepare_cached(sql)?.query_row(params![owner.0, once.key], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?, row.get(2)?))
    });
    Ok(found.optional()?.map(|(fingerprint, code, reply)| match fingerprint == once.fingerprint {
        true => Ok(Created::Replayed { code: Code::parse(&code)?, reply }),
        false => Err(Error::KeyReused),
    }))
}

fn get(
    db: &Connection,
    owner: &Owner,
    code: &Code,
    expected: Option<Version>,
) -> Result<Link, Error> {
    let mut statement = db.prepare_cached(include_str!("sqlite/get_link.sql"))?;
    let found = statement.query_row(params![code.as_str(), owner.0], link).optional()?;
    let link = found.ok_or_else(|| Error::NotFound(code.clone()))?;
    match expected {
        Some(expected) if expected != link.version => {
            Err(Error::VersionMismatch { current: link.version })
        }
        _ => Ok(link),
    }
}

fn visits_left(db: &Connection, code: &Code) -> Result<Option<u32>, Error> {
    let sql = "SELECT max_visits - visits FROM links WHERE code = ?1 AND state <> 2";
    let found = db.prepare_cached(sql)?.query_row([code.as_str()], |row| row.get(0)).optional()?;
    match found.ok_or_else(|| Error::NotFound(code.clone()))? {
        None => Ok(None),
        // The limit may have been lowered below the visits made.
        Some(..1_i64) => Err(Error::Gone(Why::UsedUp)),
        Some(left) => Ok(Some(left as u32)),
    }
}

fn write(tx: &Connection, link: &Link, state: State) -> Result<(), Error> {
    let terms = &link.terms;
    tx.prepare_cached(include_str!("sqlite/update_link.sql"))?.execute(params![
        link.id.0,
        link.version.0,
        state as u8,
        terms.target.as_str(),
        terms.expires_at_ms.map(|at| at as i64),
        terms.max_visits,
        terms.redirect.status(),
        serde_json::to_string(&terms.tags).expect("strings are JSON"),
    ])?;
    Ok(())
}

fn tag(tx: &Connection, id: LinkId, terms: &Terms) -> Result<(), Error> {
    for tag in &terms.tags {
        let sql = "INSERT OR IGNORE INTO link_tags VALUES (?1, ?2, ?3)";
        tx.prepare_cached(sql)?.execute(params![terms.owner.0, tag, id.0])?;
    }
    Ok(())
}

fn untag(tx: &Connection, link: &Link) -> Result<(), Error> {
    for tag in &link.terms.tags {
        let sql = "DELETE FROM link_tags WHERE owner = ?1 AND tag = ?2 AND link_id = ?3";
        tx.prepare_cached(sql)?.execute(params![link.terms.owner.0, tag, link.id.0])?;
    }
    Ok(())
}

fn link(row: &Row<'_>) -> rusqlite::Result<Link> {
    let code: String = row.get("code")?;
    let tags: String = row.get("tags")?;
    Ok(Link {
        id: LinkId(row.get("id")?),
        version: Version(row.get("version")?),
        enabled: state(row.get("state")?) == State::Enabled,
        terms: Terms {
            code: Code::parse(&code).map_err(|error| corrupt("code", error))?,
            target: TargetUrl::stored(row.get("target")?),
            owner: Owner(row.get("owner")?),
            created_at_ms: row.get::<_, i64>("created_at_ms")? as u64,
            expires_at_ms: row.get::<_, Option<i64>>("expires_at_ms")?.map(|at| at as u64),
            max_visits: row.get("max_visits")?,
            redirect: redirect(row.get("redirect")?)?,
            tags: serde_json::from_str(&tags).map_err(|error| corrupt("tags", error))?,
            unlisted: row.get("unlisted")?,
        },
    })
}

fn entry<'a>(row: &'a Row<'_>) -> rusqlite::Result<Entry<'a>> {
    let text = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str()?);
    Ok(Entry {
        id: LinkId(row.get(0)?),
        version: Version(row.get(1)?),
        state: state(row.get(2)?),
        redirect: redirect(row.get(3)?)?,
        limited: row.get(4)?,
        expires_at_ms: row.get::<_, Option<i64>>(5)?.map(|at| at as u64),
        code: text(6)?,
        target: text(7)?,
    })
}

fn state(number: u8) -> State {
    State::ALL.get(number as usize).copied().unwrap_or(State::Disabled)
}

fn redirect(status: u16) -> rusqlite::Result<Redirect> {
    Redirect::try_from(status).map_err(|error| corrupt("redirect", std::io::Error::other(error)))
}

fn corrupt(
    column: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    tracing::error!(column, %error, "a stored link cannot be read");
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

impl Sequences for Sqlite {
    async fn lease(&self, sequence: &'static str, count: u64) -> Result<Range<u64>, Error> {
        let step = i64::try_from(count).expect("a lease is small");
        self.writer
            .call(move |tx| {
                let sql = "INSERT INTO sequences VALUES (?1, ?2) \
                           ON CONFLICT DO UPDATE SET next = next + ?2 RETURNING next";
                let end: i64 =
                    tx.prepare_cached(sql)?.query_row(params![sequence, step], |row| row.get(0))?;
                Ok((end - step) as u64..end as u64)
            })
            .await
    }

    async fn secret(&self) -> Result<[u8; 32], Error> {
        let fresh = new_secret()?;
        self.writer
            .call(move |tx| {
                tx.execute("INSERT OR IGNORE INTO installation VALUES (1, ?1)", [fresh])?;
                Ok(tx.query_row("SELECT secret FROM installation", [], |row| row.get(0))?)
            })
            .await
    }
}

impl ClickLog for Sqlite {
    async fn add_clicks(&self, batch: Arc<ClickBatch>) -> Result<(), Error> {
        // Encoded here, not on the writer thread, where creates would wait for it.
        let mut rows = Vec::with_capacity(batch.rows.len() * 24);
        for (done, (of, row)) in batch.rows.iter().enumerate() {
            encode_row(&mut rows, *of, row);
            turns::give_way(done, CLICKS_PER_TURN).await;
        }
        self.writer
            .call(move |tx| {
                let sql = "INSERT INTO click_writers VALUES (?1, ?2) ON CONFLICT DO UPDATE \
                           SET number = excluded.number WHERE number < excluded.number";
                let number = batch.number as i64;
                let news = tx.prepare_cached(sql)?.execute(params![batch.writer, number])?;
                if news == 0 {
                    return Ok(()); // it was committed, only the answer got lost
                }
                tx.prepare_cached("INSERT INTO click_log (rows) VALUES (?1)")?.execute([rows])?;
                match log_bytes(tx)? > LOG_BYTES_MAX {
                    true => fold(tx),
                    false => Ok(()),
                }
            })
            .await
    }

    async fn clicks(&self, link: LinkId) -> Result<Vec<(Day, DayTally)>, Error> {
        self.writer
            .read(move |db| {
                let mut days = Tallies::new();
                let sql = "SELECT day, tally FROM link_days WHERE link_id = ?1";
                let mut statement = db.prepare_cached(sql)?;
                let mut rows = statement.query([link.0])?;
                while let Some(row) = rows.next()? {
                    let bytes = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                    days.insert((link, Day(row.get(0)?)), tally(bytes)?);
                }
                let mut statement = db.prepare_cached("SELECT rows FROM click_log")?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    let bytes = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                    merge(&mut days, &decode_some(bytes, |of| of == link).ok_or_else(garbled)?);
                }
                Ok(days.into_iter().map(|((_, day), tally)| (day, tally)).collect())
            })
            .await
    }
}

fn merge(days: &mut Tallies, batch: &Tallies) {
    for (of, tally) in batch {
        days.entry(*of).or_default().merge(tally);
    }
}

fn tally(mut bytes: &[u8]) -> Result<DayTally, Error> {
    DayTally::decode(&mut bytes).ok_or_else(garbled)
}

/// Links are numbered in 32 bits, here and in every index.
fn full() -> Error {
    Error::Unavailable { what: "there are four thousand million links".to_owned(), source: None }
}

fn garbled() -> Error {
    Error::Unavailable { what: "the stored clicks cannot be read".to_owned(), source: None }
}

fn due(db: &Connection, kept_from: u64) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM click_log) \
               OR EXISTS (SELECT 1 FROM replies WHERE created_at_ms < ?1)";
    Ok(db.prepare_cached(sql)?.query_row([kept_from as i64], |row| row.get(0))?)
}

fn log_bytes(tx: &Connection) -> Result<i64, Error> {
    // Lengths are in the rows' headers: this reads no batch.
    let sql = "SELECT coalesce(sum(length(rows)), 0) FROM click_log";
    Ok(tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Moves the oldest batches of the log, up to [`FOLD_BYTES`] but at least one, into the days. In
/// the same transaction, so that a reader sees every click in exactly one of the two places.
fn fold(tx: &Connection) -> Result<(), Error> {
    let (mut days, mut bytes, mut last) = (Tallies::new(), 0, None);
    {
        let mut statement = tx.prepare_cached("SELECT id, rows FROM click_log ORDER BY id")?;
        let mut rows = statement.query([])?;
        while bytes < FOLD_BYTES
            && let Some(row) = rows.next()?
        {
            let batch = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            bytes += batch.len();
            last = Some(row.get::<_, i64>(0)?);
            merge(&mut days, &decode_some(batch, |_| true).ok_or_else(garbled)?);
        }
    }
    let mut known =
        tx.prepare_cached("SELECT tally FROM link_days WHERE link_id = ?1 AND day = ?2")?;
    let mut store = tx.prepare_cached("INSERT OR REPLACE INTO link_days VALUES (?1, ?2, ?3)")?;
    let mut out = Vec::new();
    for (row, ((link, day), mut sum)) in days.into_iter().enumerate() {
        give_way(row);
        let found = known.query_row(params![link.0, day.0], |row| row.get::<_, Vec<u8>>(0));
        if let Some(bytes) = found.optional()? {
            sum.merge(&tally(&bytes)?);
        }
        out.clear();
        sum.encode(&mut out);
        store.execute(params![link.0, day.0, out])?;
    }
    tx.prepare_cached("DELETE FROM click_log WHERE id <= ?1")?.execute([last])?;
    Ok(())
}

impl Keys for Sqlite {
    async fn add_key(&self, key: KeyRecord) -> Result<(), Error> {
        self.writer
            .call(move |tx| {
                let keys: i64 =
                    tx.query_row("SELECT count(*) FROM api_keys", [], |row| row.get(0))?;
                if keys as usize >= KEYS_MAX {
                    return Err(too_many_keys());
                }
                let row = params![key.id, key.name, key.hash, key.created_at_ms as i64];
                tx.execute("INSERT INTO api_keys VALUES (?1, ?2, ?3, ?4)", row)?;
                Ok(())
            })
            .await
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>, Error> {
        self.writer
            .read(|db| {
                let sql = "SELECT id, name, hash, created_at_ms FROM api_keys ORDER BY id";
                let mut statement = db.prepare_cached(sql)?;
                let keys = statement.query_map([], |row| {
                    let created_at_ms = row.get::<_, i64>(3)? as u64;
                    let (id, name, hash) = (row.get(0)?, row.get(1)?, row.get(2)?);
                    Ok(KeyRecord { id, name, hash, created_at_ms })
                })?;
                Ok(keys.collect::<Result<_, _>>()?)
            })
            .await
    }

    async fn revoke_key(&self, id: &str) -> Result<bool, Error> {
        let id = id.to_owned();
        self.writer
            .call(move |tx| Ok(tx.execute("DELETE FROM api_keys WHERE id = ?1", [id])? > 0))
            .await
    }
}
