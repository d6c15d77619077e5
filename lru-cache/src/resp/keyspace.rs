//! What the commands do: a sharded, expiring cache of byte strings, with counters.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    cache::{AtLeastOne, Cache, Cause, Weigher},
    clock::Clock,
    expiry::{Expiring, Lifetime, Timed},
    resp::{
        command::Command,
        frame::{Reply, Version},
    },
    shared::{Sharded, shards_for},
};

/// Keys and values. Shared: a reply holds the value, not a copy, after the lock is released.
pub type Bytes = Arc<[u8]>;

/// What an entry costs beside its bytes: two copies of the key's pointer, counts of two shared
/// strings, deadlines, a timer, links and table.
const ENTRY_OVERHEAD_BYTES: usize = 192;

/// What the capacity counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// Entries, whatever their size. Memory is then bounded by this number times the largest value.
    Entries(u64),
    /// Bytes of keys, values and bookkeeping.
    Bytes(u64),
}

impl Capacity {
    fn amount(self) -> u64 {
        let (Self::Entries(amount) | Self::Bytes(amount)) = self;
        amount
    }
}

/// Weighs by what the capacity counts.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    in_bytes: bool,
}

impl Weigher<Bytes, Timed<Bytes>> for Scale {
    type Weight = AtLeastOne;

    fn weigh(&self, key: &Bytes, value: &Timed<Bytes>) -> AtLeastOne {
        let bytes = key.len() + value.value().len() + ENTRY_OVERHEAD_BYTES;
        AtLeastOne::new(if self.in_bytes { u32::try_from(bytes).unwrap_or(u32::MAX) } else { 1 })
    }
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
}

type Shards<C, T> = Sharded<Bytes, Bytes, Expiring<Bytes, C, T>>;

/// Everything the server knows.
pub struct Keyspace<C, T> {
    shards: Shards<C, T>,
    make: Box<dyn Fn(u64) -> Expiring<Bytes, C, T> + Send + Sync>,
    counters: Arc<Counters>,
    policy: &'static str,
}

