//! A store of links as a candidate writes it, right when nothing is switched on, and every mistake
//! we have seen candidates (and shipped shorteners) make, one switch each.

use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;

use url_shortener::Code;
use url_shortener::clicks::{ClickBatch, ClickLog, Day, DayTally};
use url_shortener::codes::Sequences;
use url_shortener::conformance::Fixture;
use url_shortener::keys::{KeyRecord, Keys};
use url_shortener::link::{
    Change, Created, Creation, Entry, Error, Link, LinkId, Links, Listing, OwnedEntry, Owner,
    REPLAY_KEPT_MS, State, Version, Why,
};

testkit::mistakes! {
    /// A mistake.
    pub(crate) enum Bug {
        DropsTheTags => a_link_is_found_as_it_was_written,
        ChecksThenInserts => one_code_has_one_winner,
        OverwritesATakenCode => one_code_has_one_winner,
        CodesIgnoreCase => codes_differ_by_case,
        FreesDeletedCodes => a_deleted_code_stays_taken,
        AnybodyMayRead => a_link_belongs_to_its_owner,
        AnybodyMayDelete => a_link_belongs_to_its_owner,
        IgnoresTheVersion => a_stale_version_changes_nothing,
        ReadsThenWritesTheVersion => concurrent_changes_are_not_lost,
        VersionStaysTheSame => a_stale_version_changes_nothing,
        NullMeansUnchanged => a_change_touches_only_its_fields,
        RepeatsCreateAgain => a_repeated_create_answers_the_same_bytes,
        RepliesOutsideTheTransaction => a_repeated_create_answers_the_same_bytes,
        AnswersARepeatAfresh => a_repeated_create_answers_the_same_bytes,
        KeyWithoutFingerprint => a_repeated_create_answers_the_same_bytes,
        KeysAreGlobal => an_idempotency_key_is_its_owners,
        RemembersRefusals => a_refused_create_is_not_remembered,
        ForgetsRepliesTooEarly => replies_are_forgotten_after_a_day_and_not_before,
        NeverForgetsReplies => replies_are_forgotten_after_a_day_and_not_before,
        OneBadRowFailsTheBatch => rows_of_a_batch_stand_alone,
        PagesByOffset => pages_neither_repeat_nor_skip,
        TagsByPrefix => tags_and_search_find_exactly_theirs,
        SearchTakesWildcards => tags_and_search_find_exactly_theirs,
        VisitsReadThenWrite => a_limited_link_admits_exactly_that_many,
        OneVisitTooMany => a_limited_link_admits_exactly_that_many,
        LookingCounts => a_limited_link_admits_exactly_that_many,
        IndexForgetsDeleted => an_index_sees_every_link,
        CountsARepeatedBatch => a_batch_of_clicks_counts_once,
        LastSketchWins => visitors_of_several_batches_are_merged,
        LeasesOverlap => leased_numbers_are_nobody_elses,
        SecretPerServer => the_secret_stays,
        RevokedKeysStay => keys_come_and_go,
    }
}

/// The fixture: servers that share their rows.
pub(crate) struct NaiveFixture {
    pub(crate) bug: Option<Bug>,
    pub(crate) rows: Arc<Mutex<Rows>>,
}

impl Fixture for NaiveFixture {
    type Store = Naive;

    async fn servers(&self, count: usize) -> Vec<Arc<Naive>> {
        let server = |number| Naive { bug: self.bug, number, rows: Arc::clone(&self.rows) };
        (0..count as u8).map(|number| Arc::new(server(number))).collect()
    }
}

#[derive(Default)]
pub(crate) struct Rows {
    links: Vec<Row>,
    replies: Vec<Reply>,
    clicks: Vec<(LinkId, Day, DayTally)>,
    batches: Vec<(String, u64)>,
    leased: u64,
    keys: Vec<KeyRecord>,
}

struct Row {
    link: Link,
    deleted: bool,
    visits: u32,
}

struct Reply {
    owner: Owner,
    key: String,
    fingerprint: [u8; 32],
    answer: Option<(Code, Vec<u8>)>,
    at_ms: u64,
}

pub(crate) struct Naive {
    bug: Option<Bug>,
    number: u8,
    rows: Arc<Mutex<Rows>>,
}

impl Naive {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn same_code(&self, a: &Code, b: &Code) -> bool {
        match self.has(Bug::CodesIgnoreCase) {
            true => a.as_str().eq_ignore_ascii_case(b.as_str()),
            false => a == b,
        }
    }

