//! A loop one key longer than the cache.

use lru_cache::sim::run::PolicyName;

use super::{hit_percent, requests};
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "lru-cache",
        name: "loop",
        asks: "A job reads the same thousand rows over and over, and the cache holds all but one \
               of them. What is the hit ratio of LRU?",
        explanation: "Zero. When a row is asked for again, every other row has been used since, so \
            it is the least recently used one and was thrown out just before. The optimum throws \
            out the row it has just read, because that one is needed last. Policies that make a \
            newcomer prove itself (W-TinyLFU, LFU) keep most of what they have. CLOCK and SIEVE do \
            not help: without a hit no bit is ever set, and both are FIFO.",
        run: |stage| Box::pin(run(stage)),
    }
}

const ROWS: u64 = 1_000;
const CAPACITY: u64 = ROWS - 1;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let turns = stage.pick(100, 1_000);
    stage.scene(format!("a cache of {CAPACITY} entries, simulated"));
    stage.load(format!("keys 0 to {} in order, {turns} times", ROWS - 1));
    let trace = requests((0..turns * ROWS).map(|at| at % ROWS));
    let percent = |policy| hit_percent(&stage, policy, CAPACITY, &trace);
    let lru = percent(PolicyName::Lru);
    let (clock, sieve) = (percent(PolicyName::Clock), percent(PolicyName::Sieve));
    let (filtered, opt) = (percent(PolicyName::WTinyLfu), percent(PolicyName::Opt));
    stage.expect("LRU never hits", lru == 0.0, format!("{lru:.2} %"));
    let neither = clock == 0.0 && sieve == 0.0;
    stage.expect("neither do CLOCK and SIEVE", neither, format!("{clock:.2} and {sieve:.2} %"));
    stage.expect("the optimum hits nearly always", opt > 95.0, format!("{opt:.2} %"));
    stage.expect("W-TinyLFU hits most of the time", filtered > 50.0, format!("{filtered:.2} %"));
    let one_more = hit_percent(&stage, PolicyName::Lru, ROWS, &trace);
    let ideal = 100.0 * (turns - 1) as f64 / turns as f64;
    let reached = (one_more - ideal).abs() < 0.001;
    stage.expect("with room for one more row LRU hits always", reached, format!("{one_more:.2} %"));
    stage.because("LRU throws out what has waited longest, and in a loop that is what comes next");
    Ok(())
}
