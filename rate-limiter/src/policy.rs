//! Policies: what to enforce, as operators write it, checked once so that nothing behind it has to.
//!
//! ```toml
//! [policies.api]
//! limits = [{ algorithm = "token-bucket", rate = 50, per_ms = 1000, burst = 100 }]
//! on_store_failure = "closed"
//! ```

use serde::{Deserialize, Serialize};

use crate::algorithm::concurrency::Concurrency;
use crate::algorithm::fixed_window::FixedWindow;
use crate::algorithm::gcra::Gcra;
use crate::algorithm::leaky_bucket::LeakyBucket;
use crate::algorithm::leaky_queue::LeakyQueue;
use crate::algorithm::rate::{Rate, UNITS_MAX};
use crate::algorithm::sliding_counter::SlidingCounter;
use crate::algorithm::sliding_log::{LOG_LIMIT_MAX, SlidingLog};
use crate::algorithm::token_bucket::TokenBucket;
use crate::limiter::Error;

/// Limits one policy may combine. Each one is a key in the store and a step in the script.
pub const LIMITS_PER_POLICY_MAX: usize = 4;
/// The longest period: a year of 366 days, in milliseconds.
pub const PER_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1_000;
/// The fastest rate, per second. Above it a microsecond clock cannot tell requests apart.
pub const RATE_PER_SECOND_MAX: u64 = 1_000_000_000;
/// The longest policy or limit name, in bytes: names are part of every key in the store.
pub const NAME_BYTES_MAX: usize = 32;

/// A policy as it is written in JSON or TOML, before it is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// One to four limits; a request must pass all of them and is charged to all or none.
    pub limits: Vec<LimitSpec>,
    /// What to answer while the store is down.
    #[serde(default)]
    pub on_store_failure: OnStoreFailure,
}

/// A limit as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// Shown in the `RateLimit` header fields; the algorithm's name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How to count.
    pub algorithm: AlgorithmName,
    /// Requests per period; for `concurrency` the number of holders.
    pub rate: u32,
    /// The period in milliseconds; for `concurrency` the longest lease.
    pub per_ms: u64,
    /// The most at once, for the bucket algorithms; `rate` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

/// The algorithms by their names in policies, scripts and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AlgorithmName {
    /// [`crate::algorithm::token_bucket`]
    TokenBucket,
    /// [`crate::algorithm::gcra`]
    Gcra,
    /// [`crate::algorithm::leaky_bucket`]
    LeakyBucket,
    /// [`crate::algorithm::leaky_queue`]
    LeakyQueue,
    /// [`crate::algorithm::fixed_window`]
    FixedWindow,
    /// [`crate::algorithm::sliding_log`]
    SlidingLog,
    /// [`crate::algorithm::sliding_counter`]
    SlidingCounter,
    /// [`crate::algorithm::concurrency`]
    Concurrency,
}

impl AlgorithmName {
    /// All of them, in reading order.
    pub const ALL: [Self; 8] = [
        Self::TokenBucket,
        Self::Gcra,
        Self::LeakyBucket,
        Self::LeakyQueue,
        Self::FixedWindow,
        Self::SlidingLog,
        Self::SlidingCounter,
        Self::Concurrency,
    ];

    /// The name as it is written in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenBucket => "token-bucket",
            Self::Gcra => "gcra",
            Self::LeakyBucket => "leaky-bucket",
            Self::LeakyQueue => "leaky-queue",
            Self::FixedWindow => "fixed-window",
            Self::SlidingLog => "sliding-log",
            Self::SlidingCounter => "sliding-counter",
            Self::Concurrency => "concurrency",
        }
    }

    /// Whether the algorithm has a burst of its own, apart from its rate.
    pub const fn has_burst(self) -> bool {
        matches!(self, Self::TokenBucket | Self::Gcra | Self::LeakyBucket | Self::LeakyQueue)
    }
}

/// What to answer while the store is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum OnStoreFailure {
    /// Let requests pass: the limit protects comfort, not safety.
    Open,
    /// Refuse: the limit protects something that breaks.
    #[default]
    Closed,
    /// Enforce this server's share, `limit / servers`, in process.
    Local,
}