    fn is_taken(&self, rows: &Rows, code: &Code) -> bool {
        let frees = self.has(Bug::FreesDeletedCodes);
        let holds =
            |row: &Row| !(frees && row.deleted) && self.same_code(&row.link.terms.code, code);
        rows.links.iter().any(holds)
    }

    fn live<'a>(&self, rows: &'a mut Rows, code: &Code) -> Result<&'a mut Row, Error> {
        let mut live = rows.links.iter_mut().rev().filter(|row| !row.deleted);
        live.find(|row| self.same_code(&row.link.terms.code, code))
            .ok_or_else(|| Error::NotFound(code.clone()))
    }

    fn owned<'a>(
        &self,
        rows: &'a mut Rows,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
        anybody: Bug,
    ) -> Result<&'a mut Row, Error> {
        let row = self.live(rows, code)?;
        if row.link.terms.owner != *owner && !self.has(anybody) {
            return Err(Error::NotFound(code.clone()));
        }
        match expected {
            Some(expected) if expected != row.link.version && !self.has(Bug::IgnoresTheVersion) => {
                Err(Error::VersionMismatch { current: row.link.version })
            }
            _ => Ok(row),
        }
    }

    fn replay(&self, rows: &Rows, creation: &Creation) -> Option<Result<Created, Error>> {
        let once = creation.once.as_ref().filter(|_| !self.has(Bug::RepeatsCreateAgain))?;
        let same_owner = |of: &Owner| *of == creation.terms.owner || self.has(Bug::KeysAreGlobal);
        let known =
            rows.replies.iter().find(|reply| same_owner(&reply.owner) && reply.key == once.key)?;
        if known.fingerprint != once.fingerprint && !self.has(Bug::KeyWithoutFingerprint) {
            return Some(Err(Error::KeyReused));
        }
        let Some((code, reply)) = known.answer.clone() else {
            return Some(Err(Error::Taken(creation.terms.code.clone())));
        };
        let fresh = self.has(Bug::AnswersARepeatAfresh);
        Some(Ok(Created::Replayed { code, reply: if fresh { once.reply.clone() } else { reply } }))
    }

    fn remember(&self, rows: &mut Rows, creation: &Creation, answer: Option<(Code, Vec<u8>)>) {
        if let Some(once) = &creation.once {
            let owner = creation.terms.owner.clone();
            let (key, fingerprint) = (once.key.clone(), once.fingerprint);
            let at_ms = creation.terms.created_at_ms;
            rows.replies.push(Reply { owner, key, fingerprint, answer, at_ms });
        }
    }

    fn insert(&self, rows: &mut Rows, creation: &Creation) -> Created {
        let mut terms = creation.terms.clone();
        if self.has(Bug::DropsTheTags) {
            terms.tags.clear();
        }
        let id = LinkId(rows.links.len() as u32 + 1);
        let link = Link { id, version: Version::FIRST, enabled: true, terms };
        rows.links.push(Row { link: link.clone(), deleted: false, visits: 0 });
        Created::New(Box::new(link))
    }

    async fn create_one(&self, creation: Creation) -> Result<Created, Error> {
        let code = creation.terms.code.clone();
        if self.has(Bug::ChecksThenInserts) && creation.once.is_none() {
            if self.is_taken(&self.rows.lock().unwrap(), &code) {
                return Err(Error::Taken(code));
            }
            tokio::task::yield_now().await; // another request comes in between
            return Ok(self.insert(&mut self.rows.lock().unwrap(), &creation));
        }
        if self.has(Bug::RepliesOutsideTheTransaction) && creation.once.is_some() {
            if let Some(replayed) = self.replay(&self.rows.lock().unwrap(), &creation) {
                return replayed;
            }
            let created = self.insert(&mut self.rows.lock().unwrap(), &creation);
            tokio::task::yield_now().await; // the link is there, its reply is not
            let reply = creation.once.as_ref().map(|once| (code, once.reply.clone()));
            self.remember(&mut self.rows.lock().unwrap(), &creation, reply);
            return Ok(created);
        }
        let mut rows = self.rows.lock().unwrap();
        if let Some(replayed) = self.replay(&rows, &creation) {
            return replayed;
        }
        if self.is_taken(&rows, &code) && !self.has(Bug::OverwritesATakenCode) {
            if self.has(Bug::RemembersRefusals) {
                self.remember(&mut rows, &creation, None);
            }
            return Err(Error::Taken(code));
        }
        let reply = creation.once.as_ref().map(|once| (code, once.reply.clone()));
        self.remember(&mut rows, &creation, reply);
        Ok(self.insert(&mut rows, &creation))
    }
}

