//! What a reader sees: full marks, a broken promise with its history, and work still to be done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{Seed, ensure, grader, promises, shrink};

/// An adder; `forgets` makes it lose additions of this number.
#[derive(Clone, Copy)]
enum Adder {
    Right,
    Forgets(u64),
    Unwritten,
    /// Large numbers are not written yet, and 7 is forgotten.
    HalfWritten,
}

struct Counter(Adder, AtomicU64);

impl Counter {
    fn add(&self, by: u64) -> u64 {
        match self.0 {
            Adder::Right => self.1.fetch_add(by, SeqCst) + by,
            Adder::Forgets(lost) if by == lost => self.1.load(SeqCst),
            Adder::HalfWritten if by >= 100 => panic!("not yet implemented: carry"),
            Adder::HalfWritten if by == 7 => self.1.load(SeqCst),
            Adder::Forgets(_) | Adder::HalfWritten => self.1.fetch_add(by, SeqCst) + by,
            Adder::Unwritten => panic!("not yet implemented: add it up"), // as `todo!` does
        }
    }
}

fn promises() -> Vec<Promise<Counter>> {
    async fn starts_at_nothing(counter: Arc<Counter>) -> Verdict {
        ensure!(counter.add(100) == 100, "100 is not 100");
        Ok(())
    }
    async fn agrees_with_a_sum(counter: Arc<Counter>) -> Verdict {
        let mut rng = Seed::from_env_or_fresh().rng();
        let steps: Vec<u64> = (0..60).map(|_| rng.u64(0..10)).collect();
        let adder = counter.0;
        let fails = |steps: Vec<u64>| {
            let fresh = Counter(adder, AtomicU64::new(0));
            let mut sum = 0;
            steps.into_iter().any(|step| {
                sum += step;
                fresh.add(step) != sum
            })
        };
        if !fails(steps.clone()) {
            return Ok(());
        }
        let short = shrink::shortest(steps, |steps| std::future::ready(fails(steps))).await;
        let history = short.iter().map(|step| format!("add {step}"));
        Err(Broken::because("the total is not the sum").with_history(history))
    }
    promises! { Counter;
        starts_at_nothing => "The first addition is the total.",
        agrees_with_a_sum => "Every total is the sum of all additions before it.",
    }
}

fn graded(adder: Adder) -> (bool, String) {
    let mut out = Vec::new();
    let make = move || async move { Counter(adder, AtomicU64::new(0)) };
    let kept = grader::grade(&mut out, "counting", promises, make).expect("memory can be written");
    (kept, String::from_utf8(out).expect("text"))
}

// One test: the panic hook is the process's, and grading replaces it for a while.
#[test]
fn a_reader_sees_marks_and_the_shortest_history_of_the_first_failure() {
    let (kept, page) = graded(Adder::Right);
    assert!(kept && page.ends_with("2 of 2 promises kept\n"), "{page}");

    let (kept, page) = graded(Adder::Forgets(7));
    assert!(!kept, "{page}");
    assert!(page.contains("1  kept    starts_at_nothing"), "{page}");
    assert!(page.contains("2  BROKEN  agrees_with_a_sum"), "{page}");
    assert!(page.contains("happened  broken: the total is not the sum\n"), "{page}");
    let history: Vec<&str> =
        page.lines().map(str::trim).filter(|line| line.starts_with("add ")).collect();
    assert_eq!(history, ["add 7"], "one step shows it, and no other is told:\n{page}");
    assert!(page.contains("TESTKIT_SEED="), "{page}");

    let (kept, page) = graded(Adder::Unwritten);
    assert!(!kept && page.contains("1  to do   starts_at_nothing"), "{page}");
    assert!(page.contains("to write  add it up\n"), "{page}");
    assert!(!page.contains("what you have breaks"), "nothing is there to be broken:\n{page}");

    let (kept, page) = graded(Adder::HalfWritten);
    let (to_do, broken) = page.split_once("The first one that what you have breaks: ").unwrap();
    assert!(!kept && to_do.contains("The first one to look at: starts_at_nothing"), "{page}");
    assert!(to_do.contains("to write  carry\n"), "{page}");
    assert!(broken.starts_with("agrees_with_a_sum") && broken.contains("add 7"), "{page}");
}
