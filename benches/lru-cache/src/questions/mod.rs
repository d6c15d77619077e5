//! An interviewer's follow-up questions about the cache.

mod looping;
mod memory;
mod scan;
mod sharding;
mod stampede;

use lru_cache::sim::run::{PolicyName, Unit, simulate};
use lru_cache::sim::trace::Request;

use measure::{Question, Stage};

/// In the order an interviewer would ask them.
pub(super) fn questions() -> Vec<Question> {
    vec![
        memory::question(),
        looping::question(),
        scan::question(),
        sharding::question(),
        stampede::question(),
    ]
}

fn requests(keys: impl Iterator<Item = u64>) -> Vec<Request> {
    keys.map(|key| Request { key, size_bytes: 1 }).collect()
}

/// The hit ratio of a policy in percent, told on the stage.
fn hit_percent(stage: &Stage, policy: PolicyName, capacity: u64, trace: &[Request]) -> f64 {
    let outcome = simulate(policy, capacity, Unit::Entries, trace, |_| {});
    let percent = outcome.hit_ratio * 100.0;
    stage.observe(policy.name(), format!("{percent:.2} % of {} are hits", outcome.requests));
    percent
}
