//! All links in memory: what makes a redirect cheap, and independent of the database.
//!
//! The database is a log; this is the index over it. It is filled at the start and told of every
//! committed write before the writer is answered. An absent code is a final 404: there are no
//! cache misses, no stampedes, and scanning for codes costs the database nothing.
//!
//! A link is one record of bytes in an arena, and four bytes in a hash table that points to it: a
//! million links with targets of 60 bytes take less than 110 MB.
//!
//! Invariant: of two entries for a code the one with the higher version stays, in whichever order
//! they come. Without it two racing updates, committed in one order and applied here in the other,
//! would leave the index wrong until the next start. Deleted links stay as records without a
//! target for the same reason.

use std::future::Future;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::RwLock;

use crate::code::Code;
use crate::link::{Entry, Error, LinkId, OwnedEntry, Redirect, State, Version};
use crate::lookup::{Found, Lookup};

/// Locks. Readers share them; a write stops the readers of one shard for a microsecond, and for
/// the time of one table growth, which is why the tables are kept small.
const SHARDS: usize = 256;
/// Bytes of a piece of arena. Pieces instead of one growing vector: nothing is ever moved, and no
/// more than this is allocated ahead.
const CHUNK_BYTES: usize = 16 * 1024;
const OFFSET_BITS: u32 = 14;

/// The index.
pub struct Index {
    hasher: RandomState,
    shards: Box<[RwLock<Shard>]>,
}

impl Default for Index {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { hasher: RandomState::default(), shards }
    }
}

impl Index {
    /// Calls `read` with the entry of `code`, deleted ones included; `None` when there never was
    /// such a link.
    ///
    /// # Cost
    /// One hash, one uncontended shared lock, one comparison.
    pub fn find<T>(&self, code: &str, read: impl FnOnce(Entry<'_>) -> T) -> Option<T> {
        let hash = self.hasher.hash_one(code);
        let shard = self.shard(hash).read();
        shard.find(hash, code).map(read)
    }

    /// Takes over `entry`, unless a newer one of the same code is there.
    pub fn apply(&self, entry: Entry<'_>) {
        let hash = self.hasher.hash_one(entry.code);
        let mut shard = self.shard(hash).write();
        match shard.find(hash, entry.code) {
            Some(known) if known.version >= entry.version => {}
            _ => shard.insert(hash, entry, &self.hasher),
        }
    }

    /// Codes in the index, deleted ones included.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().table.len()).sum()
    }

    /// Whether no link was ever created.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes allocated for records and tables.
    pub fn allocated_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().allocated_bytes()).sum()
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        // The table takes its position from the low bits and its tags from the top seven.
        &self.shards[(hash >> 40) as usize & (SHARDS - 1)]
    }
}

impl Lookup for Index {
    fn find_now<T>(&self, code: &str, read: impl FnOnce(Entry<'_>) -> T) -> Found<T> {
        self.find(code, read).map_or(Found::Nowhere, Found::Here)
    }

    /// Asks nobody: what is not here is nowhere.
    async fn find<T: Send, F: Future<Output = Result<Option<OwnedEntry>, Error>> + Send>(
        &self,
        code: &Code,
        _: impl FnOnce() -> F + Send,
        read: impl FnOnce(Entry<'_>) -> T + Send,
    ) -> Result<Option<T>, Error> {
        Ok(Index::find(self, code.as_str(), read))
    }

    fn apply(&self, entry: Entry<'_>) {
        Index::apply(self, entry);
    }
}

#[derive(Default)]
struct Shard {
    table: HashTable<Place>,
    arena: Arena,
}

/// Where a record is: chunk and offset in four bytes.
#[derive(Clone, Copy)]
struct Place(u32);

#[derive(Default)]
struct Arena {
    chunks: Vec<Box<[u8]>>,
    used: usize,
    garbage: usize,
}

impl Shard {
    fn find(&self, hash: u64, code: &str) -> Option<Entry<'_>> {
        let same = |place: &Place| self.arena.record(*place).code() == code.as_bytes();
        self.table.find(hash, same).map(|place| self.arena.record(*place).entry())
    }

    fn insert(&mut self, hash: u64, entry: Entry<'_>, hasher: &RandomState) {
        let place = self.arena.push(entry);
        let arena = &self.arena;
        let same = |known: &Place| arena.record(*known).code() == entry.code.as_bytes();
        if let Some(known) = self.table.find_mut(hash, same) {
            let old = std::mem::replace(known, place);
            self.arena.garbage += self.arena.record(old).len();
            if self.arena.garbage > self.arena.bytes() / 2 && self.arena.chunks.len() > 1 {
                self.compact();
            }
            return;
        }
        let rehash = |place: &Place| hasher.hash_one(arena.record(*place).code_str());
        self.table.insert_unique(hash, place, rehash);
    }

    /// Copies the live records to a new arena: changes leave the old ones behind.
    fn compact(&mut self) {
        let mut arena = Arena::default();
        for place in &mut self.table {
            *place = arena.push(self.arena.record(*place).entry());
        }
        self.arena = arena;
    }

    fn allocated_bytes(&self) -> usize {
        self.arena.bytes() + self.table.allocation_size()
    }
}

impl Arena {
    fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES
    }

