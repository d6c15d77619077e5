//! One trace, many policies, many capacities.

use std::{fmt, str::FromStr};

use foldhash::fast::FixedState;

use super::trace::Request;
use crate::{
    cache::{Cache, UnitWeight, WeighBy, Weigher},
    lru::LruCache,
    policy::{Arc, Clock, Fifo, Lfu, S3Fifo, Sieve, Slru, WTinyLfu, opt},
    policy_cache::PolicyCache,
};

/// A policy by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyName {
    /// First in, first out.
    Fifo,
    /// Least recently used, exact.
    Lru,
    /// Second chance.
    Clock,
    /// Least frequently used.
    Lfu,
    /// The hand that sifts.
    Sieve,
    /// Small, main and ghost queue.
    S3Fifo,
    /// Probation and protected.
    Slru,
    /// Adaptive replacement.
    Arc,
    /// Window and admission filter.
    WTinyLfu,
    /// Belady's optimum.
    Opt,
}

impl PolicyName {
    /// All of them, in the order tables have.
    pub const ALL: [PolicyName; 10] = [
        Self::Fifo,
        Self::Clock,
        Self::Lru,
        Self::Lfu,
        Self::Sieve,
        Self::S3Fifo,
        Self::Slru,
        Self::Arc,
        Self::WTinyLfu,
        Self::Opt,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Lru => "lru",
            Self::Clock => "clock",
            Self::Lfu => "lfu",
            Self::Sieve => "sieve",
            Self::S3Fifo => "s3fifo",
            Self::Slru => "slru",
            Self::Arc => "arc",
            Self::WTinyLfu => "wtinylfu",
            Self::Opt => "opt",
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PolicyName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|policy| policy.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("{name:?} is not a policy; there are {known} and all")
        })
    }
}

/// What a capacity counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Entries.
    Entries,
    /// Bytes, as the trace says.
    Bytes,
}

/// What one policy did at one capacity.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Outcome {
    /// Its name.
    pub policy: &'static str,
    /// The capacity.
    pub capacity: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests found in the cache.
    pub hits: u64,
    /// `hits / requests`, zero for an empty trace.
    pub hit_ratio: f64,
}

/// Sends every request through one policy. The cache is asked, and told of the key on a miss; a hit
/// changes nothing but the policy's mind, not even the stored size. `progress` is called with the
/// number of requests done, once in a while.
///
/// The hasher has a fixed seed: two runs print the same numbers.
pub fn simulate(
    policy: PolicyName,
    capacity: u64,
    unit: Unit,
    requests: &[Request],
    progress: impl FnMut(usize),
) -> Outcome {
    let hits = match unit {
        Unit::Entries => simulate_weighed(policy, capacity, UnitWeight, requests, progress),
        Unit::Bytes => {
            let size = WeighBy(|_: &u64, size_bytes: &u32| *size_bytes);
            simulate_weighed(policy, capacity, size, requests, progress)
        }
    };
    let total = requests.len() as u64;
    let hit_ratio = if total == 0 { 0.0 } else { hits as f64 / total as f64 };
    Outcome { policy: policy.name(), capacity, requests: total, hits, hit_ratio }
}

fn simulate_weighed<W: Weigher<u64, u32>>(
    policy: PolicyName,
    capacity: u64,
    weigher: W,
    requests: &[Request],
    progress: impl FnMut(usize),
) -> u64 {
    let hasher = FixedState::default();
    macro_rules! replay_policy {
        ($policy:ty) => {{
            let cache = PolicyCache::<_, _, $policy, _, _>::with_parts(capacity, weigher, hasher);
            replay(cache, requests, progress)
        }};
    }
    match policy {
        PolicyName::Lru => {
            replay(LruCache::with_parts(capacity, 0, weigher, hasher), requests, progress)
        }
        PolicyName::Fifo => replay_policy!(Fifo),
        PolicyName::Clock => replay_policy!(Clock),
        PolicyName::Lfu => replay_policy!(Lfu),
        PolicyName::Sieve => replay_policy!(Sieve),
        PolicyName::S3Fifo => replay_policy!(S3Fifo),
        PolicyName::Slru => replay_policy!(Slru),
        PolicyName::Arc => replay_policy!(Arc),
        PolicyName::WTinyLfu => replay_policy!(WTinyLfu),
        PolicyName::Opt => {
            let weighed = |request: &Request| {
                (request.key, weigher.weigh(&request.key, &request.size_bytes).into())
            };
            opt::hits(&requests.iter().map(weighed).collect::<Vec<_>>(), capacity)
        }
    }
}

/// Requests between two calls of `progress`.
const PROGRESS_EVERY: usize = 1 << 16;

fn replay<C: Cache<u64, u32>>(
    mut cache: C,
    requests: &[Request],
    mut progress: impl FnMut(usize),
) -> u64 {
    let mut hits = 0;
    for (done, chunk) in requests.chunks(PROGRESS_EVERY).enumerate() {
        progress(done * PROGRESS_EVERY);
        for request in chunk {
            if cache.get(&request.key).is_some() {
                hits += 1;
            } else {
                cache.insert(request.key, request.size_bytes);
            }
        }
    }
    hits
}
