//! A reader's limiter beside ours in process, both called through the contract.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use measure::harness::{Keys, Saturated, Saturation};
use measure::{Bench, LoopSubject, Role, SCENARIO, Scenario, YOURS};
use rate_limiter::store::memory::Memory;
use rate_limiter::{AlgorithmName, Key, Limiter, Policy, Store};
use tokio::runtime::Handle;

use crate::compare::{Counted, KEYS, Name, policy};

/// A reader's limiter as one more row. `make` builds one server's for this policy, on the
/// monotonic clock, with nothing counted.
pub fn beside_ours<L: Limiter>(
    algorithm: AlgorithmName,
    make: impl Fn(Policy) -> L + Send + Sync + 'static,
) -> ExitCode {
    measure::beside("rate-limiter", |bench| compare(bench, algorithm, make))
}

async fn compare<L: Limiter>(
    bench: Bench,
    algorithm: AlgorithmName,
    make: impl Fn(Policy) -> L + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let subjects = vec![
        subject("memory", algorithm, |policy| Memory::default().limiter(policy)),
        subject(YOURS, algorithm, make),
    ];
    let about = format!("check of one, {}, {}", algorithm.as_str(), Keys::uniform(KEYS).describe());
    let scenario = Scenario::new(SCENARIO, about, "memory");
    let load = Saturation { slice: Duration::from_millis(20), ..Saturation::default() }.threads(2);
    bench.in_process(scenario, load, subjects).await
}

fn subject<L: Limiter>(
    name: &str,
    algorithm: AlgorithmName,
    make: impl Fn(Policy) -> L + Send + Sync + 'static,
) -> LoopSubject {
    let runtime = Handle::current();
    let worker = move |state: Arc<Counted<L>>, thread: usize| {
        let mut rng = fastrand::Rng::with_seed(thread as u64);
        let (keys, mut name, runtime) = (Keys::uniform(KEYS), Name::new(), runtime.clone());
        move |_| {
            let key = Key::new(name.of(keys.pick(&mut rng))).expect("a legal key");
            let decision = runtime.block_on(state.limiter.check(key, 1));
            // An error admits nobody; a limiter that only fails is found by the check below.
            state.count(thread, decision.is_ok_and(|decision| decision.allowed()));
        }
    };
    let windowed = !algorithm.has_burst();
    let check = move |state: &Counted<L>, measured: &Saturated| state.check(measured, windowed);
    LoopSubject::new(
        name,
        Role::Answer,
        move || Counted::new(make(policy(algorithm))),
        worker,
        check,
    )
}