/// A checked policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    name: String,
    limits: Vec<Limit>,
    on_store_failure: OnStoreFailure,
}

impl Policy {
    /// Checks `spec`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first field at fault, such as `limits/0/rate`.
    pub fn new(name: &str, spec: &PolicySpec) -> Result<Self, Error> {
        check_name("name", name)?;
        let limits = &spec.limits;
        if limits.is_empty() || limits.len() > LIMITS_PER_POLICY_MAX {
            let reason =
                format!("must hold 1 to {LIMITS_PER_POLICY_MAX} limits, not {}", limits.len());
            return Err(Error::invalid("limits", reason));
        }
        let checked: Result<Vec<_>, _> =
            limits.iter().enumerate().map(|(index, limit)| Limit::new(limit, index)).collect();
        let limits = checked?;
        for (index, limit) in limits.iter().enumerate() {
            if limits[..index].iter().any(|other| other.name == limit.name) {
                let reason = format!("\"{}\" is used by another limit of this policy", limit.name);
                return Err(Error::invalid(format!("limits/{index}/name"), reason));
            }
        }
        Ok(Self { name: name.to_owned(), limits, on_store_failure: spec.on_store_failure })
    }

    /// A policy with one limit: the shape most examples and tests need.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn single(
        name: &str,
        algorithm: AlgorithmName,
        rate: u32,
        per_ms: u64,
        burst: Option<u32>,
    ) -> Result<Self, Error> {
        let limits = vec![LimitSpec { name: None, algorithm, rate, per_ms, burst }];
        Self::new(name, &PolicySpec { limits, on_store_failure: OnStoreFailure::default() })
    }

    /// The policy's name, part of every key in the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its limits, at least one.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// What to answer while the store is down.
    pub fn on_store_failure(&self) -> OnStoreFailure {
        self.on_store_failure
    }

    /// The policy as it was written, with every default filled in.
    pub fn spec(&self) -> PolicySpec {
        PolicySpec {
            limits: self.limits.iter().map(|limit| limit.spec.clone()).collect(),
            on_store_failure: self.on_store_failure,
        }
    }

    /// The share of this policy that one of `servers` may grant on its own while it cannot ask
    /// the others: every rate and burst divided, rounded down, but at least one, so that nobody is
    /// locked out. With limits smaller than `servers` the sum of all shares exceeds the limit.
    pub fn share(&self, servers: u32) -> Self {
        let servers = servers.max(1);
        let limits = self.limits.iter().map(|limit| LimitSpec {
            rate: (limit.spec.rate / servers).max(1),
            burst: limit.spec.burst.map(|burst| (burst / servers).max(1)),
            ..limit.spec.clone()
        });
        let spec = PolicySpec { limits: limits.collect(), on_store_failure: self.on_store_failure };
        Self::new(&self.name, &spec).expect("smaller numbers than checked ones are valid")
    }
}

impl Policy {
    /// Part `index` of `parts`: every rate and burst divided so that all parts together are exactly
    /// this policy.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a rate or burst is smaller than the number of parts.
    pub fn part(&self, index: u32, parts: u32) -> Result<Self, Error> {
        let share = |whole: u32| {
            let up_to = |parts_taken: u32| u64::from(whole) * u64::from(parts_taken);
            let (from, to) = (up_to(index), up_to(index + 1));
            (to / u64::from(parts) - from / u64::from(parts)) as u32
        };
        let limits = self.limits.iter().map(|limit| LimitSpec {
            rate: share(limit.spec.rate),
            burst: limit.spec.burst.map(share),
            ..limit.spec.clone()
        });
        let spec = PolicySpec { limits: limits.collect(), on_store_failure: self.on_store_failure };
        Self::new(&self.name, &spec)
    }
}

/// A checked limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    name: String,
    spec: LimitSpec,
}

