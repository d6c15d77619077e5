//! What the form of the page says, checked before anything changes.

use rate_limiter::{AlgorithmName, LimitSpec, OnStoreFailure, Policy, PolicySpec};
use serde::{Deserialize, Serialize};
use service::Problem;

use crate::traffic::RATE_MAX;

/// More callers than this need more memory than a demonstration should take.
pub(super) const CALLERS_MAX: u32 = 100_000;

/// Where the counts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StoreName {
    /// In this process.
    InProcess,
    /// In a Redis, through a proxy that can break it.
    Redis,
}

/// The form.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) algorithm: AlgorithmName,
    pub(super) store: StoreName,
    pub(super) rate: u32,
    pub(super) per_ms: u64,
    #[serde(default)]
    pub(super) burst: Option<u32>,
    pub(super) on_store_failure: OnStoreFailure,
    pub(super) requests_per_s: u32,
    pub(super) callers: u32,
    /// How much of the traffic comes from one caller.
    pub(super) hot_percent: u8,
}

impl Settings {
    /// The policy they describe.
    ///
    /// # Errors
    /// 422 naming the first field at fault.
    pub(super) fn check(&self, name: &str) -> Result<Policy, Problem> {
        let within = |field: &str, value: u32, min: u32, max: u32| match value {
            value if (min..=max).contains(&value) => Ok(()),
            value => Err(Problem::invalid(
                format!("/{field}"),
                format!("must be {min} to {max}, not {value}"),
            )),
        };
        within("requests_per_s", self.requests_per_s, 1, RATE_MAX)?;
        within("callers", self.callers, 1, CALLERS_MAX)?;
        within("hot_percent", self.hot_percent.into(), 0, 100)?;
        let Self { algorithm, rate, per_ms, burst, on_store_failure, .. } = *self;
        let limits = vec![LimitSpec { name: None, algorithm, rate, per_ms, burst }];
        Ok(Policy::new(name, &PolicySpec { limits, on_store_failure })?)
    }
}
