//! A link goes viral.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use url_shortener::codes::Scheme;
use url_shortener::store::memory::Memory;
use url_shortener::{Code, Shortener};

use super::{clicks, create, person, shortener};
use measure::units::rate;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "url-shortener",
        name: "viral",
        asks: "One link gets all the traffic. Does it slow down, and is every click counted?",
        explanation: "A hot link is the easy case for the index: its record stays in the CPU's \
            cache. It would be the hard case for a counter that is one row or one atomic, which \
            all threads fight for. Here each thread leaves its clicks in a ring of its own, and \
            what reaches the store is one row per link and flush, however many clicks it got.",
        run: |stage| Box::pin(run(stage)),
    }
}

const LINKS: usize = 10_000;
const THREADS: usize = 2;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let (shortener, _shutdown) = shortener(Arc::<Memory>::default(), Scheme::Feistel, 7).await?;
    stage.scene(format!("{LINKS} links, {THREADS} threads that follow links, without HTTP"));
    let mut codes = Vec::new();
    for number in 0..LINKS {
        codes.push(create(&shortener, &format!("https://example.com/{number}"), None).await?);
    }
    let codes = Arc::new(codes);
    let duration = Duration::from_secs(stage.pick(1, 5));
    let mut rates = Vec::new();
    for (name, links) in [("any of the links", LINKS), ("one link", 1)] {
        let before = total(&shortener, &codes[..1]).await?;
        let all_before = if links == 1 { before } else { total(&shortener, &codes).await? };
        stage.load(format!("{name}, as fast as it goes"));
        let done = tokio::task::spawn_blocking({
            let (shortener, codes) = (Arc::clone(&shortener), Arc::clone(&codes));
            move || follow(&shortener, &codes[..links], duration)
        })
        .await?;
        shortener.flush_clicks().await?;
        let after = total(&shortener, if links == 1 { &codes[..1] } else { &codes }).await?;
        let counted = after - all_before;
        let per_s = done as f64 / duration.as_secs_f64();
        stage.observe(name, format!("{} redirects", rate(per_s)));
        stage.expect(
            format!("{name}: every click is counted"),
            counted == done,
            format!("{counted} of {done}"),
        );
        rates.push(per_s);
    }
    let ratio = rates[1] / rates[0];
    stage.expect("a viral link is no slower than the others", ratio > 0.5, format!("{ratio:.2}x"));
    stage.because("threads share nothing that is written when a click is left, and the fold makes one row of any number of clicks");
    Ok(())
}

fn follow(shortener: &Shortener<Memory>, codes: &[Code], duration: Duration) -> u64 {
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let done = &done;
            scope.spawn(move || {
                let (mut rng, mut mine) = (fastrand::Rng::with_seed(thread as u64), 0_u64);
                let begun = Instant::now();
                while mine % 256 != 0 || begun.elapsed() < duration {
                    let code = &codes[rng.usize(..codes.len())];
                    let length =
                        shortener
                            .follow_now(code.as_str(), Some(person()), |_, target| target.len());
                    mine += u64::from(length.is_some());
                }
                done.fetch_add(mine, Ordering::Relaxed);
            });
        }
    });
    done.into_inner()
}

async fn total(shortener: &Shortener<Memory>, codes: &[Code]) -> anyhow::Result<u64> {
    let mut total = 0;
    for code in codes {
        total += clicks(shortener, code).await?;
    }
    Ok(total)
}
