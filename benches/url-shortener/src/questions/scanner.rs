//! Somebody scans for codes.

use std::sync::Arc;

use url_shortener::Code;
use url_shortener::codes::Scheme;
use url_shortener::lookup::{Found, Lookup as _};
use url_shortener::store::memory::Memory;

use super::{create, shortener};
use measure::units::count;
use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "url-shortener",
        name: "scanner",
        asks: "Somebody tries codes to find other people's links. What do they get?",
        explanation: "It depends on how full the code space is and on whether codes have \
            neighbours. A plain counter gives everything away: the code before and after yours \
            exists. Random or permuted codes give a guess the chance n / 62^k: with a million \
            links one in 3.5 million for seven digits. That is no access control, so links that \
            must stay private get sixteen random digits, and an address that tries too many \
            unknown codes gets 429. A guess costs one look into memory and never reaches the \
            database.",
        run: |stage| Box::pin(run(stage)),
    }
}

/// Short codes, so that a scan of a few seconds finds something.
const LENGTH: usize = 4;

async fn run(stage: Stage) -> anyhow::Result<()> {
    let (links, guesses) = (stage.pick(20_000_u64, 100_000), stage.pick(200_000_u64, 2_000_000));
    let space = 62_u64.pow(LENGTH as u32);
    stage.scene(format!(
        "{} links with codes of {LENGTH} digits; the scanner owns one of them",
        count(links as f64)
    ));
    for scheme in [Scheme::Leased, Scheme::Feistel, Scheme::Random] {
        let (shortener, _shutdown) = shortener(Arc::<Memory>::default(), scheme, LENGTH).await?;
        let mut own = None;
        for number in 0..links {
            let code = create(&shortener, &format!("https://example.com/{number}"), None).await?;
            own = own.or((number == links / 2).then_some(code));
        }
        let own = own.expect("there are links");
        let hit =
            |code: &Code| shortener.lookup().find_now(code.as_str(), |_| ()) == Found::Here(());
        let name = scheme.name();
        let near = neighbours(&own).filter(hit).count();
        let is_counter = scheme == Scheme::Leased;
        let expected = if is_counter { near == 1_000 } else { near < 50 };
        stage.expect(
            format!("{name}: links among the 1,000 codes next to one's own"),
            expected,
            near,
        );
        let mut rng = fastrand::Rng::with_seed(stage.seed());
        let hits = (0..guesses).filter(|_| hit(&Code::base62(rng.u64(..space), LENGTH))).count();
        let per_hit = guesses as f64 / hits.max(1) as f64;
        let fill = space as f64 / links as f64;
        let right = (per_hit / fill - 1.0).abs() < 0.5;
        stage.expect(
            format!("{name}: random guesses per hit are 62^k / n = {fill:.0}"),
            right,
            format!("{per_hit:.0}"),
        );
    }
    stage.because("guessing costs what the code space says, unless codes have neighbours");
    Ok(())
}

/// The 1,000 codes around one, itself left out.
fn neighbours(own: &Code) -> impl Iterator<Item = Code> {
    let value = |digit: u8| url_shortener::code::ALPHABET.iter().position(|d| *d == digit);
    let digits = own.as_str().bytes().filter_map(value);
    let number = digits.fold(0, |number, digit| number * 62 + digit as u64);
    (number.saturating_sub(500)..=number + 500)
        .filter(move |near| *near != number)
        .map(|near| Code::base62(near, LENGTH))
}
