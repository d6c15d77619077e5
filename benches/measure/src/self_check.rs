//! The harness compared with what it promises: `compare harness`.
//!
//! How late it sends, how fast it can go when there is nothing to do, and what it reports of a
//! server whose stalls are known. Not timed unit tests: figures depend on the machine, so they
//! are printed, and judged by whoever reads them.

use std::time::Duration;

use tokio::time::Instant;

use crate::comparison::{Bench, Comparison, Scenario};
use crate::harness::{
    ClosedLoop, Load, Pacing, Plan, Run, Saturation, Summary, interleaved, paired_ratio,
};
use crate::subject::{LoopSubject, Ready, Role, Subject};
use crate::units::{duration_ns, rate};

/// The name it goes by on the command line.
pub const NAME: &str = "harness";

/// The registry entry of the harness.
pub fn comparison() -> Comparison {
    let about = "the harness itself: send lag, known stalls, false alarms, saturation of a no-op";
    Comparison { system: NAME, about, run: |bench| Box::pin(run(bench)) }
}

async fn run(bench: Bench) -> anyhow::Result<()> {
    let seconds = Duration::from_secs(bench.pick(1, 5, 20));
    lag(seconds).await;
    stalls(seconds.max(Duration::from_secs(3))).await;
    alarms(bench.pick(200, 1_000, 1_000));
    drawn(&bench, seconds.max(Duration::from_secs(3))).await?;
    saturation(&bench).await
}

/// The stalls once more as a comparison, to have a report with a known shape to look at.
async fn drawn(bench: &Bench, length: Duration) -> anyhow::Result<()> {
    let (stall, period) = (Duration::from_millis(100), Duration::from_secs(1));
    let subject = |name, stall| {
        Subject::answer(name, move || async move {
            let started = Instant::now();
            let op = move |_| async move {
                stalling_reply(started, stall, period).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok("ok")
            };
            Ok(Ready::new(op, |seen| async move { all_answered(&seen) }))
        })
    };
    let about = "5 ms of sleep; one of the two also holds replies for 100 ms in every second";
    let scenario = Scenario { rounds: Some(5), ..Scenario::new("known-stalls", about, "steady") };
    let load = Load::new(Plan::poisson(1_000.0, length)).with_faults();
    let subjects = vec![subject("steady", Duration::ZERO), subject("stalling", stall)];
    bench.open(scenario, load, subjects).await
}

fn all_answered(seen: &Summary) -> Result<(), String> {
    let counted = seen.completed == seen.offered && seen.failed == 0;
    counted.then_some(()).ok_or_else(|| format!("{} of {}", seen.completed, seen.offered))
}

/// Send lag with an operation that does nothing. These runs are invalid by design (lag is nearly
/// all of their latency), which is exactly what makes the lag visible.
async fn lag(length: Duration) {
    println!("send lag (planned start to first poll of the request), no-op requests");
    for per_s in [1_000.0, 10_000.0, 50_000.0] {
        for pacing in [Pacing::Sleep, Pacing::Timer, Pacing::Spin] {
            let load = Load::new(Plan::constant(per_s, length)).paced(pacing);
            let run = load.run(|_| async { Ok("ok") }).await;
            let at = |q: f64| duration_ns(run.lag.value_at_quantile(q));
            println!(
                "  {:>8} {:<6} p50 {:>8}  p99 {:>8}  p99.9 {:>8}  max {:>8}  achieved {}",
                rate(per_s),
                format!("{pacing:?}"),
                at(0.5),
                at(0.99),
                at(0.999),
                duration_ns(run.lag.max()),
                rate(run.achieved_per_s()),
            );
        }
    }
    println!();
}

/// Replies at once, except that during the last `stall` of every `period` it holds all replies
/// and releases them together.
pub(crate) async fn stalling_reply(server_started: Instant, stall: Duration, period: Duration) {
    let within = server_started.elapsed().as_nanos() % period.as_nanos();
    let left = period - Duration::from_nanos(within as u64);
    if left <= stall {
        tokio::time::sleep(left).await;
    }
}

