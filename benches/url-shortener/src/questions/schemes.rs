//! Counter, random or hash?

use std::collections::HashSet;
use std::sync::Arc;

use service::Clock;
use url_shortener::codes::{AnyCodes, Codes, Draw, Scheme};
use url_shortener::store::memory::Memory;

use measure::units::count;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "url-shortener",
        name: "counter-random-or-hash",
        asks: "A billion links: do you take a counter, random codes, or a hash?",
        explanation: "A hash cut to seven digits collides like random ones do, and so needs the \
            same retry; what it seemed to save, the lookup for a target that is already there, it \
            then cannot promise. Random codes need a retry once in 62^k / n creates, which is \
            rare, and nothing else. A counter never retries but tells everybody how many links \
            there are, unless it goes through a keyed permutation of the code space. Whichever it \
            is, the insert stays under a uniqueness constraint, because of the aliases.",
        run: |stage| Box::pin(run(stage)),
    }
}

/// 62^4 codes, so that a few hundred thousand links fill as much of the space as many billions
/// fill of 62^7.
const LENGTH: usize = 4;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let (space, links) = (62_u64.pow(LENGTH as u32), stage.pick(150_000_u64, 1_500_000));
    let load = links as f64 / space as f64;
    let same = load * 62_f64.powi(7);
    stage.scene(format!(
        "codes of {LENGTH} digits, {} links: as full as 7 digits with {same:.1e}",
        count(links as f64)
    ));
    for scheme in [Scheme::Feistel, Scheme::Random, Scheme::Hashed, Scheme::Leased] {
        let store = Arc::new(Memory::default());
        let codes = AnyCodes::new(scheme, LENGTH, &store, Clock::system()).await?;
        let (mut taken, mut redraws, mut rising) = (HashSet::new(), 0_u64, 0_u64);
        let mut last = None;
        for number in 0..links {
            let target = format!("https://example.com/{number}");
            let mut attempt = 0;
            let code = loop {
                let code = codes.draw(Draw { target: &target, attempt }).await?;
                if taken.insert(code.clone()) {
                    break code;
                }
                attempt += 1;
                redraws += 1;
            };
            rising += u64::from(last.as_ref().is_some_and(|last| *last < code));
            last = Some(code);
        }
        let name = scheme.name();
        let ordered = rising as f64 / links as f64;
        stage.observe(
            name,
            format!(
                "{} redraws, {:.1} % of codes above the one before",
                count(redraws as f64),
                ordered * 100.0
            ),
        );
        let unique = codes.traits().unique;
        // The mean fill over all creates is half of the last one; 20 % are five deviations and more.
        let expected = if unique { 0.0 } else { load / 2.0 * links as f64 };
        let right = (redraws as f64 - expected).abs() <= expected * 0.2 + 5.0;
        stage.expect(
            format!("{name} redraws as the birthday bound says"),
            right,
            format!("{redraws}, expected {expected:.0}"),
        );
        if codes.traits().hides_order {
            let hidden = (ordered - 0.5).abs() < 0.02;
            stage.expect(format!("{name} hides the order"), hidden, format!("{ordered:.3}"));
        }
    }
    stage.because("a permutation has no collisions to retry and no order to read; a hash has both costs of random codes and none of their secrecy");
    Ok(())
}