impl Limit {
    fn new(spec: &LimitSpec, index: usize) -> Result<Self, Error> {
        let invalid = |field: &str, reason: String| {
            Err(Error::invalid(format!("limits/{index}/{field}"), reason))
        };
        let LimitSpec { algorithm, rate, per_ms, burst, .. } = *spec;
        if rate == 0 {
            return invalid("rate", "must be at least 1".to_owned());
        }
        if per_ms == 0 || per_ms > PER_MS_MAX {
            return invalid("per_ms", format!("must be 1 to {PER_MS_MAX}, not {per_ms}"));
        }
        if u64::from(rate) * 1_000 > RATE_PER_SECOND_MAX.saturating_mul(per_ms) {
            return invalid("rate", format!("must be at most {RATE_PER_SECOND_MAX} per second"));
        }
        if burst == Some(0) {
            return invalid("burst", "must be at least 1".to_owned());
        }
        if burst.is_some() && !algorithm.has_burst() {
            return invalid("burst", format!("does not apply to {}", algorithm.as_str()));
        }
        if let Some(name) = &spec.name {
            check_name(&format!("limits/{index}/name"), name)?;
        }
        let name = spec.name.clone().unwrap_or_else(|| match index {
            0 => algorithm.as_str().to_owned(),
            _ => format!("{}-{index}", algorithm.as_str()),
        });
        let burst = algorithm.has_burst().then(|| burst.unwrap_or(rate));
        let limit = Self { name, spec: LimitSpec { burst, ..spec.clone() } };
        limit.check_size(index)?;
        Ok(limit)
    }

    /// Refuses numbers that exact integer arithmetic, or one value in Redis, cannot hold.
    fn check_size(&self, index: usize) -> Result<(), Error> {
        let LimitSpec { algorithm, rate, per_ms, .. } = self.spec;
        let (field, fits) = match algorithm {
            AlgorithmName::SlidingLog | AlgorithmName::Concurrency => {
                ("rate", rate <= LOG_LIMIT_MAX)
            }
            AlgorithmName::SlidingCounter => {
                ("rate", u64::from(rate).saturating_mul(per_ms) <= UNITS_MAX)
            }
            AlgorithmName::FixedWindow => ("rate", true),
            _ => {
                let Rate { units_per_us, units_per_token } = self.ratio();
                let units = u64::from(self.burst()).saturating_mul(units_per_token);
                ("burst", units <= UNITS_MAX && units_per_us <= UNITS_MAX)
            }
        };
        if fits {
            return Ok(());
        }
        let reason = match algorithm {
            AlgorithmName::SlidingLog | AlgorithmName::Concurrency => {
                format!("must be at most {LOG_LIMIT_MAX} for {}", algorithm.as_str())
            }
            _ => format!("is too large for a period of {per_ms} ms: lower it or the period"),
        };
        Err(Error::invalid(format!("limits/{index}/{field}"), reason))
    }

    /// The limit's name, unique in its policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The limit as written, with its burst filled in where it has one.
    pub fn spec(&self) -> &LimitSpec {
        &self.spec
    }

    /// The most that can be taken at once.
    pub fn burst(&self) -> u32 {
        self.spec.burst.unwrap_or(self.spec.rate)
    }

    /// The rate in exact integers.
    pub fn ratio(&self) -> Rate {
        Rate::new(u64::from(self.spec.rate), self.spec.per_ms * 1_000)
    }

    /// The period in which a caller that took everything has it all back, in whole seconds,
    /// rounded up: the `w` of the `RateLimit-Policy` field.
    pub fn window_seconds(&self) -> u64 {
        let per_ms = u128::from(self.spec.per_ms);
        let refill_ms = (u128::from(self.burst()) * per_ms).div_ceil(u128::from(self.spec.rate));
        // Fits: burst x per_ms was checked against UNITS_MAX where burst and rate differ.
        refill_ms.div_ceil(1_000) as u64
    }

