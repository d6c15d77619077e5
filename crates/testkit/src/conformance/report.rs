//! Judging one subject by a whole list, for the `grade` command.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;

use super::judge::{Make, judge};
use super::{Judged, Promise, TRIAL_LIMIT};

/// How a subject did, promise by promise, in the order of the list.
#[derive(Debug, Clone)]
pub struct Report {
    /// One entry per promise.
    pub judged: Vec<Judged>,
}

impl Report {
    /// The promises the subject keeps.
    pub fn kept(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().filter(|judged| judged.outcome.is_kept())
    }

    /// The promises it does not keep, whatever the reason.
    pub fn broken(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().filter(|judged| !judged.outcome.is_kept())
    }

    /// Whether there was at least one promise and all of them were kept.
    pub fn all_kept(&self) -> bool {
        !self.judged.is_empty() && self.broken().next().is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for judged in &self.judged {
            let mark = if judged.outcome.is_kept() { "kept  " } else { "BROKEN" };
            writeln!(f, "{mark} {}: {}", judged.name, judged.says)?;
            if !judged.outcome.is_kept() {
                writeln!(f, "       {}", judged.outcome.to_string().replace('\n', "\n       "))?;
            }
        }
        write!(f, "{} of {} promises kept", self.kept().count(), self.judged.len())
    }
}

/// Judges a subject by every promise, each on a fresh fixture from `make`, one after the other.
///
/// Blocks; call it from a thread of its own inside an async program.
pub fn grade<F, Fut>(
    promises: impl FnOnce() -> Vec<Promise<F>>,
    make: impl Fn() -> Fut + Send + Sync + 'static,
) -> Report
where
    F: Send + Sync + 'static,
    Fut: Future<Output = F> + Send + 'static,
{
    grade_each(promises, make, |_| {})
}

/// Like [`grade`], and tells each result as soon as it is known.
pub fn grade_each<F, Fut>(
    promises: impl FnOnce() -> Vec<Promise<F>>,
    make: impl Fn() -> Fut + Send + Sync + 'static,
    mut on_judged: impl FnMut(&Judged),
) -> Report
where
    F: Send + Sync + 'static,
    Fut: Future<Output = F> + Send + 'static,
{
    let make: Make<F> = Arc::new(move || make().boxed());
    let judged = promises()
        .into_iter()
        .map(|promise| {
            let judged = judge(promise, Arc::clone(&make), TRIAL_LIMIT);
            on_judged(&judged);
            judged
        })
        .collect();
    Report { judged }
}
