//! Ten thousand jobs fail in the same second.

use std::time::Duration;

use job_queue::worker::{Backoff, Jitter};

use measure::{Question, Stage};

const JOBS: usize = 10_000;
const FAILURES: u32 = 6;
const SLOTS: usize = 60;

pub(super) fn question() -> Question {
    Question {
        system: "job-queue",
        name: "retry-storm",
        asks: "The database was down for a second and ten thousand jobs failed. When do they come \
               back?",
        explanation: "With plain exponential backoff: all at once, after exactly as long, and they \
            take the database down again. Full jitter draws the delay from zero to the exponential \
            value and spreads the arrivals evenly; equal jitter keeps half of it as a minimum, so \
            the same number arrives in half of the time; decorrelated jitter draws from the last \
            delay and leans to the early side.",
        run: |stage| Box::pin(retry_storm(stage)),
    }
}

async fn retry_storm(stage: Stage) -> anyhow::Result<()> {
    stage.scene("no queue: the delays themselves, from the function that the workers use");
    stage.load(format!("{JOBS} jobs at their failure number {FAILURES}; base 1 s, cap 60 s"));
    let (base, cap) = (Duration::from_secs(1), Duration::from_secs(60));
    let mut ratios = Vec::new();
    for jitter in [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated] {
        let backoff = Backoff { base, cap, jitter };
        let mut rng = fastrand::Rng::with_seed(stage.seed());
        let mut slots = [0_usize; SLOTS];
        for _ in 0..JOBS {
            let delay_s = backoff.delay(FAILURES, &mut rng).as_secs() as usize;
            slots[delay_s.min(SLOTS - 1)] += 1;
        }
        let peak = slots.iter().copied().max().unwrap_or(0);
        let ratio = peak as f64 * SLOTS as f64 / JOBS as f64;
        stage.observe(
            format!("{jitter:?}: arrivals a second over a minute"),
            format!("{} peak {peak}/s, {ratio:.1} times the mean", plot(&slots)),
        );
        ratios.push(ratio);
    }
    stage.expect("without jitter all come at once", ratios[0] == SLOTS as f64, ratios[0]);
    stage.expect(
        "full jitter comes close to the flattest arrival there is",
        ratios[1] < 3.0,
        format!("{:.1} times the mean", ratios[1]),
    );
    let all_better = ratios[1..].iter().all(|ratio| *ratio < ratios[0] / 4.0);
    stage.expect("every jitter is far below none", all_better, format!("{ratios:.1?}"));
    stage.because("who failed together must not retry together");
    Ok(())
}

fn plot(slots: &[usize]) -> String {
    const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let peak = slots.iter().copied().max().unwrap_or(0).max(1);
    slots.iter().map(|&count| HEIGHTS[(count * 8).div_ceil(peak)]).collect()
}
