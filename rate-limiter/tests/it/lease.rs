//! Leases on virtual time: several nodes over one store, random demand, nodes that die.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use proptest::prelude::*;
use rate_limiter::algorithm::Micros;
use rate_limiter::clock::{Clock, ManualClock};
use rate_limiter::conformance::EPOCH;
use rate_limiter::store::lease::LeasedLimiter;
use rate_limiter::store::memory::{KEYS_MAX_DEFAULT, Memory, MemoryLimiter};
use rate_limiter::{AlgorithmName, Key, Limiter, Policy, Source, Store};

const LIFE: Duration = Duration::from_millis(100);
const RATE: u32 = 1_000;
const BURST: u32 = 200;

type Node = LeasedLimiter<Arc<MemoryLimiter<ManualClock>>, ManualClock>;

fn key() -> Key<'static> {
    Key::new("caller").unwrap()
}

/// Nothing in these tests waits, so every future is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the in-process store answers at once")
}

struct Fleet {
    clock: Arc<ManualClock>,
    store: Arc<MemoryLimiter<ManualClock>>,
    nodes: Vec<Node>,
    /// When how much was admitted, and what was held just before.
    admitted: Vec<(Micros, u64, u64)>,
}

impl Fleet {
    fn of(nodes: usize, algorithm: AlgorithmName) -> Self {
        let clock = Arc::new(ManualClock::at(EPOCH));
        let policy = Policy::single("api", algorithm, RATE, 1_000, Some(BURST)).unwrap();
        let store = Memory::new(Arc::clone(&clock), KEYS_MAX_DEFAULT).limiter(policy);
        let mut fleet = Self { clock, store: Arc::new(store), nodes: vec![], admitted: vec![] };
        fleet.nodes = (0..nodes).map(|_| fleet.node()).collect();
        fleet
    }

    fn node(&self) -> Node {
        LeasedLimiter::new(Arc::clone(&self.store), Arc::clone(&self.clock), LIFE)
    }

    fn check(&mut self, node: usize, cost: u32) -> bool {
        let held = self.held();
        let allowed = now(self.nodes[node].check(key(), cost)).unwrap().allowed();
        if allowed {
            self.admitted.push((self.clock.now(), u64::from(cost), held));
        }
        allowed
    }

    fn admitted(&self) -> u64 {
        self.admitted.iter().map(|(_, cost, _)| cost).sum()
    }

    /// Everything the limit has granted until now, had nobody ever idled.
    fn most(&self) -> u64 {
        u64::from(BURST) + self.clock.now().since(EPOCH) * u64::from(RATE) / 1_000_000
    }

    fn held(&self) -> u64 {
        self.nodes.iter().map(|node| u64::from(node.held(key()))).sum()
    }

    fn remaining(&self) -> u64 {
        u64::from(now(self.store.peek(key())).unwrap().quota.remaining)
    }

