//! In process, gone with it: the smallest correct answer. One lock around a few maps, so that
//! every method is one step.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clicks::{ClickBatch, ClickLog, Day, DayTally, Tallies};
use crate::code::Code;
use crate::codes::Sequences;
use crate::keys::{KEYS_MAX, KeyRecord, Keys};
use crate::link::{
    Change, Created, Creation, Entry, Error, Link, LinkId, Links, Listing, Once, OwnedEntry, Owner,
    PAGE_LINKS_MAX, REPLAY_KEPT_MS, State, Version, Why,
};

/// The store.
#[derive(Default)]
pub struct Memory {
    state: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    links: BTreeMap<LinkId, Stored>,
    ids: HashMap<Code, LinkId>,
    replies: HashMap<(Owner, String), Reply>,
    clicks: Tallies,
    click_writers: HashMap<String, u64>,
    sequences: HashMap<&'static str, u64>,
    keys: BTreeMap<String, KeyRecord>,
    secret: Option<[u8; 32]>,
}

struct Stored {
    link: Link,
    deleted: bool,
    visits: u32,
}

struct Reply {
    fingerprint: [u8; 32],
    code: Code,
    reply: Vec<u8>,
    created_at_ms: u64,
}

impl Stored {
    fn entry(&self) -> Entry<'_> {
        match self.deleted {
            false => self.link.entry(),
            true => Entry { state: State::Deleted, target: "", ..self.link.entry() },
        }
    }
}

impl Tables {
    fn create(&mut self, creation: Creation) -> Result<Created, Error> {
        let Creation { terms, once } = creation;
        let known = once.as_ref().and_then(|once| {
            self.replies.get(&(terms.owner.clone(), once.key.clone())).map(|reply| (once, reply))
        });
        if let Some((once, known)) = known {
            return match known.fingerprint == once.fingerprint {
                true => {
                    Ok(Created::Replayed { code: known.code.clone(), reply: known.reply.clone() })
                }
                false => Err(Error::KeyReused),
            };
        }
        if self.ids.contains_key(&terms.code) {
            return Err(Error::Taken(terms.code));
        }
        let id = LinkId(self.links.len() as u32 + 1);
        if let Some(Once { key, fingerprint, reply }) = once {
            let (code, created_at_ms) = (terms.code.clone(), terms.created_at_ms);
            let reply = Reply { fingerprint, code, reply, created_at_ms };
            self.replies.insert((terms.owner.clone(), key), reply);
        }
        self.ids.insert(terms.code.clone(), id);
        let link = Link { id, version: Version::FIRST, enabled: true, terms };
        self.links.insert(id, Stored { link: link.clone(), deleted: false, visits: 0 });
        Ok(Created::New(Box::new(link)))
    }

    fn live(&mut self, code: &Code) -> Result<&mut Stored, Error> {
        let id = self.ids.get(code);
        let stored = id.and_then(|id| self.links.get_mut(id)).filter(|stored| !stored.deleted);
        stored.ok_or_else(|| Error::NotFound(code.clone()))
    }

    fn owned(
        &mut self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
    ) -> Result<&mut Stored, Error> {
        let stored = self.live(code)?;
        if stored.link.terms.owner != *owner {
            return Err(Error::NotFound(code.clone()));
        }
        match expected {
            Some(expected) if expected != stored.link.version => {
                Err(Error::VersionMismatch { current: stored.link.version })
            }
            _ => Ok(stored),
        }
    }
}

impl Links for Memory {
    async fn create(&self, batch: Vec<Creation>) -> Result<Vec<Result<Created, Error>>, Error> {
        let mut tables = self.state.lock();
        Ok(batch.into_iter().map(|creation| tables.create(creation)).collect())
    }

    async fn get(&self, owner: &Owner, code: &Code) -> Result<Link, Error> {
        Ok(self.state.lock().owned(owner, code, None)?.link.clone())
    }