    fn push(&mut self, entry: Entry<'_>) -> Place {
        let mut record = [0_u8; RECORD_BYTES_MAX];
        let length = encode(entry, &mut record);
        if self.chunks.is_empty() || self.used + length > CHUNK_BYTES {
            self.chunks.push(vec![0; CHUNK_BYTES].into_boxed_slice());
            self.used = 0;
        }
        let chunk = self.chunks.len() - 1;
        assert!(chunk < 1 << (32 - OFFSET_BITS), "a shard holds at most 4 GiB of records");
        self.chunks[chunk][self.used..self.used + length].copy_from_slice(&record[..length]);
        let place = Place((chunk as u32) << OFFSET_BITS | self.used as u32);
        self.used += length;
        place
    }

    fn record(&self, place: Place) -> Record<'_> {
        let (chunk, offset) = (place.0 >> OFFSET_BITS, place.0 & ((1 << OFFSET_BITS) - 1));
        Record(&self.chunks[chunk as usize][offset as usize..])
    }
}

// flags, id, code length, code, then what the flags announce: version, expiry, target length and
// target. Most links are at version 1 and never expire, so these take no space.
const LIMITED: u8 = 1 << 5;
const EXPIRES: u8 = 1 << 6;
const CHANGED: u8 = 1 << 7;
const HEAD_BYTES: usize = 6;
/// The longest record: head, code, version, expiry, target.
const RECORD_BYTES_MAX: usize =
    HEAD_BYTES + crate::code::CODE_BYTES_MAX + 4 + 8 + 2 + crate::target_url::TARGET_BYTES_MAX;

fn encode(entry: Entry<'_>, record: &mut [u8; RECORD_BYTES_MAX]) -> usize {
    let mut flags = entry.state as u8 | (entry.redirect as u8) << 2;
    flags |= if entry.limited { LIMITED } else { 0 };
    flags |= if entry.expires_at_ms.is_some() { EXPIRES } else { 0 };
    flags |= if entry.version != Version::FIRST { CHANGED } else { 0 };
    let mut length = 0;
    let mut put = |bytes: &[u8]| {
        record[length..length + bytes.len()].copy_from_slice(bytes);
        length += bytes.len();
    };
    put(&[flags]);
    put(&entry.id.0.to_le_bytes());
    put(&[entry.code.len() as u8]);
    put(entry.code.as_bytes());
    if flags & CHANGED != 0 {
        put(&entry.version.0.to_le_bytes());
    }
    if let Some(expires_at_ms) = entry.expires_at_ms {
        put(&expires_at_ms.to_le_bytes());
    }
    put(&(entry.target.len() as u16).to_le_bytes());
    put(entry.target.as_bytes());
    length
}

