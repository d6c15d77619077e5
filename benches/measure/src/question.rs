//! A question: an interviewer's follow-up, answered by running it.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;

use crate::stage::{Stage, What};

/// A question that runs longer than this in its short form has hung: it is cancelled and fails.
/// (It should end within about twenty seconds.)
pub const SHORT_LIMIT: Duration = Duration::from_secs(90);
/// The same for the long form.
pub const LONG_LIMIT: Duration = Duration::from_secs(900);

/// A follow-up question. Registered by its system; told on a [`Stage`].
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicI64, Ordering};
/// use std::time::Duration;
/// use measure::harness::{Load, Plan};
/// use measure::{Question, Stage};
///
/// pub fn questions() -> Vec<Question> {
///     vec![Question {
///         system: "rate-limiter",
///         name: "sold-out",
///         asks: "A thousand people want the last hundred. How many get one?",
///         explanation: "Check and take are one atomic step, so the hundredth taker is the last.",
///         run: |stage| Box::pin(sold_out(stage)),
///     }]
/// }
///
/// async fn sold_out(stage: Stage) -> anyhow::Result<()> {
///     let stock = Arc::new(AtomicI64::new(100));
///     stage.scene("one counter in memory, 100 in stock");
///     let length = stage.pick(Duration::from_secs(1), Duration::from_secs(20));
///     let load = Load::new(Plan::poisson(1_000.0, length)).counting();
///     let op = {
///         let stock = Arc::clone(&stock);
///         move |_shot| {
///             let stock = Arc::clone(&stock);
///             async move {
///                 let took = stock.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
///                     (left > 0).then(|| left - 1)
///                 });
///                 Ok(if took.is_ok() { "sold" } else { "sold out" })
///             }
///         }
///     };
///     let run = stage.drive("customers", &load, op).await;
///     let (sold, left) = (run.count("sold"), stock.load(Ordering::Acquire));
///     stage.observe("turned away", run.count("sold out"));
///     stage.expect("exactly the stock is sold", sold == 100 && left == 0, format!("{sold} sold"));
///     stage.because("fetch_update retries until nobody came between its read and its write");
///     Ok(())
/// }
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let asked = measure::ask(&questions()[0], Stage::silent(42, false)).await;
/// assert!(asked.passed(), "{asked:?}");
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Question {
    /// The crate's name.
    pub system: &'static str,
    /// Short, lower case, hyphens: the second half of `<system>/<name>`.
    pub name: &'static str,
    /// The interviewer's words.
    pub asks: &'static str,
    /// The answer in prose, shown after the run (and folded away in the console, so that a reader
    /// can predict first).
    pub explanation: &'static str,
    /// Sets the scene, applies load and faults, checks the outcome. Must call
    /// [`Stage::expect`] at least once: a question that cannot fail proves nothing.
    #[serde(skip)]
    pub run: fn(Stage) -> BoxFuture<'static, anyhow::Result<()>>,
}

impl Question {
    /// `<system>/<name>`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.system, self.name)
    }
}

/// How a question ended.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// Expectations checked.
    pub expected: usize,
    /// Expectations that held.
    pub held: usize,
    /// Why it did not pass, when it is not simply a broken expectation.
    pub error: Option<String>,
    /// Wall time.
    pub took_ms: u64,
}

impl Asked {
    /// Every expectation held, there was at least one, and nothing went wrong on the way.
    pub fn passed(&self) -> bool {
        self.error.is_none() && self.expected > 0 && self.held == self.expected
    }
}

/// Runs a question on `stage` to its end, whatever happens inside: an error, a panic, a hang and
/// a question without expectations are all failures, and all are told as the last event.
pub async fn ask(question: &Question, stage: Stage) -> Asked {
    let limit = if stage.long() { LONG_LIMIT } else { SHORT_LIMIT };
    stage.tell(What::Begin {
        question: question.path(),
        asks: question.asks.to_owned(),
        seed: stage.seed(),
        long: stage.long(),
    });
    let told = AssertUnwindSafe((question.run)(stage.clone())).catch_unwind();
    let error = match tokio::time::timeout(limit, told).await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(format!("{error:#}")),
        Ok(Err(panic)) => Some(format!("panicked: {}", panic_text(&*panic))),
        Err(_) => Some(format!("did not end within {} s and was cancelled", limit.as_secs())),
    };
    let (expected, held) = stage.expectations();
    let error = error.or_else(|| {
        (expected == 0).then(|| "it expected nothing, so it could not have failed".to_owned())
    });
    let took_ms = stage.elapsed().as_millis() as u64;
    let asked = Asked { expected, held, error, took_ms };
    stage.tell(What::End {
        passed: asked.passed(),
        asked: asked.clone(),
        explanation: question.explanation.to_owned(),
    });
    asked
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "?".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(run: fn(Stage) -> BoxFuture<'static, anyhow::Result<()>>) -> Question {
        Question { system: "test", name: "test", asks: "?", explanation: "!", run }
    }

    async fn asked(run: fn(Stage) -> BoxFuture<'static, anyhow::Result<()>>) -> Asked {
        ask(&question(run), Stage::silent(1, false)).await
    }

    #[tokio::test]
    async fn passes_only_when_every_expectation_held() {
        let one_held = |stage: Stage| -> BoxFuture<'static, anyhow::Result<()>> {
            Box::pin(async move {
                stage.expect("one is one", true, 1);
                Ok(())
            })
        };
        assert!(asked(one_held).await.passed());
        let one_broken = |stage: Stage| -> BoxFuture<'static, anyhow::Result<()>> {
            Box::pin(async move {
                stage.expect("one is one", true, 1);
                stage.expect("one is two", false, 1);
                Ok(())
            })
        };
        let asked_broken = asked(one_broken).await;
        assert!(!asked_broken.passed());
        assert_eq!((asked_broken.expected, asked_broken.held), (2, 1));
    }

    #[tokio::test]
    async fn expecting_nothing_an_error_and_a_panic_are_failures() {
        let nothing = asked(|_| Box::pin(async { Ok(()) })).await;
        assert!(!nothing.passed() && nothing.error.is_some());
        let error = asked(|_| Box::pin(async { anyhow::bail!("no server") })).await;
        assert_eq!(error.error.as_deref(), Some("no server"));
        let panic = asked(|stage| {
            Box::pin(async move {
                stage.expect("reached", true, "yes");
                panic!("boom {}", 1)
            })
        });
        assert_eq!(panic.await.error.as_deref(), Some("panicked: boom 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_hangs_is_cancelled() {
        let hung = asked(|_| Box::pin(std::future::pending())).await;
        assert!(hung.error.expect("it failed").contains("did not end"));
    }
}
