//! The generators of codes side by side: five codes in a row, and what one costs.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use service::Clock;
use url_shortener::Error;
use url_shortener::codes::{AnyCodes, Codes, Draw, Scheme};
use url_shortener::store::memory::Memory;

/// Codes that are shown.
const SHOWN: usize = 5;
/// Codes that are drawn to tell what one costs: enough for three digits, too few to be felt.
const TIMED: u32 = 2_000;
const LENGTH: usize = 7;

/// One generator.
#[derive(Debug, Serialize)]
pub(super) struct Generator {
    name: &'static str,
    codes: Vec<String>,
    ns: u64,
    unique: bool,
    hides_order: bool,
}

/// All of them, each over a counter of its own in memory.
///
/// # Errors
/// Those of the generators.
pub(super) async fn all() -> Result<Vec<Generator>, Error> {
    let mut all = Vec::new();
    for scheme in Scheme::ALL {
        let store = Arc::new(Memory::default());
        let codes = AnyCodes::new(scheme, LENGTH, &store, Clock::system()).await?;
        let mut shown = Vec::new();
        for number in 0..SHOWN {
            shown.push(draw(&codes, number as u32).await?);
        }
        let started = Instant::now();
        for number in 0..TIMED {
            draw(&codes, number).await?;
        }
        let ns = started.elapsed().as_nanos() as u64 / u64::from(TIMED);
        let traits = codes.traits();
        let (unique, hides_order) = (traits.unique, traits.hides_order);
        all.push(Generator { name: scheme.name(), codes: shown, ns, unique, hides_order });
    }
    Ok(all)
}

async fn draw(codes: &AnyCodes<Memory>, number: u32) -> Result<String, Error> {
    let target = format!("https://example.com/{number}");
    Ok(codes.draw(Draw { target: &target, attempt: 0 }).await?.to_string())
}