/// A record and whatever follows it in its chunk.
#[derive(Clone, Copy)]
struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    fn code(self) -> &'a [u8] {
        &self.0[HEAD_BYTES..HEAD_BYTES + self.0[HEAD_BYTES - 1] as usize]
    }

    fn code_str(self) -> &'a str {
        std::str::from_utf8(self.code()).expect("it was a str when it came in")
    }

    fn entry(self) -> Entry<'a> {
        let (flags, mut rest) = (self.0[0], &self.0[HEAD_BYTES + self.code().len()..]);
        let mut take = |length: usize| {
            let (taken, after) = rest.split_at(length);
            rest = after;
            taken
        };
        let version = match flags & CHANGED {
            0 => Version::FIRST,
            _ => Version(u32::from_le_bytes(take(4).try_into().expect("four bytes"))),
        };
        let expires_at_ms = match flags & EXPIRES {
            0 => None,
            _ => Some(u64::from_le_bytes(take(8).try_into().expect("eight bytes"))),
        };
        let length = u16::from_le_bytes(take(2).try_into().expect("two bytes"));
        let target = take(length.into());
        Entry {
            id: LinkId(u32::from_le_bytes(self.0[1..5].try_into().expect("four bytes"))),
            version,
            state: State::ALL[(flags & 3) as usize],
            redirect: Redirect::ALL[(flags >> 2 & 3) as usize],
            limited: flags & LIMITED != 0,
            expires_at_ms,
            code: self.code_str(),
            target: std::str::from_utf8(target).expect("it was a str when it came in"),
        }
    }

    fn len(self) -> usize {
        let entry = self.entry();
        let version = if entry.version == Version::FIRST { 0 } else { 4 };
        let expiry = if entry.expires_at_ms.is_some() { 8 } else { 0 };
        HEAD_BYTES + entry.code.len() + version + expiry + 2 + entry.target.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use testkit::Seed;

    use super::*;

    fn entry<'a>(code: &'a str, target: &'a str, version: u32) -> Entry<'a> {
        Entry {
            id: LinkId(7),
            version: Version(version),
            state: State::Enabled,
            redirect: Redirect::Found,
            limited: false,
            expires_at_ms: None,
            code,
            target,
        }
    }

    #[test]
    fn the_newer_version_stays_in_whichever_order_they_come() {
        let index = Index::default();
        for version in [2, 1, 3, 2] {
            let target = format!("https://example.com/{version}");
            index.apply(entry("abc", &target, version));
        }
        let found = index.find("abc", |entry| (entry.version, entry.target.to_owned()));
        assert_eq!(found, Some((Version(3), "https://example.com/3".to_owned())));
        index.apply(Entry { state: State::Deleted, target: "", ..entry("abc", "", 4) });
        index.apply(entry("abc", "https://example.com/late", 2));
        assert_eq!(index.find("abc", |entry| entry.state), Some(State::Deleted));
        assert_eq!(index.find("ABC", |_| ()), None, "case matters");
    }

    #[test]
    fn agrees_with_a_map_through_many_changes_and_gives_the_space_back() {
        let seed = Seed::from_env_or_fresh();
        let mut rng = seed.rng();
        let (index, mut model) = (Index::default(), HashMap::<String, OwnedEntry>::new());
        for version in 1..60_000_u32 {
            let code = format!("c{}", rng.u32(..3_000));
            let scheme = if rng.bool() { "https" } else { "http" };
            let target = format!("{scheme}://example.com/{}", "x".repeat(rng.usize(..200)));
            let new = Entry {
                id: LinkId(rng.u32(..)),
                state: State::ALL[rng.usize(..3)],
                redirect: Redirect::ALL[rng.usize(..4)],
                limited: rng.bool(),
                expires_at_ms: rng.bool().then(|| rng.u64(..)),
                ..entry(&code, &target, version)
            };
            index.apply(new);
            model.insert(code.clone(), new.into());
        }
        for (code, expected) in &model {
            let found = index.find(code, |entry| OwnedEntry::from(entry)).expect("it was put in");
            assert_eq!(&found, expected);
        }
        assert_eq!(index.len(), model.len());
        let live: usize = model.values().map(|entry| entry.target.len() + 30).sum();
        let allowed = 3 * live + SHARDS * 2 * CHUNK_BYTES;
        assert!(index.allocated_bytes() < allowed, "{} bytes", index.allocated_bytes());
    }

    #[test]
    fn a_link_of_sixty_bytes_takes_less_than_110() {
        let (index, links) = (Index::default(), 100_000);
        for number in 0..links {
            let code = crate::Code::base62(number, 7);
            let target = format!("https://example.com/{number:040}");
            index.apply(entry(code.as_str(), &target, 1));
        }
        let bytes = index.allocated_bytes() as u64 / links;
        assert!(index.len() as u64 == links && bytes < 110, "{bytes} bytes per link");
    }

    #[test]
    fn the_longest_link_fits() {
        let index = Index::default();
        let (code, target) = ("c".repeat(32), format!("http://h/{}", "x".repeat(8_183)));
        let expires_at_ms = Some(u64::MAX);
        index.apply(Entry { expires_at_ms, limited: true, ..entry(&code, &target, u32::MAX) });
        assert_eq!(index.find(&code, |entry| entry.target.len()), Some(8_192));
    }
}
