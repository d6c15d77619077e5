//! The simulator against published hit counts: one hit more or less is a wrong implementation.
//!
//! The traces are data and not part of the project. They are looked for in the folder named by
//! `CACHE_TRACES`, or in `shared/data/cache-traces` beside the workspace; where there are none, the tests that need them say so and
//! the generated workloads of the conformance suite remain.

use std::path::{Path, PathBuf};

use lru_cache::sim::{
    run::{PolicyName, Unit, simulate},
    trace::{self, Format, Request},
};

/// The trace, or `None` (with a word on standard error) when this machine has no traces.
fn published(file: &str) -> Option<Vec<Request>> {
    let given = std::env::var_os("CACHE_TRACES").map(PathBuf::from);
    let required = given.is_some();
    let above = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared/data/cache-traces"));
    let folder = given.into_iter().chain(above).find(|folder| folder.is_dir());
    let Some(folder) = folder else {
        assert!(!required, "CACHE_TRACES does not name a folder");
        eprintln!("{file}: no published traces here (set CACHE_TRACES); nothing was compared");
        return None;
    };
    // Once there is a folder, a missing or unreadable trace is a failure.
    Some(trace::read(&folder.join(file), Format::Auto).unwrap_or_else(|e| panic!("{file}: {e}")))
}

fn hits(policy: PolicyName, capacity: u64, requests: &[Request]) -> u64 {
    simulate(policy, capacity, Unit::Entries, requests, |_| {}).hits
}

/// (trace, capacity, hits of exact LRU, hits of OPT)
const TRUSTED: [(&str, u64, u64, u64); 7] = [
    ("OLTP.lis.zst", 250, 150_591, 351_662),
    ("OLTP.lis.zst", 500, 214_325, 424_457),
    ("OLTP.lis.zst", 1000, 300_122, 490_155),
    ("gli.trace.gz", 500, 57, 2_065),
    ("gli.trace.gz", 1000, 674, 3_197),
    ("gli.trace.gz", 2000, 3_453, 3_486),
    ("multi2.trace.gz", 512, 9_568, 14_168),
];

#[test]
fn exact_lru_and_opt_have_the_published_hit_counts() {
    for (file, capacity, lru, opt) in TRUSTED {
        let Some(requests) = published(file) else { return };
        assert_eq!(hits(PolicyName::Lru, capacity, &requests), lru, "lru {file}@{capacity}");
        assert_eq!(hits(PolicyName::Opt, capacity, &requests), opt, "opt {file}@{capacity}");
    }
}

#[test]
fn weighted_lru_fifo_and_clock_have_the_published_miss_counts() {
    let Some(requests) = published("cloudPhysicsIO.oracleGeneral.bin") else { return };
    let bytes: u64 = requests.iter().map(|request| u64::from(request.size_bytes)).sum();
    assert_eq!((requests.len(), bytes), (113_872, 4_368_040_448));
    let trusted = [
        (PolicyName::Lru, [93374, 89783, 83572, 81722, 72494, 72104, 71972, 71704]),
        (PolicyName::Fifo, [93403, 89386, 84387, 84025, 72498, 72228, 72182, 72140]),
        (PolicyName::Clock, [93313, 89775, 83411, 81328, 74815, 72283, 71927, 64456]),
    ];
    for (policy, misses) in trusted {
        for (step, expected) in (1..).zip(misses) {
            let outcome = simulate(policy, step * (128 << 20), Unit::Bytes, &requests, |_| {});
            assert_eq!(outcome.requests - outcome.hits, expected, "{policy} at {step} x 128 MiB");
        }
    }
}

#[test]
fn every_format_is_guessed_and_has_the_published_number_of_requests() {
    let trusted = [
        ("gli.trace.gz", 6_015, 2_529),
        ("multi2.trace.gz", 26_311, 5_684),
        ("multi3.trace.gz", 30_241, 7_454),
        ("loop.trace.gz", 505_500, 1_011),
        ("corda.trace.gz", 135_702, 90_468),
        ("OLTP.lis.zst", 914_145, 186_880),
        ("cloudPhysicsIO.oracleGeneral.bin", 113_872, 48_974),
    ];
    for (file, requests, unique) in trusted {
        let Some(trace) = published(file) else { return };
        let mut keys: Vec<u64> = trace.iter().map(|request| request.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!((trace.len(), keys.len()), (requests, unique), "{file}");
    }
    if let Some(trace) = published("web07.trace.xz") {
        assert_eq!(trace.len(), 76_118);
    }
}

/// No policy beats the one that knows the future, on any trace at any size.
#[test]
fn opt_is_the_bound_of_every_policy() {
    for file in ["gli.trace.gz", "multi1.trace.gz", "2_pools.trace.gz", "cpp.trace.gz"] {
        let Some(requests) = published(file) else { return };
        for capacity in [20, 100, 500, 1000] {
            let best = hits(PolicyName::Opt, capacity, &requests);
            for policy in PolicyName::ALL {
                let got = hits(policy, capacity, &requests);
                assert!(got <= best, "{policy} hits {got} of {file}@{capacity}, OPT {best}");
            }
        }
    }
}
