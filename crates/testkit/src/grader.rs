//! What `grade` prints about a reader's own answer: every promise in the order in which an
//! interviewer would probe, then the first one that is broken, explained.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;

use crate::conformance::{Judged, Make, Outcome, Promise, judge};
use crate::seed::SEED_VARIABLE;

/// A promise that takes longer counts as hanging. Ours take milliseconds.
const PROMISE_LIMIT: Duration = Duration::from_secs(15);

/// After so many hangs the rest is not tried: each leaves a thread behind that may be spinning.
const HANGS_MAX: usize = 2;

/// How long other seeds are tried for a shorter history of the same failure.
const SHORTER_FOR: Duration = Duration::from_secs(2);

/// `todo!()` panics with this: a part the reader has not come to yet.
const TODO: &str = "not yet implemented";

/// The argument with which a grader judges and does not compare: for who wants to know how far
/// all answers are.
pub const PROMISES_ONLY: &str = "--promises-only";

/// [`grade`] as the whole of a program. Where every promise is kept, `compare` has the last word:
/// it runs the answer beside ours.
pub fn main<F, Fut>(
    system: &str,
    promises: impl FnOnce() -> Vec<Promise<F>>,
    make: impl Fn() -> Fut + Send + Sync + 'static,
    compare: impl FnOnce() -> ExitCode,
) -> ExitCode
where
    F: Send + Sync + 'static,
    Fut: Future<Output = F> + Send + 'static,
{
    conclude(grade(&mut io::stdout(), system, promises, make), compare)
}

/// The end of a program that has graded: compares where all was kept.
pub fn conclude(all_kept: io::Result<bool>, compare: impl FnOnce() -> ExitCode) -> ExitCode {
    let promises_only = std::env::args().any(|argument| argument == PROMISES_ONLY);
    match all_kept {
        Ok(true) if !promises_only => compare(),
        judged => exit(judged),
    }
}

/// Success when every promise was kept and could be told.
pub fn exit(all_kept: io::Result<bool>) -> ExitCode {
    if all_kept.is_ok_and(|kept| kept) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Judges the answer that `make` builds, tells `out` what it keeps and breaks, and returns whether
/// it keeps everything. `system` names the command that replays a failure.
///
/// Blocks; call it from a thread outside any runtime.
///
/// # Errors
/// When `out` cannot be written to.
pub fn grade<F, Fut>(
    out: &mut impl Write,
    system: &str,
    promises: impl FnOnce() -> Vec<Promise<F>>,
    make: impl Fn() -> Fut + Send + Sync + 'static,
) -> io::Result<bool>
where
    F: Send + Sync + 'static,
    Fut: Future<Output = F> + Send + 'static,
{
    let make: Make<F> = Arc::new(move || make().boxed());
    // What a promise panics with is part of the verdict; printed twice it would hide it.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let graded = judge_all(out, promises(), &make, system);
    std::panic::set_hook(hook);
    graded
}

fn judge_all<F: Send + Sync + 'static>(
    out: &mut impl Write,
    promises: Vec<Promise<F>>,
    make: &Make<F>,
    system: &str,
) -> io::Result<bool> {
    let mut hung = 0;
    let mut kept = 0;
    let mut first = None;
    let mut first_broken = None;
    for (number, promise) in (1..).zip(&promises) {
        if hung == HANGS_MAX {
            writeln!(out, "{number:>3}  stopped: {HANGS_MAX} promises never ended")?;
            break;
        }
        let judged = judge(*promise, Arc::clone(make), PROMISE_LIMIT);
        let mark = mark(&judged.outcome);
        writeln!(out, "{number:>3}  {mark}  {}: {}", judged.name, judged.says)?;
        hung += usize::from(matches!(judged.outcome, Outcome::Hung(_)));
        match mark {
            KEPT => kept += 1,
            _ if first.is_none() => first = Some((judged, *promise)),
            // Behind a part that is yet to be written: a mistake in what is written already.
            BROKEN if first_broken.is_none() => first_broken = Some((judged, *promise)),
            _ => {}
        }
    }
    if let Some((judged, promise)) = first {
        let is_to_do = mark(&judged.outcome) == TO_DO;
        writeln!(out, "\nThe first one to look at: {}", judged.name)?;
        explain(out, &shortest_telling(judged, promise, make), system)?;
        if let Some((judged, promise)) = first_broken.filter(|_| is_to_do) {
            writeln!(out, "\nThe first one that what you have breaks: {}", judged.name)?;
            explain(out, &shortest_telling(judged, promise, make), system)?;
        }
    }
    writeln!(out, "\n{kept} of {} promises kept", promises.len())?;
    Ok(kept == promises.len() && kept > 0)
}

/// Tells what a promise that is not kept says, and what happened instead.
fn explain(out: &mut impl Write, first: &Judged, system: &str) -> io::Result<()> {
    writeln!(out, "  promised  {}", first.says)?;
    let what = first.outcome.to_string();
    match what.split_once(TODO) {
        Some((_, part)) => writeln!(out, "  to write  {}", part.trim_start_matches(": "))?,
        None => writeln!(out, "  happened  {}", what.replace('\n', "\n          "))?,
    }
    if let Some(seed) = first.seeds.first() {
        writeln!(out, "  replay    {SEED_VARIABLE}={seed} cargo run --release -- grade {system}")?;
    }
    Ok(())
}

/// Tries other seeds for a while and keeps the failure that is told in the fewest events.
fn shortest_telling<F: Send + Sync + 'static>(
    mut best: Judged,
    promise: Promise<F>,
    make: &Make<F>,
) -> Judged {
    let random = !best.seeds.is_empty() && std::env::var_os(SEED_VARIABLE).is_none();
    let started = Instant::now();
    while random && events(&best) > 1 && started.elapsed() < SHORTER_FOR {
        let again = judge(promise, Arc::clone(make), PROMISE_LIMIT);
        if (1..events(&best)).contains(&events(&again)) {
            best = again;
        }
    }
    best
}

/// How many events the failure is told in; 0 where it is not one that tells events.
fn events(judged: &Judged) -> usize {
    match &judged.outcome {
        Outcome::Broken(broken) => broken.history().len(),
        _ => 0,
    }
}

const KEPT: &str = "kept  ";
const TO_DO: &str = "to do ";
const BROKEN: &str = "BROKEN";

fn mark(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Kept => KEPT,
        // Also where it was a task of the check that came upon it.
        other if other.to_string().contains(TODO) => TO_DO,
        _ => BROKEN,
    }
}
