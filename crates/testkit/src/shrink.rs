//! From a long history that fails to a short one that still does.
//!
//! A random history of 150 steps proves that something is wrong and explains nothing. What a
//! reader needs is the shortest one they can follow with a pencil.

/// How often a history is tried again at most: enough for a hundred steps, and a bound for subjects
/// that are slow to build.
pub const TRIES_MAX: usize = 400;

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

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

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
