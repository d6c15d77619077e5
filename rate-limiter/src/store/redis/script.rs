//! The text of the scripts: a clock, the algorithms a policy uses, how to decide, and an entry point.

use std::collections::BTreeSet;

use super::ScriptClock;
use crate::policy::{AlgorithmName, Policy};

/// One request per call.
pub(super) const ONE: &str = include_str!("../lua/driver.lua");
/// Many requests per call.
pub(super) const MANY: &str = include_str!("../lua/batch.lua");
/// Many checks of one cost per call, where a state is one whole number.
pub(super) const MANY_OF_ONE_WORD: &str = include_str!("../lua/batch_one_word.lua");

/// A script for a policy: the clock, the algorithms it uses, how to decide, and the entry point.
pub(super) fn text(policy: &Policy, clock: &ScriptClock, learns: bool, entry: &str) -> String {
    let unseen = match learns {
        true => include_str!("../lua/unseen_learning.lua"),
        false => include_str!("../lua/unseen_fresh.lua"),
    };
    let time = match clock {
        ScriptClock::Server => include_str!("../lua/time_server.lua"),
        ScriptClock::Injected(_) => include_str!("../lua/time_injected.lua"),
    };
    let expiry = match super::one_word::counts_in_one_word(policy) {
        true => include_str!("../lua/expiry_sliced.lua"),
        false => include_str!("../lua/expiry_settled.lua"),
    };
    let sources: BTreeSet<_> = policy
        .limits()
        .iter()
        .flat_map(|limit| algorithm_sources(limit.spec().algorithm))
        .collect();
    let mut text = format!("{time}{expiry}\nlocal algorithms = {{}}\n");
    for (_, source) in sources {
        text.push_str(source);
    }
    text.push_str(unseen);
    text.push_str(include_str!("../lua/decide.lua"));
    text.push_str(entry);
    text
}

/// The Lua files of an algorithm, numbered in the order in which they need each other.
fn algorithm_sources(algorithm: AlgorithmName) -> Vec<(u8, &'static str)> {
    const GCRA: (u8, &str) = (0, include_str!("../lua/gcra.lua"));
    const SLIDING_LOG: (u8, &str) = (1, include_str!("../lua/sliding_log.lua"));
    match algorithm {
        AlgorithmName::TokenBucket => vec![(2, include_str!("../lua/token_bucket.lua"))],
        AlgorithmName::Gcra => vec![GCRA],
        AlgorithmName::LeakyBucket => vec![(3, include_str!("../lua/leaky_bucket.lua"))],
        AlgorithmName::LeakyQueue => vec![GCRA, (4, include_str!("../lua/leaky_queue.lua"))],
        AlgorithmName::FixedWindow => vec![(5, include_str!("../lua/fixed_window.lua"))],
        AlgorithmName::SlidingLog => vec![SLIDING_LOG],
        AlgorithmName::SlidingCounter => vec![(6, include_str!("../lua/sliding_counter.lua"))],
        AlgorithmName::Concurrency => {
            vec![SLIDING_LOG, (7, include_str!("../lua/concurrency.lua"))]
        }
    }
}
