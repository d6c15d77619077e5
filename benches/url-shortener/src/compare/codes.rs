//! The generators of codes side by side: what one code costs in process.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::executor::block_on;

use service::Clock;
use url_shortener::codes::{AnyCodes, Codes, Draw, Scheme};
use url_shortener::store::memory::Memory;

use measure::harness::{Saturated, Saturation};
use measure::{Bench, LoopSubject, Role, Scenario};

pub(super) async fn compare(bench: &Bench) -> anyhow::Result<()> {
    let subjects = || Scheme::ALL.into_iter().map(generator).collect::<Vec<_>>();
    let about = "one code after the other, seven digits where there is a choice";
    let scenario = Scenario::new("codes", about, "leased");
    let slice = Duration::from_millis(bench.pick(20, 50, 100));
    bench
        .in_process(scenario, Saturation { slice, ..Saturation::default() }.threads(1), subjects())
        .await?;
    Ok(())
}

/// A generator, and some of the codes it gave: how they were made is checked after each run.
struct Measured {
    codes: AnyCodes<Memory>,
    sample: Mutex<Vec<String>>,
}

/// One code of so many is kept for the check.
const SAMPLE_EVERY: u64 = 64;
const SAMPLE_MAX: usize = 100_000;

fn generator(scheme: Scheme) -> LoopSubject {
    let make = move || {
        let store = Arc::new(Memory::default());
        let codes = block_on(AnyCodes::new(scheme, 7, &store, Clock::system()));
        Measured { codes: codes.expect("memory answers"), sample: Mutex::default() }
    };
    let worker = |state: Arc<Measured>, thread: usize| {
        let (mut number, mut target) = (thread as u64, String::new());
        move |_| {
            use std::fmt::Write;
            target.clear();
            let _ = write!(target, "https://example.com/a/page/{number}");
            let code = loop {
                // A snowflake that is ahead of its clock must wait for it: that is its price.
                if let Ok(code) = block_on(state.codes.draw(Draw { target: &target, attempt: 0 })) {
                    break code;
                }
            };
            if number % SAMPLE_EVERY == 0 {
                let mut sample = state.sample.lock().expect("no panic under this lock");
                if sample.len() < SAMPLE_MAX {
                    sample.push(code.to_string());
                }
            }
            number += 1;
        }
    };
    let check = |state: &Measured, measured: &Saturated| {
        let sample = state.sample.lock().expect("no panic under this lock");
        let different = sample.iter().collect::<HashSet<_>>().len();
        (measured.calls > 0 && !sample.is_empty() && different == sample.len())
            .then_some(())
            .ok_or_else(|| format!("{} codes, {different} different", sample.len()))
    };
    LoopSubject::new(scheme.name(), Role::Answer, make, worker, check)
}
