//! What every generator of codes promises.

use std::collections::HashSet;
use std::sync::Arc;

use testkit::conformance::{Broken, Promise, Verdict};
use testkit::ensure;

use crate::code::{ALPHABET, Code};
use crate::codes::{Codes, Draw};

/// How the suite reaches the generator under test.
pub trait Fixture: Send + Sync + 'static {
    /// The generator.
    type Codes: Codes;

    /// A new process with the generator, beside all others there are or were: over the same store,
    /// as after a restart.
    fn start(&self) -> impl Future<Output = Self::Codes> + Send;
}

/// The promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    testkit::promises! { F;
        codes_are_of_the_length_and_the_alphabet => "Nothing but base 62, as long as said.",
        a_unique_generator_never_repeats => "20,000 draws, or as many targets, are as many codes.",
        a_taken_code_is_not_drawn_again => "The next attempt gives another code.",
        writers_do_not_collide.on_many_threads() => "Eight writers at once draw different codes.",
        a_restart_repeats_nothing => "What was given out before a restart is not given out after.",
        the_order_does_not_show => "From one code nobody can tell the next, if that is promised.",
        all_digits_are_used_alike => "No code is likelier than another, where order is hidden.",
    }
}

/// Enough for the birthday bound to show in short codes, few enough for a test.
const DRAWS: usize = 20_000;

async fn draw(codes: &impl Codes, target: &str, attempt: u32) -> Result<Code, Broken> {
    let drawn = codes.draw(Draw { target, attempt }).await;
    drawn.map_err(|error| Broken::because(format!("a draw failed: {error}")))
}

async fn draws(codes: &impl Codes, count: usize, of: &str) -> Result<Vec<Code>, Broken> {
    let mut drawn = Vec::with_capacity(count);
    for number in 0..count {
        drawn.push(draw(codes, &format!("https://example.com/{of}/{number}"), 0).await?);
    }
    Ok(drawn)
}

async fn codes_are_of_the_length_and_the_alphabet<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let codes = fixture.start().await;
    let (shortest, longest) = codes.traits().length;
    for attempt in 0..32 {
        for target in ["https://example.com/", "https://example.com/b"] {
            let code = draw(&codes, target, attempt).await?;
            let length = code.as_str().len();
            ensure!((shortest..=longest).contains(&length), "{code:?} is {length} digits long");
            let plain = code.as_str().bytes().all(|digit| ALPHABET.contains(&digit));
            ensure!(plain, "{code:?} is not base 62");
        }
    }
    Ok(())
}

async fn a_unique_generator_never_repeats<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let codes = fixture.start().await;
    let unique = codes.traits().unique;
    let mut seen = HashSet::new();
    let repeats =
        draws(&codes, DRAWS, "unique").await?.into_iter().filter(|code| !seen.insert(code.clone()));
    let repeats: Vec<_> = repeats.collect();
    // With 62^7 codes the birthday bound expects 0.00006 repeats among these draws.
    ensure!(
        repeats.is_empty(),
        "unique: {unique}, and {} of {DRAWS} came again: {:?}",
        repeats.len(),
        repeats.first()
    );
    Ok(())
}

async fn a_taken_code_is_not_drawn_again<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let codes = fixture.start().await;
    let mut seen = HashSet::new();
    for attempt in 0..8 {
        let code = draw(&codes, "https://example.com/same", attempt).await?;
        ensure!(seen.insert(code.clone()), "attempt {attempt} drew {code:?} again");
    }
    Ok(())
}

async fn writers_do_not_collide<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut writers = Vec::new();
    for writer in 0..8 {
        let codes = fixture.start().await;
        writers.push(tokio::spawn(async move { draws(&codes, 2_500, &writer.to_string()).await }));
    }
    let mut seen = HashSet::new();
    for writer in writers {
        for code in writer.await.map_err(|error| Broken::because(error.to_string()))?? {
            ensure!(seen.insert(code.clone()), "two writers drew {code:?}");
        }
    }
    Ok(())
}

async fn a_restart_repeats_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let mut seen = HashSet::new();
    for start in 0..5 {
        let codes = fixture.start().await;
        for code in draws(&codes, 300, &format!("start{start}")).await? {
            ensure!(seen.insert(code.clone()), "{code:?} came again after restart {start}");
        }
    }
    Ok(())
}

async fn the_order_does_not_show<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let codes = fixture.start().await;
    if !codes.traits().hides_order {
        return Ok(());
    }
    let drawn = draws(&codes, 2_000, "order").await?;
    let rising = drawn.windows(2).filter(|pair| pair[0] < pair[1]).count();
    // Half of them, with a deviation of 13 (neighbours depend on each other, so less than 22).
    ensure!((900..1_100).contains(&rising), "{rising} of 2,000 codes were above the one before");
    let shared = |pair: &[Code]| {
        pair[0].as_str().bytes().zip(pair[1].as_str().bytes()).take_while(|(a, b)| a == b).count()
    };
    let prefixes = drawn.windows(2).filter(|pair| shared(pair) >= 3).count();
    ensure!(prefixes <= 3, "{prefixes} of 2,000 codes began like the one before");
    Ok(())
}

async fn all_digits_are_used_alike<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let codes = fixture.start().await;
    if !codes.traits().hides_order {
        return Ok(());
    }
    let mut counts = [0_u32; 128];
    let digits = draws(&codes, DRAWS, "digits").await?;
    let first_seven = digits.iter().flat_map(|code| code.as_str().bytes().take(7));
    first_seven.for_each(|digit| counts[digit as usize] += 1);
    // 2,258 of each with a deviation of 47; the bounds are six of them away. A byte modulo 62
    // would give 2,734 to eight of the digits.
    for digit in ALPHABET {
        let count = counts[*digit as usize];
        ensure!((1_976..2_540).contains(&count), "{} came {count} times", char::from(*digit));
    }
    Ok(())
}
