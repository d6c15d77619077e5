//! The hole in the fixed window.

use std::sync::Arc;
use std::time::Duration;

use rate_limiter::algorithm::Micros;
use rate_limiter::clock::{Clock, ManualClock};
use rate_limiter::store::memory::{KEYS_MAX_DEFAULT, Memory};
use rate_limiter::{AlgorithmName, Policy, Store};

use super::caller;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "rate-limiter",
        name: "window-edge-burst",
        asks: "You count requests per minute. What does a client get that sends its requests \
               around the full minute?",
        explanation: "A fixed window forgets everything at its edge, so a client that fills the \
            end of one window and the start of the next gets twice the limit within a moment. The \
            sliding log remembers every request and is exact, at one entry per request. The \
            sliding counter weighs the previous window by how much of it the sliding window still \
            covers: three integers, and right as long as the previous window was filled evenly. A \
            token bucket has no edge at all: burst plus rate times time, wherever you look.",
        run: |stage| Box::pin(run(stage)),
    }
}

const LIMIT: u32 = 100;
const WINDOW_MS: u64 = 60_000;

async fn run(stage: Stage) -> anyhow::Result<()> {
    stage.scene(format!("{LIMIT} per minute, in process, on a virtual clock"));
    stage.load("200 requests in the last second of a minute, 200 in the first second of the next");
    let admitted = |algorithm| -> anyhow::Result<u32> {
        let around = around_the_edge(algorithm)?;
        stage.observe(algorithm.as_str(), format!("{around} admitted within two seconds"));
        Ok(around)
    };
    let fixed = admitted(AlgorithmName::FixedWindow)?;
    let log = admitted(AlgorithmName::SlidingLog)?;
    let counter = admitted(AlgorithmName::SlidingCounter)?;
    let bucket = admitted(AlgorithmName::TokenBucket)?;
    stage.expect("the fixed window admits twice its limit", fixed == 2 * LIMIT, fixed);
    stage.expect("the sliding log admits the limit", log == LIMIT, log);
    // A second into the new window 1/60 of the previous one has faded.
    let faded = LIMIT + LIMIT / 60 + 1;
    stage.expect("the sliding counter admits what has faded more", counter <= faded, counter);
    let refilled = LIMIT + 2 * LIMIT / 60 + 1;
    stage.expect("the token bucket admits burst plus refill", bucket <= refilled, bucket);
    stage.because(
        "the fixed window starts from zero at the edge; the others remember what came before it",
    );
    Ok(())
}

fn around_the_edge(algorithm: AlgorithmName) -> anyhow::Result<u32> {
    let window_us = WINDOW_MS * 1_000;
    let edge = Micros(30_000_000 * window_us);
    let clock = Arc::new(ManualClock::at(Micros(edge.0 - 1_000_000)));
    let policy = Policy::single("edge", algorithm, LIMIT, WINDOW_MS, None)?;
    let limiter = Memory::new(Arc::clone(&clock), KEYS_MAX_DEFAULT).limiter(policy);
    let mut admitted = 0;
    for _ in 0..400 {
        admitted += u32::from(limiter.check_now(caller(), 1)?.allowed());
        clock.advance(Duration::from_millis(5));
    }
    assert!(clock.now() > edge, "the load crosses the edge");
    Ok(admitted)
}