impl Links for Naive {
    async fn create(&self, batch: Vec<Creation>) -> Result<Vec<Result<Created, Error>>, Error> {
        let mut answers = Vec::new();
        for creation in batch {
            answers.push(self.create_one(creation).await);
        }
        if self.has(Bug::OneBadRowFailsTheBatch) && answers.len() > 1 {
            answers.retain(Result::is_err);
        }
        Ok(answers)
    }

    async fn get(&self, owner: &Owner, code: &Code) -> Result<Link, Error> {
        let mut rows = self.rows.lock().unwrap();
        Ok(self.owned(&mut rows, owner, code, None, Bug::AnybodyMayRead)?.link.clone())
    }

    async fn update(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
        mut change: Change,
    ) -> Result<Link, Error> {
        if self.has(Bug::NullMeansUnchanged) {
            change.expires_at_ms = change.expires_at_ms.filter(Option::is_some);
        }
        let never = Bug::RevokedKeysStay;
        if self.has(Bug::ReadsThenWritesTheVersion) {
            let before = self
                .owned(&mut self.rows.lock().unwrap(), owner, code, expected, never)?
                .link
                .clone();
            tokio::task::yield_now().await; // another change comes in between
            let mut rows = self.rows.lock().unwrap();
            let row = self.live(&mut rows, code)?;
            row.link = before.changed(change);
            return Ok(row.link.clone());
        }
        let mut rows = self.rows.lock().unwrap();
        let row = self.owned(&mut rows, owner, code, expected, never)?;
        let version = row.link.version;
        row.link = row.link.clone().changed(change);
        if self.has(Bug::VersionStaysTheSame) {
            row.link.version = version;
        }
        Ok(row.link.clone())
    }

    async fn delete(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
    ) -> Result<Link, Error> {
        let mut rows = self.rows.lock().unwrap();
        let row = self.owned(&mut rows, owner, code, expected, Bug::AnybodyMayDelete)?;
        row.deleted = true;
        row.link.version = row.link.version.next();
        Ok(row.link.clone())
    }

    async fn list(&self, owner: &Owner, listing: &Listing) -> Result<Vec<Link>, Error> {
        let rows = self.rows.lock().unwrap();
        let prefix = self.has(Bug::TagsByPrefix);
        let tagged = |link: &Link, tag: &String| {
            link.terms.tags.iter().any(|known| known == tag || prefix && known.starts_with(tag))
        };
        let wildcards = self.has(Bug::SearchTakesWildcards);
        let contains = |text: &str, part: &str| {
            let (text, part) = (text.to_ascii_lowercase(), part.to_ascii_lowercase());
            text.contains(&part) || wildcards && part.contains(['%', '_'])
        };
        let wanted = |link: &&Link| {
            link.terms.owner == *owner
                && listing.tag.as_ref().is_none_or(|tag| tagged(link, tag))
                && listing.search.as_ref().is_none_or(|part| {
                    contains(link.terms.code.as_str(), part)
                        || contains(link.terms.target.as_str(), part)
                })
        };
        let newest_first = rows.links.iter().rev().filter(|row| !row.deleted);
        let links = newest_first.map(|row| &row.link).filter(wanted).cloned();
        let limit = listing.limit as usize;
        if self.has(Bug::PagesByOffset) {
            // The cursor as a position: what is inserted before it shifts everything.
            let all: Vec<Link> = links.collect();
            let from = match listing.before {
                None => 0,
                Some(before) => all.len().saturating_sub(before.0 as usize - 1),
            };
            return Ok(all.into_iter().skip(from).take(limit).collect());
        }
        let older = links.filter(|link| listing.before.is_none_or(|before| link.id < before));
        Ok(older.take(limit).collect())
    }

    async fn visit(&self, code: &Code, peek: bool) -> Result<Option<u32>, Error> {
        let (max_visits, visits) = {
            let mut rows = self.rows.lock().unwrap();
            let row = self.live(&mut rows, code)?;
            let Some(max_visits) = row.link.terms.max_visits else { return Ok(None) };
            let bound = max_visits + u32::from(self.has(Bug::OneVisitTooMany));
            if row.visits >= bound {
                return Err(Error::Gone(Why::UsedUp));
            }
            if !self.has(Bug::VisitsReadThenWrite) {
                row.visits += u32::from(!peek || self.has(Bug::LookingCounts));
            }
            (bound, row.visits)
        };
        if self.has(Bug::VisitsReadThenWrite) && !peek {
            tokio::task::yield_now().await; // another visitor comes in between
            self.live(&mut self.rows.lock().unwrap(), code)?.visits = visits + 1;
            return Ok(Some(max_visits - visits - 1));
        }
        Ok(Some(max_visits - visits))
    }

