//! The kit itself: a suite must fail whenever it would otherwise prove nothing.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Conclusion};
use testkit::conformance::{Outcome, grade};
use testkit::{Broken, Promise, Seed, Suite, Verdict, ensure, promise};

/// A subject that answers with one number.
struct Says(u32);

fn promises() -> Vec<Promise<Says>> {
    vec![
        promise!(Says, says_seven, "It says seven."),
        promise!(Says, cannot_fail, "It says something."),
        promise!(Says, panics_unless_seven, "It says seven or the check panics."),
        promise!(Says, hangs_unless_seven, "It says seven or never answers."),
    ]
}

// The checks are generic as in a real suite, although there is one kind of subject.
trait Number: Send + Sync + 'static {
    fn number(&self) -> u32;
}

impl Number for Says {
    fn number(&self) -> u32 {
        self.0
    }
}

async fn says_seven<N: Number>(subject: Arc<N>) -> Verdict {
    let _seed = Seed::fixed(99);
    let number = subject.number();
    ensure!(number == 7, "it should say 7, it said {number}");
    Ok(())
}

async fn cannot_fail<N: Number>(subject: Arc<N>) -> Verdict {
    let _ = subject.number();
    Ok(())
}

async fn panics_unless_seven<N: Number>(subject: Arc<N>) -> Verdict {
    assert_eq!(subject.number(), 7, "in the check");
    Ok(())
}

async fn hangs_unless_seven<N: Number>(subject: Arc<N>) -> Verdict {
    while subject.number() != 7 {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn conclude(build: impl FnOnce(&mut Suite)) -> Conclusion {
    let mut suite = Suite::new().with_limit(Duration::from_millis(500));
    build(&mut suite);
    suite.conclude(&Arguments { quiet: true, ..Arguments::default() })
}

fn passes(build: impl FnOnce(&mut Suite)) -> bool {
    let conclusion = conclude(build);
    assert_eq!(conclusion.num_passed + conclusion.num_failed, 1, "one trial was expected");
    conclusion.num_passed == 1
}

#[test]
fn a_right_answer_passes_every_promise() {
    let conclusion = conclude(|suite| suite.answer("right", promises, || async { Says(7) }));
    assert_eq!((conclusion.num_passed, conclusion.num_failed), (4, 0));
}

#[test]
fn a_wrong_answer_fails_by_verdict_by_panic_and_by_hanging() {
    let conclusion = conclude(|suite| suite.answer("wrong", promises, || async { Says(8) }));
    assert_eq!((conclusion.num_passed, conclusion.num_failed), (1, 3));
}

#[test]
fn a_wrong_implementation_that_the_named_promise_rejects_is_a_pass() {
    assert!(passes(|suite| suite.wrong("eight", "says_seven", promises, || async { Says(8) })));
}

#[test]
fn a_check_that_cannot_fail_is_reported() {
    // Another promise would reject it; the named one does not, and that is what counts.
    assert!(!passes(|suite| suite.wrong("eight", "cannot_fail", promises, || async { Says(8) })));
}

#[test]
fn a_panic_or_a_hang_is_not_a_catch() {
    for promise in ["panics_unless_seven", "hangs_unless_seven"] {
        assert!(!passes(|suite| suite.wrong("eight", promise, promises, || async { Says(8) })));
    }
}

#[test]
fn a_fixture_that_cannot_be_built_is_loud_and_not_a_catch() {
    async fn broken_stage() -> Says {
        panic!("no server")
    }
    assert!(!passes(|suite| suite.wrong("unbuilt", "says_seven", promises, broken_stage)));
    let conclusion = conclude(|suite| suite.answer("unbuilt", promises, broken_stage));
    assert_eq!((conclusion.num_passed, conclusion.num_failed), (0, 4));
}

#[test]
fn a_promise_that_does_not_exist_a_repeated_name_and_an_empty_suite_are_failures() {
    assert!(!passes(
        |suite| suite.wrong("eight", "no_such_promise", promises, || async { Says(8) })
    ));
    assert!(!passes(|_| ()));
    assert!(!passes(|suite| suite.answer("none", Vec::<Promise<Says>>::new, || async { Says(7) })));
    let conclusion = conclude(|suite| {
        suite.wrong("eight", "says_seven", promises, || async { Says(8) });
        suite.wrong("eight", "says_seven", promises, || async { Says(9) });
    });
    assert_eq!((conclusion.num_passed, conclusion.num_failed), (1, 1));
}

#[test]
fn a_grade_lists_every_promise_in_order_with_how_it_ended() {
    let only_fast = || promises().into_iter().take(3).collect();
    let report = grade(only_fast, || async { Says(8) });
    let names: Vec<_> = report.judged.iter().map(|judged| judged.name).collect();
    assert_eq!(names, ["says_seven", "cannot_fail", "panics_unless_seven"]);
    assert_eq!(
        report.judged[0].outcome,
        Outcome::Broken(Broken::because("it should say 7, it said 8"))
    );
    assert_eq!(report.judged[0].seeds, [99]);
    assert!(report.judged[1].outcome.is_kept());
    assert!(
        matches!(&report.judged[2].outcome, Outcome::Panicked(why) if why.contains("in the check"))
    );
    assert!(!report.all_kept());
    assert!(report.to_string().ends_with("1 of 3 promises kept"), "{report}");
}

#[test]
fn the_history_of_a_broken_promise_is_printed_below_its_sentence() {
    let broken = Broken::because("sold twice").with_history(["a reserves 1", "b reserves 1"]);
    assert_eq!(broken.to_string(), "sold twice\n    a reserves 1\n    b reserves 1");
}