/// The latency at `quantile` that open-loop clients of that server truly see: the longest wait is
/// the whole stall, and waits are evenly spread below it.
pub(crate) fn stall_truth(quantile: f64, stall: Duration, period: Duration) -> Duration {
    stall.saturating_sub(period.mul_f64(1.0 - quantile))
}

/// 1,000 requests a second for whole periods against the stalling server.
pub(crate) async fn stalled_run(
    length: Duration,
    stall: Duration,
    period: Duration,
    pacing: Pacing,
) -> Run {
    let mut load = Load::new(Plan::constant(1_000.0, length)).paced(pacing);
    load.tick = Duration::from_secs(1);
    let started = Instant::now();
    let op = move |_| async move {
        stalling_reply(started, stall, period).await;
        Ok("ok")
    };
    load.run(op).await
}

async fn stalls(length: Duration) {
    let (stall, period) = (Duration::from_millis(100), Duration::from_secs(1));
    println!("a server that holds every reply for the last 100 ms of each second, 1000/s");
    let open = stalled_run(length, stall, period, Pacing::Sleep).await;
    let started = Instant::now();
    let closed = ClosedLoop { workers: 1, duration: length, seed: 0 };
    let closed = closed.run(move |_| async move {
        stalling_reply(started, stall, period).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok("ok")
    });
    let closed = closed.await;
    for quantile in [0.95, 0.99, 0.999] {
        println!(
            "  p{:<5} truth {:>8}   open loop {:>8}   closed loop would say {:>8}",
            quantile * 100.0,
            duration_ns(stall_truth(quantile, stall, period).as_nanos() as u64),
            duration_ns(open.quantile(quantile).as_nanos() as u64),
            duration_ns(closed.quantile(quantile).as_nanos() as u64),
        );
    }
    println!();
}

/// How fast the harness itself can go.
async fn saturation(bench: &Bench) -> anyhow::Result<()> {
    let scenario = Scenario::new("no-op", "the in-process loop around nothing", "empty");
    let scenario = Scenario { rounds: Some(bench.pick(3, 5, 10)), ..scenario };
    let count = |n: u64| n.wrapping_mul(3);
    let passed = |(): &(), _: &_| Ok(());
    let empty = LoopSubject::new("empty", Role::Answer, || (), move |_, _| count, passed);
    bench.in_process(scenario, Saturation::default(), vec![empty]).await?;

    let scenario = Scenario::new("no-op-closed", "the closed loop around nothing", "ready");
    let ready = || {
        Subject::answer("ready", || async {
            let op = |_| async { Ok("ok") };
            Ok(Ready::new(op, |seen| async move { all_answered(&seen) }))
        })
    };
    let load = ClosedLoop { workers: 2, duration: Duration::from_secs(1), seed: 0 };
    bench.closed(scenario, load, vec![ready()]).await
}

/// How often the statistics cry wolf, and how often they miss a wolf, on simulated rounds.
fn alarms(trials: u64) {
    println!("{ROUNDS} interleaved rounds on a drifting machine, {trials} comparisons, flagged");
    for (statistic, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        println!(
            "  {statistic}: {} of A against A (5 % expected), {} of A against A + 5 %",
            flagged(trials, 1.0, quantile),
            flagged(trials, 1.05, quantile),
        );
    }
    println!();
}

/// Rounds of a simulated comparison.
const ROUNDS: usize = 10;

/// Simulated rounds of two subjects, ABBA: service times with an exponential part, on a machine
/// whose speed drifts by 30 % and that is never the same twice. `slower` multiplies B's.
fn simulated_rounds(seed: u64, slower: f64, quantile: f64) -> (Vec<f64>, Vec<f64>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut figures = (vec![0.0; ROUNDS], vec![0.0; ROUNDS]);
    let mut clock = rng.f64() * 10.0;
    for (round, order) in interleaved(2, ROUNDS).into_iter().enumerate() {
        for subject in order {
            clock += 1.0;
            let drift = 1.0 + 0.3 * (clock / 7.0).sin() + 0.01 * rng.f64();
            let factor = drift * if subject == 0 { 1.0 } else { slower };
            let mut times: Vec<f64> =
                (0..1_000).map(|_| factor * (1.0 - 0.15 * (1.0 - rng.f64()).ln())).collect();
            times.sort_by(f64::total_cmp);
            let figure = times[((times.len() - 1) as f64 * quantile) as usize];
            let of = if subject == 0 { &mut figures.0 } else { &mut figures.1 };
            of[round] = figure;
        }
    }
    figures
}

