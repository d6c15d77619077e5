//! Randomness that a failure lets you replay.
//!
//! A test draws a [`Seed`]; when the test panics, the seed prints itself with the command that
//! runs the same test with the same randomness. In a conformance check the runner prints it,
//! because a broken promise is returned and does not panic.

use std::cell::RefCell;

/// The environment variable that fixes every seed of a run.
pub const SEED_VARIABLE: &str = "TESTKIT_SEED";

thread_local! {
    static DRAWN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// One number that decides all randomness of a test.
#[derive(Debug)]
pub struct Seed {
    value: u64,
}

impl Seed {
    /// The seed in `TESTKIT_SEED`, otherwise a fresh one.
    ///
    /// # Panics
    /// When `TESTKIT_SEED` is set and not a number: replaying something else would mislead.
    pub fn from_env_or_fresh() -> Self {
        let value = match std::env::var(SEED_VARIABLE) {
            Ok(text) => text
                .trim()
                .parse()
                .unwrap_or_else(|_| panic!("{SEED_VARIABLE} must be a number, not {text:?}")),
            Err(_) => fastrand::u64(..),
        };
        Self::fixed(value)
    }

    /// A seed that once failed, kept as a regression test.
    pub fn fixed(value: u64) -> Self {
        DRAWN.with_borrow_mut(|drawn| drawn.push(value));
        Self { value }
    }

    /// The number itself.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// A generator that starts from this seed; every call returns the same sequence.
    pub fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.value)
    }

    /// The generator of one process or thread of the test: independent of the others', and the
    /// same each time.
    pub fn rng_for(&self, part: u64) -> fastrand::Rng {
        // The odd multiplier (from splitmix64) spreads neighbouring parts over the whole range.
        fastrand::Rng::with_seed(self.value ^ (part + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", replay_line(self.value, None));
        }
    }
}

/// The seeds drawn on this thread so far, in order.
pub(crate) fn drawn_on_this_thread() -> Vec<u64> {
    DRAWN.with_borrow(Clone::clone)
}

/// The line that tells how to run a test again with the same seed. Without a name it is found
/// from the command line or the thread, which is where test harnesses put it.
pub(crate) fn replay_line(seed: u64, test: Option<&str>) -> String {
    let package = std::env::var("CARGO_PKG_NAME").map(|name| format!(" -p {name}"));
    let test = test.map(str::to_owned).or_else(test_in_arguments).or_else(test_of_this_thread);
    let filter = test.map(|name| format!(" -- --exact {name}")).unwrap_or_default();
    format!(
        "seed {seed}; replay with: {SEED_VARIABLE}={seed} cargo test{}{filter}",
        package.unwrap_or_default()
    )
}

/// nextest runs each test as `binary --exact NAME ..`.
fn test_in_arguments() -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    let exact = arguments.iter().position(|argument| argument == "--exact")?;
    let after = arguments.get(exact + 1).filter(|name| !name.starts_with('-'));
    // `cargo test -- NAME --exact` has the name in front.
    let before = exact.checked_sub(1).filter(|&at| at > 0).map(|at| &arguments[at]);
    after.or(before.filter(|name| !name.starts_with('-'))).cloned()
}

/// The standard harness names each thread after its test.
fn test_of_this_thread() -> Option<String> {
    std::thread::current().name().filter(|&name| name != "main").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_parts_differ() {
        let seed = Seed::fixed(42);
        assert_eq!(seed.rng().u64(..), Seed::fixed(42).rng().u64(..));
        assert_eq!(seed.rng_for(1).u64(..), Seed::fixed(42).rng_for(1).u64(..));
        assert_ne!(seed.rng_for(0).u64(..), seed.rng_for(1).u64(..));
        assert_ne!(seed.rng_for(0).u64(..), seed.rng().u64(..));
    }

    #[test]
    fn the_replay_line_names_seed_package_and_test() {
        let line = replay_line(7, Some("memory::adds_up"));
        assert_eq!(
            line,
            "seed 7; replay with: TESTKIT_SEED=7 cargo test -p testkit -- --exact memory::adds_up"
        );
    }
}