    /// The algorithm with its parameters.
    pub fn algorithm(&self) -> AnyAlgorithm {
        let LimitSpec { algorithm, rate, per_ms, .. } = self.spec;
        let (ratio, burst, per_us) = (self.ratio(), self.burst(), per_ms * 1_000);
        match algorithm {
            AlgorithmName::TokenBucket => AnyAlgorithm::TokenBucket(TokenBucket::new(ratio, burst)),
            AlgorithmName::Gcra => AnyAlgorithm::Gcra(Gcra::new(ratio, burst)),
            AlgorithmName::LeakyBucket => AnyAlgorithm::LeakyBucket(LeakyBucket::new(ratio, burst)),
            AlgorithmName::LeakyQueue => AnyAlgorithm::LeakyQueue(LeakyQueue::new(ratio, burst)),
            AlgorithmName::FixedWindow => AnyAlgorithm::FixedWindow(FixedWindow::new(rate, per_us)),
            AlgorithmName::SlidingLog => AnyAlgorithm::SlidingLog(SlidingLog::new(rate, per_us)),
            AlgorithmName::SlidingCounter => {
                AnyAlgorithm::SlidingCounter(SlidingCounter::new(rate, per_ms))
            }
            AlgorithmName::Concurrency => AnyAlgorithm::Concurrency(Concurrency::new(rate, per_us)),
        }
    }
}

/// One of the algorithms, chosen by a policy at run time.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each variant is named after the algorithm it holds")]
pub enum AnyAlgorithm {
    TokenBucket(TokenBucket),
    Gcra(Gcra),
    LeakyBucket(LeakyBucket),
    LeakyQueue(LeakyQueue),
    FixedWindow(FixedWindow),
    SlidingLog(SlidingLog),
    SlidingCounter(SlidingCounter),
    Concurrency(Concurrency),
}

fn check_name(field: &str, name: &str) -> Result<(), Error> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(legal) {
        let reason = format!("must be 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'");
        return Err(Error::invalid(field, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(algorithm: AlgorithmName, rate: u32, per_ms: u64, burst: Option<u32>) -> PolicySpec {
        let limits = vec![LimitSpec { name: None, algorithm, rate, per_ms, burst }];
        PolicySpec { limits, on_store_failure: OnStoreFailure::Closed }
    }

    #[test]
    fn a_bad_policy_names_the_field_at_fault() {
        use AlgorithmName::{
            Concurrency, FixedWindow, Gcra, SlidingCounter, SlidingLog, TokenBucket,
        };
        for (spec, field) in [
            (spec(TokenBucket, 0, 1_000, None), "limits/0/rate"),
            (spec(TokenBucket, 1, 0, None), "limits/0/per_ms"),
            (spec(TokenBucket, 1, PER_MS_MAX + 1, None), "limits/0/per_ms"),
            (spec(Gcra, 2_000_000, 1, None), "limits/0/rate"),
            (spec(Gcra, 1, 1_000, Some(0)), "limits/0/burst"),
            (spec(Gcra, 7, PER_MS_MAX, Some(u32::MAX)), "limits/0/burst"),
            (spec(FixedWindow, 1, 1_000, Some(5)), "limits/0/burst"),
            (spec(SlidingLog, 1_001, 1_000, None), "limits/0/rate"),
            (spec(Concurrency, 1_001, 1_000, None), "limits/0/rate"),
            (spec(SlidingCounter, u32::MAX, PER_MS_MAX, None), "limits/0/rate"),
            (PolicySpec { limits: vec![], on_store_failure: OnStoreFailure::Open }, "limits"),
        ] {
            let error = Policy::new("api", &spec).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{field} ")), "{field}: {error}");
        }
        assert!(Policy::new("no spaces", &spec(Gcra, 1, 1, None)).is_err());
    }

    #[test]
    fn once_a_year_and_a_billion_a_second_are_both_legal() {
        for (rate, per_ms) in [(1, PER_MS_MAX), (1_000_000_000, 1_000), (1_000_000, 1)] {
            for algorithm in [AlgorithmName::TokenBucket, AlgorithmName::Gcra] {
                Policy::single("p", algorithm, rate, per_ms, None).unwrap();
            }
        }
    }

    #[test]
    fn a_share_is_never_zero() {
        let policy = Policy::single("p", AlgorithmName::Gcra, 5, 1_000, Some(30)).unwrap();
        let share = policy.share(10);
        assert_eq!((share.limits()[0].spec().rate, share.limits()[0].burst()), (1, 3));
    }
}