    async fn update(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Link, Error> {
        let mut tables = self.state.lock();
        let stored = tables.owned(owner, code, expected)?;
        stored.link = stored.link.clone().changed(change);
        Ok(stored.link.clone())
    }

    async fn delete(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
    ) -> Result<Link, Error> {
        let mut tables = self.state.lock();
        let stored = tables.owned(owner, code, expected)?;
        stored.deleted = true;
        stored.link.version = stored.link.version.next();
        Ok(stored.link.clone())
    }

    async fn list(&self, owner: &Owner, listing: &Listing) -> Result<Vec<Link>, Error> {
        let tables = self.state.lock();
        let before = listing.before.unwrap_or(LinkId(u32::MAX));
        let search = listing.search.as_ref().map(|text| text.to_ascii_lowercase());
        let contains = |text: &str, part: &String| text.to_ascii_lowercase().contains(part);
        let wanted = |link: &Link| {
            link.terms.owner == *owner
                && listing.tag.as_ref().is_none_or(|tag| link.terms.tags.contains(tag))
                && search.as_ref().is_none_or(|part| {
                    contains(link.terms.code.as_str(), part)
                        || contains(link.terms.target.as_str(), part)
                })
        };
        let older = tables.links.range(..before).rev().filter(|(_, stored)| !stored.deleted);
        let links = older.map(|(_, stored)| &stored.link).filter(|link| wanted(link)).cloned();
        Ok(links.take(listing.limit.min(PAGE_LINKS_MAX) as usize).collect())
    }

    async fn visit(&self, code: &Code, peek: bool) -> Result<Option<u32>, Error> {
        let mut tables = self.state.lock();
        let stored = tables.live(code)?;
        let Some(max_visits) = stored.link.terms.max_visits else { return Ok(None) };
        if stored.visits >= max_visits {
            return Err(Error::Gone(Why::UsedUp));
        }
        stored.visits += u32::from(!peek);
        Ok(Some(max_visits - stored.visits))
    }

    async fn load(&self, mut each: impl FnMut(Entry<'_>) + Send + 'static) -> Result<(), Error> {
        self.state.lock().links.values().for_each(|stored| each(stored.entry()));
        Ok(())
    }

    async fn look_up(&self, code: &Code) -> Result<Option<OwnedEntry>, Error> {
        let tables = self.state.lock();
        let stored = tables.ids.get(code).and_then(|id| tables.links.get(id));
        Ok(stored.map(|stored| stored.entry().into()))
    }

    async fn housekeep(&self, now_ms: u64) -> Result<(), Error> {
        let kept_from = now_ms.saturating_sub(REPLAY_KEPT_MS);
        self.state.lock().replies.retain(|_, reply| reply.created_at_ms >= kept_from);
        Ok(())
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Sequences for Memory {
    async fn lease(&self, sequence: &'static str, count: u64) -> Result<Range<u64>, Error> {
        let mut tables = self.state.lock();
        let next = tables.sequences.entry(sequence).or_default();
        let leased = *next..*next + count;
        *next = leased.end;
        Ok(leased)
    }

    async fn secret(&self) -> Result<[u8; 32], Error> {
        let mut tables = self.state.lock();
        match tables.secret {
            Some(secret) => Ok(secret),
            None => Ok(*tables.secret.insert(new_secret()?)),
        }
    }
}

/// A secret for an installation that has none.
pub(crate) fn new_secret() -> Result<[u8; 32], Error> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| Error::unavailable("randomness", error))?;
    Ok(secret)
}

impl ClickLog for Memory {
    async fn add_clicks(&self, batch: Arc<ClickBatch>) -> Result<(), Error> {
        let mut tables = self.state.lock();
        let last = tables.click_writers.entry(batch.writer.clone()).or_default();
        if batch.number <= *last {
            return Ok(());
        }
        *last = batch.number;
        for (of, tally) in &batch.rows {
            tables.clicks.entry(*of).or_default().merge(tally);
        }
        Ok(())
    }

    async fn clicks(&self, link: LinkId) -> Result<Vec<(Day, DayTally)>, Error> {
        let tables = self.state.lock();
        let days = tables.clicks.range((link, Day(0))..=(link, Day(u16::MAX)));
        Ok(days.map(|((_, day), tally)| (*day, tally.clone())).collect())
    }
}

impl Keys for Memory {
    async fn add_key(&self, key: KeyRecord) -> Result<(), Error> {
        let mut tables = self.state.lock();
        if tables.keys.len() >= KEYS_MAX {
            return Err(too_many_keys());
        }
        tables.keys.insert(key.id.clone(), key);
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>, Error> {
        Ok(self.state.lock().keys.values().cloned().collect())
    }

    async fn revoke_key(&self, id: &str) -> Result<bool, Error> {
        Ok(self.state.lock().keys.remove(id).is_some())
    }
}

pub(crate) fn too_many_keys() -> Error {
    Error::invalid("name", format!("would be one key more than the {KEYS_MAX} there may be"))
}