impl<C, T> Keyspace<C, T>
where
    C: Cache<Bytes, Timed<Bytes>> + 'static,
    T: Clock + Clone + Send + Sync + 'static,
{
    /// An empty keyspace whose shards `make` makes, given their capacity and how to weigh.
    pub fn new(
        capacity: Capacity,
        clock: T,
        make: impl Fn(u64, Scale) -> C + Send + Sync + 'static,
    ) -> Self {
        let scale = Scale { in_bytes: matches!(capacity, Capacity::Bytes(_)) };
        let make =
            move |share| Expiring::new(make(share, scale), Lifetime::default(), clock.clone());
        // By bytes, a shard must still have room for the largest value.
        let shards = match capacity {
            Capacity::Entries(entries) => shards_for(entries),
            Capacity::Bytes(bytes) => shards_for(bytes / (8 << 10)),
        };
        let counters: Arc<Counters> = Arc::default();
        let counted = Arc::clone(&counters);
        let policy = make(0).name();
        let shards = Sharded::new(capacity.amount(), shards, &make).with_listener(Box::new(
            move |departure| {
                match departure.cause {
                    Cause::Evicted => counted.evicted.fetch_add(1, Relaxed),
                    Cause::Expired => counted.expired.fetch_add(1, Relaxed),
                    Cause::Replaced | Cause::Removed | Cause::TooHeavy => 0,
                };
            },
        ));
        Self { shards, make: Box::new(make), counters, policy }
    }

    /// Does what a command asks for. `HELLO` changes `version`.
    pub fn execute(&self, command: Command<'_>, version: &mut Version) -> Reply {
        match command {
            Command::Ping(None) => Reply::Status("PONG"),
            Command::Ping(Some(text)) => Reply::Bulk(text.into()),
            Command::Get(key) => self.get(key),
            Command::MultiGet(keys) => {
                Reply::Array(keys.into_iter().map(|key| self.get(key)).collect())
            }
            Command::Set { key, value, lifetime_ms, only_if_absent } => {
                self.set(key, value, lifetime_ms, only_if_absent)
            }
            Command::Delete(keys) => count(&keys, |key| self.shards.remove(key).is_some()),
            Command::Exists(keys) => count(&keys, |key| self.remaining_ms(key).is_some()),
            Command::TimeToLive { key, in_ms } => self.time_to_live(key, in_ms),
            Command::Size => Reply::Integer(self.len() as i64),
            Command::Flush => self.flush(),
            Command::Info => Reply::text(self.info()),
            Command::Describe => Reply::Array(Vec::new()),
            Command::Hello(wanted) => {
                *version = wanted.unwrap_or(*version);
                hello(*version)
            }
            Command::Client | Command::Select | Command::Quit => Reply::Status("OK"),
            Command::Config(name) => Reply::Array(vec![Reply::Bulk(name.into()), Reply::text("")]),
        }
    }

    fn get(&self, key: &[u8]) -> Reply {
        match self.shards.get(key) {
            Some(value) => {
                self.counters.hits.fetch_add(1, Relaxed);
                Reply::Bulk(value)
            }
            None => {
                self.counters.misses.fetch_add(1, Relaxed);
                Reply::Null
            }
        }
    }

    fn set(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime_ms: Option<u64>,
        only_if_absent: bool,
    ) -> Reply {
        let (stored_key, value) = (Bytes::from(key), Bytes::from(value));
        // Look and write are under one lock: of two clients that say NX, one is told so.
        self.shards.with_shard(key, |cache, leaving| {
            if only_if_absent && cache.peek(key).is_some() {
                return Reply::Null;
            }
            let mut reply = Reply::Status("OK");
            cache.insert_for(stored_key, value, lifetime_ms, |departure| {
                if departure.cause == Cause::TooHeavy {
                    reply =
                        Reply::Error("OOM the value is larger than a shard of the cache".into());
                }
                leaving.push(departure);
            });
            reply
        })
    }

    fn remaining_ms(&self, key: &[u8]) -> Option<Option<u64>> {
        self.shards.with_shard(key, |cache, _| cache.remaining_ms(key))
    }

    /// As Redis has it: -2 for no such key, -1 for one that lives for ever.
    fn time_to_live(&self, key: &[u8], in_ms: bool) -> Reply {
        Reply::Integer(match self.remaining_ms(key) {
            None => -2,
            Some(None) => -1,
            Some(Some(remaining_ms)) if in_ms => remaining_ms as i64,
            Some(Some(remaining_ms)) => remaining_ms.div_ceil(1000) as i64,
        })
    }

    fn len(&self) -> usize {
        let mut len = 0;
        self.shards.with_each_shard(|cache, leaving| {
            cache.expire(|departure| leaving.push(departure));
            len += cache.len();
        });
        len
    }

    fn flush(&self) -> Reply {
        // A million values are dropped after the locks were released.
        let mut old = Vec::new();
        self.shards.with_each_shard(|cache, _| {
            let fresh = (self.make)(cache.capacity());
            old.push(std::mem::replace(cache, fresh));
        });
        Reply::Status("OK")
    }

    fn info(&self) -> String {
        let Counters { hits, misses, evicted, expired } = &*self.counters;
        let [hits, misses, evicted, expired] =
            [hits, misses, evicted, expired].map(|counter| counter.load(Relaxed));
        let (version, policy, keys) = (env!("CARGO_PKG_VERSION"), self.policy, self.len());
        let (weight, capacity) = (self.shards.weight(), self.shards.capacity());
        format!(
            "# Server\r\nserver:lru-cache\r\nredis_version:7.0.0\r\nversion:{version}\r\n\
             \r\n# Memory\r\nmaxmemory_policy:{policy}\r\nused:{weight}\r\ncapacity:{capacity}\r\n\
             \r\n# Stats\r\nkeyspace_hits:{hits}\r\nkeyspace_misses:{misses}\r\n\
             evicted_keys:{evicted}\r\nexpired_keys:{expired}\r\n\
             \r\n# Keyspace\r\ndb0:keys={keys}\r\n"
        )
    }
}

fn count(keys: &[&[u8]], mut counts: impl FnMut(&[u8]) -> bool) -> Reply {
    Reply::Integer(keys.iter().filter(|key| counts(key)).count() as i64)
}

fn hello(version: Version) -> Reply {
    let number = if version == Version::Resp3 { 3 } else { 2 };
    Reply::Map(vec![
        ("server", Reply::text("lru-cache")),
        ("version", Reply::text(env!("CARGO_PKG_VERSION"))),
        ("proto", Reply::Integer(number)),
        ("mode", Reply::text("standalone")),
        ("role", Reply::text("master")),
        ("modules", Reply::Array(Vec::new())),
    ])
}