    async fn load(&self, mut each: impl FnMut(Entry<'_>) + Send + 'static) -> Result<(), Error> {
        let forgets = self.has(Bug::IndexForgetsDeleted);
        let rows = self.rows.lock().unwrap();
        rows.links.iter().filter(|row| !(forgets && row.deleted)).for_each(|row| each(entry(row)));
        Ok(())
    }

    async fn look_up(&self, code: &Code) -> Result<Option<OwnedEntry>, Error> {
        let rows = self.rows.lock().unwrap();
        let found = rows.links.iter().find(|row| row.link.terms.code == *code);
        Ok(found.map(|row| entry(row).into()))
    }

    async fn housekeep(&self, now_ms: u64) -> Result<(), Error> {
        let kept_ms = match self.bug {
            Some(Bug::ForgetsRepliesTooEarly) => REPLAY_KEPT_MS / 2,
            Some(Bug::NeverForgetsReplies) => u64::MAX,
            _ => REPLAY_KEPT_MS,
        };
        let from = now_ms.saturating_sub(kept_ms);
        self.rows.lock().unwrap().replies.retain(|reply| reply.at_ms >= from);
        Ok(())
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn entry(row: &Row) -> Entry<'_> {
    match row.deleted {
        true => Entry { state: State::Deleted, target: "", ..row.link.entry() },
        false => row.link.entry(),
    }
}

impl Sequences for Naive {
    async fn lease(&self, sequence: &'static str, count: u64) -> Result<Range<u64>, Error> {
        // One counter for all sequences: gaps are allowed.
        let _ = sequence;
        let next = self.rows.lock().unwrap().leased;
        if self.has(Bug::LeasesOverlap) {
            tokio::task::yield_now().await; // another server reads the same number
            self.rows.lock().unwrap().leased = next + count;
            return Ok(next..next + count);
        }
        let mut rows = self.rows.lock().unwrap();
        rows.leased += count;
        Ok(rows.leased - count..rows.leased)
    }

    async fn secret(&self) -> Result<[u8; 32], Error> {
        Ok([1 + if self.has(Bug::SecretPerServer) { self.number } else { 0 }; 32])
    }
}

impl ClickLog for Naive {
    async fn add_clicks(&self, batch: Arc<ClickBatch>) -> Result<(), Error> {
        let mut rows = self.rows.lock().unwrap();
        let of = (batch.writer.clone(), batch.number);
        if rows.batches.contains(&of) && !self.has(Bug::CountsARepeatedBatch) {
            return Ok(());
        }
        rows.batches.push(of);
        for ((link, day), tally) in &batch.rows {
            let known = rows.clicks.iter_mut().find(|(of, on, _)| of == link && on == day);
            match known {
                None => rows.clicks.push((*link, *day, tally.clone())),
                Some((_, _, sum)) => {
                    sum.merge(tally);
                    if self.has(Bug::LastSketchWins) {
                        sum.visitors = tally.visitors.clone();
                    }
                }
            }
        }
        Ok(())
    }

    async fn clicks(&self, link: LinkId) -> Result<Vec<(Day, DayTally)>, Error> {
        let rows = self.rows.lock().unwrap();
        let of_link = rows.clicks.iter().filter(|(of, ..)| *of == link);
        let mut days: Vec<_> = of_link.map(|(_, day, tally)| (*day, tally.clone())).collect();
        days.sort_by_key(|(day, _)| *day);
        Ok(days)
    }
}

impl Keys for Naive {
    async fn add_key(&self, key: KeyRecord) -> Result<(), Error> {
        self.rows.lock().unwrap().keys.push(key);
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>, Error> {
        let mut keys = self.rows.lock().unwrap().keys.clone();
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(keys)
    }

    async fn revoke_key(&self, id: &str) -> Result<bool, Error> {
        let mut rows = self.rows.lock().unwrap();
        let before = rows.keys.len();
        let (found, stays) =
            (rows.keys.iter().any(|key| key.id == id), self.has(Bug::RevokedKeysStay));
        rows.keys.retain(|key| key.id != id || stays);
        Ok(if stays { found } else { rows.keys.len() < before })
    }
}
