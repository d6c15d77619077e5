//! From a long history that fails to a short one that still does.
//!
//! A random history of 150 steps proves that something is wrong and explains nothing. What a
//! reader needs is the shortest one they can follow with a pencil.

use std::time::{Duration, Instant};

use crate::conformance::Verdict;

/// How often a history is tried again at most: enough for a hundred steps, and a bound for subjects
/// that are slow to build.
pub const TRIES_MAX: usize = 400;

/// How long [`played`] looks for a shorter history: what breaks a promise on a slow store must be
/// told before a grader gives up on it.
pub const TIME_MAX: Duration = Duration::from_secs(5);

/// The shortest history found that still fails: no single step of it can be left out (unless
/// [`TRIES_MAX`] tries were used up before that).
///
/// `fails` runs a history against a *fresh* subject; a subject that remembers would blame the wrong
/// step. When the full history does not fail again (a race, say) it is returned as it is.
///
/// Source: delta debugging, ddmin without the complement's restart (Zeller and Hildebrandt,
/// "Simplifying and Isolating Failure-Inducing Input", 2002). O(n log n) tries where few steps
/// matter.
pub async fn shortest<S: Clone, Fut: Future<Output = bool>>(
    steps: Vec<S>,
    mut fails: impl FnMut(Vec<S>) -> Fut,
) -> Vec<S> {
    let mut kept = steps;
    let mut tries = 0;
    let mut chunk = kept.len().div_ceil(2).max(1);
    loop {
        let before = kept.len();
        let mut at = 0;
        while at < kept.len() && tries < TRIES_MAX {
            let mut without = kept.clone();
            without.drain(at..(at + chunk).min(kept.len()));
            tries += 1;
            if !without.is_empty() && fails(without.clone()).await {
                kept = without;
            } else {
                at += chunk;
            }
        }
        if tries >= TRIES_MAX || (chunk == 1 && kept.len() == before) {
            return kept;
        }
        chunk = (chunk / 2).max(1);
    }
}

/// Plays a random history against a subject. Where that breaks the promise, it is told by the
/// shortest part of the history found that breaks it too.
///
/// `play` is given which time it plays, to begin on fresh ground each time: a queue, a policy or
/// people that no earlier one has used.
///
/// # Errors
/// What broke, as the shortest history tells it.
pub async fn played<S: Clone, Fut: Future<Output = Verdict>>(
    steps: Vec<S>,
    play: impl Fn(Vec<S>, usize) -> Fut,
) -> Verdict {
    let Err(broken) = play(steps.clone(), 1).await else { return Ok(()) };
    let (begun, mut time) = (Instant::now(), 1);
    let mut again = |steps| {
        time += 1;
        play(steps, time)
    };
    let fails = |steps| {
        let played = (begun.elapsed() < TIME_MAX).then(|| again(steps));
        async {
            match played {
                Some(kept) => kept.await.is_err(),
                None => false,
            }
        }
    };
    let short = shortest(steps, fails).await;
    Err(again(short).await.err().unwrap_or(broken))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use super::*;
    use crate::conformance::Broken;

    #[tokio::test]
    async fn only_the_steps_that_matter_are_left() {
        let steps: Vec<u32> = (0..200).collect();
        let fails = |steps: Vec<u32>| ready(steps.contains(&17) && steps.contains(&140));
        let short = shortest(steps, fails).await;
        assert_eq!(short, [17, 140]);
    }

    #[tokio::test]
    async fn the_order_is_kept_and_a_history_that_does_not_fail_is_left_alone() {
        let needs_order = |steps: Vec<u32>| {
            let place = |what| steps.iter().position(|&step| step == what);
            ready(place(9).zip(place(3)).is_some_and(|(nine, three)| nine < three))
        };
        assert_eq!(shortest(vec![1, 9, 2, 3, 4], needs_order).await, [9, 3]);
        assert_eq!(shortest(vec![1, 2, 3], |_| ready(false)).await, [1, 2, 3]);
    }

    #[tokio::test]
    async fn what_is_told_is_the_shortest_history_and_each_is_played_on_fresh_ground() {
        let places = Cell::new(0);
        let play = |steps: Vec<u32>, time| {
            assert!(time > places.replace(time), "this ground was used before");
            let told = steps.iter().map(u32::to_string);
            let broken = Broken::because("17 and 140").with_history(told);
            let fails = steps.contains(&17) && steps.contains(&140);
            ready(if fails { Err(broken) } else { Ok(()) })
        };
        let broken = played((0..200).collect(), play).await.expect_err("it fails");
        assert_eq!(broken.history(), ["17", "140"]);
        assert!(played((0..100).collect(), |steps, _| play(steps, 10_000)).await.is_ok());
    }

    #[tokio::test]
    async fn tries_are_bounded() {
        let mut tries = 0;
        let all_matter = |steps: Vec<u32>| {
            tries += 1;
            ready(steps.len() == 3_000)
        };
        assert_eq!(shortest((0..3_000).collect(), all_matter).await.len(), 3_000);
        assert_eq!(tries, TRIES_MAX);
    }
}
