//! The price of one in-process check, without keys to choose or threads to share with: every
//! algorithm on one caller. `cargo bench -p bench-rate-limiter`.
//!
//! Criterion's statistics over many samples show a change of a few per cent between two commits;
//! how answers compare with each other and with peers is the business of `compare`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rate_limiter::store::memory::Memory;
use rate_limiter::{AlgorithmName, Key, Policy, Store};

fn check(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("check");
    let key = Key::new("user:000042").expect("a legal key");
    for algorithm in AlgorithmName::ALL {
        let policy = Policy::single("bench", algorithm, 1_000, 1, None).expect("legal numbers");
        let limiter = Memory::default().limiter(policy);
        group.bench_function(algorithm.as_str(), |bencher| {
            bencher.iter(|| limiter.check_now(black_box(key), 1).expect("room for one caller"));
        });
    }
    group.finish();
}

criterion_group!(benches, check);
criterion_main!(benches);
