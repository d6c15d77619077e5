//! What this cache set out to reach beside its peers, and whether this run reached it.

use measure::Bench;

/// Our time per call as a share of a peer's, under one load.
struct Goal {
    scenario: &'static str,
    ours: &'static str,
    peer: &'static str,
    time_at_most: f64,
    /// Shared caches differ in policy: a faster one that hits less has reached nothing.
    at_its_hit_ratio: bool,
}

const fn exact(scenario: &'static str, peer: &'static str, time_at_most: f64) -> Goal {
    Goal { scenario, ours: "LruCache", peer, time_at_most, at_its_hit_ratio: false }
}

const fn shared(scenario: &'static str) -> Goal {
    // A rate 1.25 times as high.
    let (ours, peer) = ("ReadShared, S3-FIFO", "quick_cache");
    Goal { scenario, ours, peer, time_at_most: 0.8, at_its_hit_ratio: true }
}

const GOALS: [Goal; 10] = [
    exact("hit-4k", "schnellru", 1.0),
    exact("hit-64k", "schnellru", 1.0),
    exact("zipf-4k", "schnellru", 1.0),
    exact("hit-1m", "schnellru", 0.8),
    exact("zipf-1m", "schnellru", 0.8),
    exact("hit-1m", "lru", 0.35),
    exact("zipf-1m", "lru", 0.35),
    shared("shared-1"),
    shared("shared-2"),
    shared("shared-4"),
];

/// Prints every goal of which both sides were measured.
pub(super) fn print(bench: &Bench) {
    let lines: Vec<String> = GOALS.iter().filter_map(|goal| line(bench, goal)).collect();
    if !lines.is_empty() {
        println!("goals, as our time per call over the peer's:\n{}\n", lines.join("\n"));
    }
}

fn line(bench: &Bench, goal: &Goal) -> Option<String> {
    let Goal { scenario, ours, peer, time_at_most, at_its_hit_ratio } = *goal;
    let (our_row, peer_row) = (bench.row(scenario, ours)?, bench.row(scenario, peer)?);
    let time = peer_row.per_s / our_row.per_s;
    let fewer_hits = peer_row.hit_ratio.unwrap_or(0.0) - our_row.hit_ratio.unwrap_or(0.0);
    let hits_too_few = at_its_hit_ratio && fewer_hits > 0.0;
    let verdict = if time <= time_at_most && !hits_too_few { "reached" } else { "missed" };
    let hits = match at_its_hit_ratio {
        true => format!(", with {:+.2} points of hit ratio", -100.0 * fewer_hits),
        false => String::new(),
    };
    Some(format!(
        "  {scenario:<9} {ours} beside {peer}: {time:.2}{hits}; at most {time_at_most:.2}: {verdict}"
    ))
}