/// Of `trials` comparisons of simulated subjects, how many are called different.
fn flagged(trials: u64, slower: f64, quantile: f64) -> usize {
    let differs = |trial: &u64| {
        let (a, b) = simulated_rounds(*trial, slower, quantile);
        paired_ratio(&a, &b, *trial).is_some_and(|ratio| ratio.differs())
    };
    (0..trials).filter(differs).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Flaw;

    /// The honesty oracle at its full length (60 s of virtual time): what is reported must be what
    /// clients saw, within 2 %.
    #[tokio::test(start_paused = true)]
    async fn reports_the_analytic_percentiles_of_a_stalling_server() {
        let (stall, period) = (Duration::from_secs(1), Duration::from_secs(10));
        let run = stalled_run(Duration::from_secs(60), stall, period, Pacing::Timer).await;
        assert_eq!(run.completed(), 60_000);
        for quantile in [0.95, 0.99, 0.999] {
            let truth = stall_truth(quantile, stall, period).as_secs_f64();
            let reported = run.quantile(quantile).as_secs_f64();
            let error = (reported / truth - 1.0).abs();
            assert!(error < 0.02, "p{}: {reported} s for {truth} s", quantile * 100.0);
        }
        assert!(run.is_valid(), "{:?}", run.flaws());
        // Most requests were answered at once, within a tick of tokio's timer.
        assert!(run.quantile(0.85) <= Duration::from_millis(2));
    }

    /// The defect the harness exists to avoid, shown: one polite worker hardly notices the stall.
    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_hides_the_same_stalls() {
        let (stall, period) = (Duration::from_secs(1), Duration::from_secs(10));
        let started = Instant::now();
        let closed = ClosedLoop { workers: 1, duration: Duration::from_secs(60), seed: 0 };
        let run = closed.run(move |_| async move {
            stalling_reply(started, stall, period).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok("ok")
        });
        let p99 = run.await.quantile(0.99);
        assert!(p99 < Duration::from_millis(10), "p99 {p99:?} although 5 % waited 0.5 s or more");
    }

    #[test]
    fn a_subject_compared_with_itself_is_rarely_called_different() {
        for quantile in [0.5, 0.99] {
            let flagged = flagged(40, 1.0, quantile);
            assert!(flagged <= 5, "{flagged} of 40 A/A comparisons flagged at the 5 % level");
        }
    }

    #[test]
    fn five_percent_more_service_time_is_found() {
        let flagged = flagged(40, 1.05, 0.5);
        assert!(flagged >= 38, "{flagged} of 40 A/B comparisons flagged");
    }

    #[tokio::test(start_paused = true)]
    async fn an_overloaded_system_is_dropped_counted_and_declared_invalid() {
        let plan = Plan::constant(1_000.0, Duration::from_secs(5));
        let load = Load::new(plan).paced(Pacing::Timer).in_flight(100);
        // 100 in flight for 200 ms each: at most 500 a second of the 1,000 offered.
        let run = load.run(|_| async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok("ok")
        });
        let run = run.await;
        assert_eq!(run.completed() + run.dropped, 5_000);
        assert!(run.dropped > 2_000, "{} dropped", run.dropped);
        assert!(run.flaws().iter().any(|flaw| matches!(flaw, Flaw::Dropped { .. })));
        assert!(run.flaws().iter().any(|flaw| matches!(flaw, Flaw::FellBehind { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn errors_panics_and_requests_that_never_end_are_counted_apart() {
        let mut load = Load::new(Plan::constant(100.0, Duration::from_secs(1)));
        (load.pacing, load.drain) = (Pacing::Timer, Duration::from_secs(1));
        let run = load.run(|shot| async move {
            match shot.n {
                0..10 => Err("refused"),
                10 => panic!("a bug in the subject"),
                11 => std::future::pending().await,
                _ => Ok("ok"),
            }
        });
        let run = run.await;
        let counts = ["ok", "refused", "panicked", "unfinished"].map(|class| run.count(class));
        assert_eq!(counts, [88, 10, 1, 1]);
        assert_eq!(run.latency.len(), 88, "failures stay out of the latency histogram");
        let total: u64 = run.intervals.iter().map(|i| i.completed + i.failed).sum();
        assert_eq!(total, 100, "the time line adds up to the run");
    }

    /// In real time, on the sender's own thread; asserts nothing about how fast.
    #[tokio::test]
    async fn the_sending_thread_sends_everything_and_stops_when_it_is_abandoned() {
        let run = Load::new(Plan::constant(1_000.0, Duration::from_millis(100)));
        let run = run.run(|_| async { Ok("ok") }).await;
        assert_eq!((run.offered, run.completed()), (100, 100));

        let held = std::sync::Arc::new(());
        let op = {
            let held = std::sync::Arc::clone(&held);
            move |_| {
                let _held = std::sync::Arc::clone(&held);
                async { Ok("ok") }
            }
        };
        let load = Load::new(Plan::constant(1_000.0, Duration::from_secs(600)));
        let abandoned = tokio::time::timeout(Duration::from_millis(50), load.run(op)).await;
        assert!(abandoned.is_err(), "ten minutes of load ended early");
        // The operation is freed once the sender's thread has ended.
        let freed = async {
            while std::sync::Arc::strong_count(&held) > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), freed).await.expect("the sender stops");
    }

    #[tokio::test(start_paused = true)]
    async fn timed_from_the_send_a_stalled_server_cannot_hide_either() {
        let (stall, period) = (Duration::from_secs(1), Duration::from_secs(10));
        let started = Instant::now();
        let plan = Plan::constant(100.0, Duration::from_secs(60));
        let load = Load::new(plan).paced(Pacing::Timer).timed_from_send();
        let run = load.run(move |_| async move {
            stalling_reply(started, stall, period).await;
            Ok("ok")
        });
        let run = run.await;
        assert_eq!(run.mode, crate::harness::Mode::OpenFromSend);
        let truth = stall_truth(0.99, stall, period).as_secs_f64();
        let error = (run.quantile(0.99).as_secs_f64() / truth - 1.0).abs();
        assert!(error < 0.02, "p99 {:?} for {truth} s", run.quantile(0.99));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_invariant_invalidates_a_fast_run() {
        let load = Load::new(Plan::constant(100.0, Duration::from_secs(1))).paced(Pacing::Timer);
        let mut run = load
            .run(|_| async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok("sold")
            })
            .await;
        assert!(run.is_valid(), "{:?}", run.flaws());
        run.check(Err("sold 101 of 100".to_owned()));
        assert_eq!(run.flaws(), [Flaw::Broken("sold 101 of 100".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_search_finds_the_knee_within_its_trials() {
        use crate::harness::{Search, Slo, max_rate};
        // A server with 20 slots of 10 ms: 2,000 a second, and not one more.
        let trial = |per_s: f64| async move {
            let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(20));
            let plan = Plan::constant(per_s, Duration::from_secs(4));
            let load = Load::new(plan).paced(Pacing::Timer).in_flight(100_000);
            let op = move |_| {
                let slots = std::sync::Arc::clone(&slots);
                async move {
                    let _slot = slots.acquire().await.map_err(|_| "closed")?;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    Ok("ok")
                }
            };
            load.run(op).await
        };
        let search = Search { from_per_s: 250.0, to_per_s: 100_000.0, max_trials: 12 };
        let found = max_rate(Slo::p99(Duration::from_millis(50)), search, trial).await;
        let reached = found.per_s.expect("the first rate is met");
        // Timers round up to the next millisecond, so a slot may take 11.
        assert!((1_600.0..=2_050.0).contains(&reached), "{reached}");
        assert!(found.trials.len() <= 12 && !found.ceiling_reached);
    }
}
