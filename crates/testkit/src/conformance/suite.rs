//! A whole conformance suite as one test binary.
//!
//! `tests/conformance.rs` of a system, with `harness = false` for that test in `Cargo.toml`:
//!
//! ```text
//! fn main() -> std::process::ExitCode {
//!     let mut suite = testkit::Suite::new();
//!     suite.answer("memory", promises, || async { MemoryFixture::new() });
//!     suite.answer("redis", promises, || async { RedisFixture::start().await.expect("redis") });
//!     suite.wrong("forgets_the_window", "never_over_admits", promises, || async { Forgets::new() });
//!     suite.run()
//! }
//! ```
//!
//! Trials are named `<answer>::<promise>` and `wrong::<name>`; `cargo test` and nextest list,
//! filter and run them like any other test.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

use super::judge::judge;
use super::{Judged, Outcome, Promise, TRIAL_LIMIT};
use crate::seed;

/// Collects answers and wrong implementations, then runs them as tests.
pub struct Suite {
    trials: Vec<Trial>,
    limit: Duration,
}

impl Default for Suite {
    fn default() -> Self {
        Self::new()
    }
}

impl Suite {
    /// An empty suite; running it empty is a failure.
    pub fn new() -> Self {
        Self { trials: Vec::new(), limit: TRIAL_LIMIT }
    }

    /// The same suite with another time limit per trial, for what is added from here on.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Adds an answer: one trial per promise, each on a fresh fixture.
    ///
    /// `make` panics when it cannot build the fixture (`.expect("redis")`): the trial then fails
    /// and says so.
    pub fn answer<F, Fut>(
        &mut self,
        answer: &str,
        promises: impl FnOnce() -> Vec<Promise<F>>,
        make: impl Fn() -> Fut + Send + Sync + 'static,
    ) where
        F: Send + Sync + 'static,
        Fut: Future<Output = F> + Send + 'static,
    {
        let make: super::judge::Make<F> = Arc::new(move || make().boxed());
        let limit = self.limit;
        let promises = promises();
        if promises.is_empty() {
            self.fails(answer, "the list of promises is empty: nothing would be checked");
        }
        for promise in promises {
            let (name, make) = (format!("{answer}::{}", promise.name), Arc::clone(&make));
            let trial = name.clone();
            self.add(name, move || must_be_kept(&trial, &judge(promise, make, limit)));
        }
    }

    /// Adds a wrong implementation: its trial passes only when the check of the promise called
    /// `caught_by` returns [`Broken`](super::Broken) for it.
    ///
    /// A panic, a hang, or a fixture that could not be built is not a catch: the stage may have
    /// collapsed for another reason. Checks therefore use [`ensure!`](crate::ensure) and
    /// [`eventually`](crate::eventually), not `assert!` and [`wait_until`](crate::wait_until).
    pub fn wrong<F, Fut>(
        &mut self,
        wrong: &str,
        caught_by: &str,
        promises: impl FnOnce() -> Vec<Promise<F>>,
        make: impl Fn() -> Fut + Send + Sync + 'static,
    ) where
        F: Send + Sync + 'static,
        Fut: Future<Output = F> + Send + 'static,
    {
        let name = format!("wrong::{wrong}");
        let promises = promises();
        let Some(promise) = promises.iter().find(|promise| promise.name == caught_by).copied()
        else {
            let known: Vec<_> = promises.iter().map(|promise| promise.name).collect();
            let known = known.join(", ");
            return self
                .fails(&name, &format!("no promise is called `{caught_by}`; there are: {known}"));
        };
        let make: super::judge::Make<F> = Arc::new(move || make().boxed());
        let (trial, limit) = (name.clone(), self.limit);
        self.add(name, move || must_be_caught(&trial, &judge(promise, Arc::clone(&make), limit)));
    }

    /// Runs what the command line asks for (`cargo test` and nextest call it their way) and
    /// returns the exit code of the test binary.
    pub fn run(self) -> ExitCode {
        self.conclude(&Arguments::from_args()).exit_code()
    }

    /// Like [`run`](Self::run) with given arguments; for testing a suite itself.
    pub fn conclude(mut self, arguments: &Arguments) -> Conclusion {
        if self.trials.is_empty() {
            self.fails("suite", "neither an answer nor a wrong implementation was added");
        }
        libtest_mimic::run(arguments, self.trials)
    }

    fn add(&mut self, name: String, run: impl FnOnce() -> Result<(), Failed> + Send + 'static) {
        // Two trials of one name: a filter would pick both, a report would show one.
        if self.trials.iter().any(|trial| trial.name() == name) {
            let unique = format!("{name}::named_twice_{}", self.trials.len());
            return self.fails(&unique, "another trial has the same name");
        }
        self.trials.push(Trial::test(name, run));
    }

    fn fails(&mut self, name: &str, why: &str) {
        let why = why.to_owned();
        self.trials.push(Trial::test(name, move || Err(Failed::from(why))));
    }
}

fn must_be_kept(trial: &str, judged: &Judged) -> Result<(), Failed> {
    match &judged.outcome {
        Outcome::Kept => Ok(()),
        outcome => Err(Failed::from(format!(
            "promise: {}\n{outcome}{}",
            judged.says,
            replay(trial, judged)
        ))),
    }
}

fn must_be_caught(trial: &str, judged: &Judged) -> Result<(), Failed> {
    let promise = judged.name;
    let problem = match &judged.outcome {
        Outcome::Broken(broken) => {
            println!("{trial} was caught by `{promise}`: {broken}");
            return Ok(());
        }
        Outcome::Kept => "accepted this wrong implementation: the check proves too little".into(),
        Outcome::Panicked(_) | Outcome::Hung(_) => format!(
            "gave no verdict ({}); a check must return Broken (ensure!, eventually), \
             or any accident would count as a catch",
            judged.outcome
        ),
        Outcome::NoFixture(_) => judged.outcome.to_string(),
    };
    Err(Failed::from(format!("`{promise}` {problem}{}", replay(trial, judged))))
}

fn replay(trial: &str, judged: &Judged) -> String {
    judged
        .seeds
        .first()
        .map(|&seed| format!("\n{}", seed::replay_line(seed, Some(trial))))
        .unwrap_or_default()
}
