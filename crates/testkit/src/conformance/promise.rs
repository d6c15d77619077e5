//! What a promise is, and what its check may answer.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

/// The answer of a check: the promise was kept, or how it was broken.
pub type Verdict = Result<(), Broken>;

/// How a promise was broken: what happened instead, and the events that led there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    what: String,
    history: Vec<String>,
}

impl Broken {
    /// A broken promise, in one sentence that says what was promised and what happened.
    pub fn because(what: impl Into<String>) -> Self {
        Self { what: what.into(), history: Vec::new() }
    }

    /// Adds the events that led to it, oldest first; they are printed below the sentence.
    pub fn with_history<E: fmt::Display>(mut self, events: impl IntoIterator<Item = E>) -> Self {
        self.history.extend(events.into_iter().map(|event| event.to_string()));
        self
    }

    /// The sentence alone, without the history.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The events that led to it, oldest first.
    pub fn history(&self) -> &[String] {
        &self.history
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for event in &self.history {
            write!(f, "\n    {event}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Broken {}

/// Which runtime a promise is checked on. Every trial gets its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// One thread: interleavings happen at `.await` only, so failures repeat. The default.
    One,
    /// Four workers: for promises about callers that really run at the same moment.
    Many,
    /// One thread on tokio's paused clock: sleeps cost nothing. Not for subjects that do real
    /// I/O: the clock would jump while the reply is on its way.
    OneWithPausedClock,
}

/// One promise of a contract: its name, its sentence, and the check that tells whether a subject
/// keeps it. Usually written with [`promises!`](crate::promises).
pub struct Promise<F> {
    /// Unique within the contract; trials and wrong implementations refer to it.
    pub name: &'static str,
    /// The promise in the words of the contract, printed by `grade`.
    pub says: &'static str,
    /// Which runtime the check needs.
    pub threads: Threads,
    /// Exercises the subject and returns the verdict.
    pub check: fn(Arc<F>) -> BoxFuture<'static, Verdict>,
}

impl<F> Promise<F> {
    /// The same promise, checked on several threads.
    #[must_use]
    pub fn on_many_threads(self) -> Self {
        Self { threads: Threads::Many, ..self }
    }

    /// The same promise, checked on tokio's paused clock.
    #[must_use]
    pub fn on_paused_clock(self) -> Self {
        Self { threads: Threads::OneWithPausedClock, ..self }
    }
}

// Derived, these would demand that the fixture itself is `Copy`.
impl<F> Clone for Promise<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Promise<F> {}

impl<F> fmt::Debug for Promise<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.says)
    }
}

/// Makes a [`Promise`] out of a generic `async fn check<F: ..>(fixture: Arc<F>) -> Verdict`;
/// the promise is named after the function: `promise!(F, check, "What it says.")`.
#[macro_export]
macro_rules! promise {
    ($fixture:ty, $check:ident, $says:expr $(,)?) => {
        $crate::conformance::Promise::<$fixture> {
            name: ::core::stringify!($check),
            says: $says,
            threads: $crate::conformance::Threads::One,
            check: |fixture| ::std::boxed::Box::pin($check(fixture)),
        }
    };
}

/// A whole list of promises, as a table that stays one:
///
/// ```text
/// testkit::promises! { F;
///     adds_up => "The total after each addition is the sum of all so far.",
///     loses_nothing.on_many_threads() => "Additions of several threads are all counted.",
/// }
/// ```
#[macro_export]
macro_rules! promises {
    ($fixture:ty; $($check:ident $(. $on:ident ())? => $says:expr),+ $(,)?) => {
        ::std::vec![$($crate::promise!($fixture, $check, $says) $(. $on ())?),+]
    };
}

/// Returns [`Broken`] from a check when the condition does not hold; the message says what was
/// promised and what happened, with the values.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return ::core::result::Result::Err($crate::conformance::Broken::because(
                ::std::format!($($message)+),
            ));
        }
    };
}