    /// In any window, at most what the limit grants in it and what was held when it began.
    fn assert_no_window_is_overfull(&self) {
        for (index, &(first, _, held)) in self.admitted.iter().enumerate() {
            let mut sum = 0;
            for &(last, cost, _) in &self.admitted[index..] {
                sum += cost;
                let granted = last.since(first) * u64::from(RATE) / 1_000_000;
                let most = u64::from(BURST) + granted + held;
                assert!(sum <= most, "{sum} admitted in {} us, at most {most}", last.since(first));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Check { node: usize, cost: u32, times: u32 },
    Pause { us: u64 },
    GiveBack { node: usize },
    Die { node: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..4_usize;
    prop_oneof![
        6 => (node.clone(), 1..4_u32, 1..40_u32)
            .prop_map(|(node, cost, times)| Step::Check { node, cost, times }),
        1 => (node.clone(), 1..BURST + 2).prop_map(|(node, cost)| Step::Check { node, cost, times: 1 }),
        4 => (0..150_000_u64).prop_map(|us| Step::Pause { us }),
        2 => node.clone().prop_map(|node| Step::GiveBack { node }),
        1 => node.prop_map(|node| Step::Die { node }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Lease conservation: at every step, over nodes that crash and come back, what was admitted,
    /// what is held, and what is left in the store together never exceed what the limit granted.
    #[test]
    fn tokens_are_conserved(
        steps in proptest::collection::vec(step(), 1..120),
        algorithm in prop_oneof![
            Just(AlgorithmName::TokenBucket), Just(AlgorithmName::Gcra), Just(AlgorithmName::LeakyBucket)
        ],
    ) {
        let mut fleet = Fleet::of(4, algorithm);
        for step in steps {
            match step {
                Step::Check { node, cost, times } => {
                    for _ in 0..times {
                        fleet.check(node, cost);
                    }
                }
                Step::Pause { us } => fleet.clock.advance(Duration::from_micros(us)),
                Step::GiveBack { node } => now(fleet.nodes[node].give_back_ended()),
                // What it held is gone; it comes back knowing nothing.
                Step::Die { node } => fleet.nodes[node] = fleet.node(),
            }
            let (admitted, held, remaining) = (fleet.admitted(), fleet.held(), fleet.remaining());
            let most = fleet.most();
            prop_assert!(
                admitted + held + remaining <= most,
                "{admitted} admitted, {held} held, {remaining} left; granted so far {most}"
            );
        }
        fleet.assert_no_window_is_overfull();
    }
}

#[test]
fn under_a_skew_of_ten_to_one_at_least_97_percent_of_the_limit_is_used() {
    let mut fleet = Fleet::of(4, AlgorithmName::TokenBucket);
    let mut asked = 0_u32;
    // Ten seconds, 1.3 requests per millisecond: the first node has ten of 13, the others one.
    for tenth in 0..100_000_u32 {
        fleet.clock.advance(Duration::from_micros(100));
        if tenth % 100 == 0 {
            for node in 0..4 {
                now(fleet.nodes[node].give_back_ended());
            }
        }
        if (tenth * 13) / 100 != ((tenth + 1) * 13) / 100 {
            let node = match asked % 13 {
                at @ 10..13 => at as usize - 9,
                _ => 0,
            };
            asked += 1;
            fleet.check(node, 1);
        }
    }
    let (admitted, most) = (fleet.admitted(), fleet.most());
    let used = admitted as f64 / most as f64;
    println!("{asked} asked, {admitted} admitted of {most}: {:.1} %", 100.0 * used);
    assert!(asked > 12_000 && admitted <= most && used >= 0.97, "{admitted} of {most}");
}

#[test]
fn most_checks_of_a_busy_caller_need_no_store() {
    let fleet = Fleet::of(1, AlgorithmName::TokenBucket);
    let mut here = 0;
    for _ in 0..5_000 {
        fleet.clock.advance(Duration::from_micros(1_250)); // 80 % of the rate.
        let decision = now(fleet.nodes[0].check(key(), 1)).unwrap();
        assert!(decision.allowed());
        here += u32::from(decision.source == Source::Lease);
        if fleet.nodes[0].held(key()) > 0 {
            assert!(fleet.nodes[0].spend(key(), 0).is_some());
        }
    }
    assert_eq!(here, 5_000, "also the one that fetched the lease is paid from it");
    while fleet.held() == 0 {
        assert!(now(fleet.nodes[0].check(key(), 1)).unwrap().allowed());
    }
    let (unused, remaining) = (fleet.held(), fleet.remaining());
    now(fleet.nodes[0].give_back_all());
    // A bucket that filled up in the meantime has no room for them: they are lost, not doubled.
    let after = (remaining + unused).min(u64::from(BURST));
    assert_eq!((fleet.held(), fleet.remaining()), (0, after));
}

#[test]
fn what_cannot_be_leased_passes_through() {
    let clock = Arc::new(ManualClock::at(EPOCH));
    for algorithm in AlgorithmName::ALL {
        let policy = Policy::single("api", algorithm, 10, 1_000, None).unwrap();
        let store = Memory::new(Arc::clone(&clock), KEYS_MAX_DEFAULT).limiter(policy);
        let node = LeasedLimiter::new(store, Arc::clone(&clock), LIFE);
        let source = now(node.check(key(), 1)).unwrap().source;
        let bucket = matches!(
            algorithm,
            AlgorithmName::TokenBucket | AlgorithmName::Gcra | AlgorithmName::LeakyBucket
        );
        assert_eq!(source == Source::Lease, bucket, "{algorithm:?}");
        let beyond = now(node.check(key(), 11)).unwrap();
        assert_eq!(beyond.outcome, rate_limiter::limiter::Outcome::TooLarge, "{algorithm:?}");
    }
}
