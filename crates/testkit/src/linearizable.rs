//! Is a concurrent history explained by *some* order of its operations, one at a time?
//!
//! The search of Wing and Gong (1993) with the memory of Lowe (2017): try every operation that
//! may come next, that is, one that was asked for before any other remaining one was answered;
//! apply it to a sequential model; never visit the same (operations done, state) twice. An
//! operation of unknown outcome may come anywhere after it was asked for, or never.
//!
//! What it gives up: the search is exponential in the number of operations under way at once, so
//! it is bounded and may answer [`Judgement::Unknown`]. Keep histories small: one key
//! ([`History::by_key`]), a dozen concurrent operations.

use std::collections::HashSet;
use std::fmt::{self, Debug};
use std::hash::Hash;

use crate::conformance::{Broken, Verdict};
use crate::history::{Ended, History, Operation};

/// How many (operations done, state) pairs are visited before the search gives up: seconds of
/// work and some hundred megabytes.
pub const VISITED_MAX: usize = 1_000_000;

/// What the system does when it does one thing at a time.
pub trait Model {
    /// What may be asked.
    type Op: Debug + Clone;
    /// What may be answered.
    type Ret: Debug + Clone;
    /// Everything that the answers depend on.
    type State: Clone + Eq + Hash;

    /// Before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after `op`, or `None` when it cannot answer `ret` in this state. Without `ret`
    /// the answer is not known, and any would do.
    fn step(
        &self,
        state: &Self::State,
        op: &Self::Op,
        ret: Option<&Self::Ret>,
    ) -> Option<Self::State>;
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Some order explains every answer.
    Valid,
    /// No order does. The text names the operation at which the best attempt got stuck.
    Invalid(String),
    /// Not decided: nothing was answered, or the search was given up.
    Unknown(String),
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Judgement::Valid => f.write_str("linearizable"),
            Judgement::Invalid(why) => write!(f, "not linearizable: {why}"),
            Judgement::Unknown(why) => write!(f, "not decided: {why}"),
        }
    }
}

/// A verdict for the check of a promise: only [`Judgement::Valid`] keeps it, for a history that
/// could not be judged proves nothing.
///
/// # Errors
/// [`Broken`] with the whole history.
pub fn must_be_linearizable<M: Model>(model: &M, history: &History<M::Op, M::Ret>) -> Verdict {
    match check(model, history) {
        Judgement::Valid => Ok(()),
        judgement => Err(Broken::because(judgement.to_string()).with_history(history)),
    }
}

/// Judges a history. Failed operations count as not having happened.
pub fn check<M: Model>(model: &M, history: &History<M::Op, M::Ret>) -> Judgement {
    check_within(model, history, VISITED_MAX)
}

/// [`check`] with another bound on the visited pairs.
pub fn check_within<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    visited_max: usize,
) -> Judgement {
    let mut operations = history.operations();
    operations.retain(|operation| !matches!(operation.ended, Ended::Fail));
    if !operations.iter().any(|operation| matches!(operation.ended, Ended::Ok(..))) {
        return Judgement::Unknown("no operation was answered".to_owned());
    }
    let mut deepest = Done::none(operations.len());
    let mut visited = HashSet::new();
    let mut to_visit = vec![(deepest.clone(), model.initial())];
    while let Some((done, state)) = to_visit.pop() {
        if operations.iter().enumerate().all(|(i, o)| done.contains(i) || !is_answered(o)) {
            return Judgement::Valid;
        }
        if visited.len() >= visited_max {
            return Judgement::Unknown(format!("gave up after {visited_max} configurations"));
        }
        if done.count() > deepest.count() {
            deepest = done.clone();
        }
        for next in may_come_next(&operations, &done) {
            let operation = &operations[next];
            let ret = if let Ended::Ok(_, ret) = operation.ended { Some(ret) } else { None };
            let Some(state) = model.step(&state, operation.op, ret) else { continue };
            let configuration = (done.with(next), state);
            if visited.insert(configuration.clone()) {
                to_visit.push(configuration);
            }
        }
    }
    Judgement::Invalid(stuck(&operations, &deepest))
}

fn is_answered<Op, Ret>(operation: &Operation<'_, Op, Ret>) -> bool {
    matches!(operation.ended, Ended::Ok(..))
}

fn answered_at<Op, Ret>(operation: &Operation<'_, Op, Ret>) -> usize {
    if let Ended::Ok(at, _) = operation.ended { at } else { usize::MAX }
}

/// The remaining operations that were asked for before any remaining one was answered. The last
/// one comes first, so that the search, which takes from the end, tries the oldest first.
fn may_come_next<Op, Ret>(operations: &[Operation<'_, Op, Ret>], done: &Done) -> Vec<usize> {
    let remaining = || operations.iter().enumerate().filter(|&(i, _)| !done.contains(i));
    let first_answer = remaining().map(|(_, o)| answered_at(o)).min().unwrap_or(usize::MAX);
    let mut next: Vec<_> =
        remaining().filter(|(_, o)| o.invoked < first_answer).map(|(i, _)| i).collect();
    next.reverse();
    next
}

fn stuck<Op: Debug, Ret: Debug>(operations: &[Operation<'_, Op, Ret>], done: &Done) -> String {
    let answered = operations.iter().filter(|o| is_answered(o)).count();
    let explained =
        (0..operations.len()).filter(|&i| done.contains(i) && is_answered(&operations[i])).count();
    let first_unexplained = operations
        .iter()
        .enumerate()
        .filter(|&(i, o)| !done.contains(i) && is_answered(o))
        .min_by_key(|(_, o)| answered_at(o));
    let at = first_unexplained.map_or(String::new(), |(_, o)| match o.ended {
        Ended::Ok(_, ret) => format!(": {:?} of process {} answered {ret:?}", o.op, o.process),
        _ => String::new(),
    });
    format!("{explained} of {answered} answers can be explained{at}")
}

/// The operations that have been given a place in the order, as bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn none(operations: usize) -> Self {
        Self(vec![0; operations.div_ceil(64)])
    }

    fn contains(&self, operation: usize) -> bool {
        self.0[operation / 64] & (1 << (operation % 64)) != 0
    }

    fn with(&self, operation: usize) -> Self {
        let mut done = self.clone();
        done.0[operation / 64] |= 1 << (operation % 64);
        done
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Pending, Recorder};
    use crate::seed::Seed;

    /// One register that holds a number.
    struct Register;

    #[derive(Debug, Clone)]
    enum Op {
        Write(u32),
        Read,
    }

    impl Model for Register {
        type Op = Op;
        type Ret = u32;
        type State = u32;

        fn initial(&self) -> u32 {
            0
        }

        fn step(&self, state: &u32, op: &Op, ret: Option<&u32>) -> Option<u32> {
            match op {
                Op::Write(value) => Some(*value),
                Op::Read => ret.is_none_or(|ret| ret == state).then_some(*state),
            }
        }
    }

    struct Run(Recorder<Op, u32>, u64);

    impl Run {
        fn new() -> Self {
            Run(Recorder::new(), 0)
        }

        fn write(&mut self, value: u32) -> Pending<Op, u32> {
            self.1 += 1;
            self.0.invoke(self.1, Op::Write(value))
        }

        fn read(&mut self) -> Pending<Op, u32> {
            self.1 += 1;
            self.0.invoke(self.1, Op::Read)
        }

        fn judged(&self) -> Judgement {
            check(&Register, &self.0.history())
        }
    }

    #[test]
    fn a_read_during_a_write_may_see_either_value() {
        for seen in [0, 1] {
            let mut run = Run::new();
            let write = run.write(1);
            run.read().ok(seen);
            write.ok(0);
            assert_eq!(run.judged(), Judgement::Valid, "read {seen}");
        }
    }

    #[test]
    fn a_stale_read_after_the_write_was_answered_is_invalid() {
        let mut run = Run::new();
        run.write(1).ok(0);
        run.read().ok(0);
        let Judgement::Invalid(why) = run.judged() else { panic!("{:?}", run.judged()) };
        assert_eq!(why, "1 of 2 answers can be explained: Read of process 2 answered 0");
    }

    #[test]
    fn two_reads_during_a_write_must_not_go_back_in_time() {
        let mut run = Run::new();
        let write = run.write(1);
        run.read().ok(1);
        run.read().ok(0);
        write.ok(0);
        assert!(matches!(run.judged(), Judgement::Invalid(_)));
    }

    #[test]
    fn an_unknown_write_may_have_happened_or_not_but_not_both() {
        for (first, second, valid) in [(0, 0, true), (0, 1, true), (1, 1, true), (1, 0, false)] {
            let mut run = Run::new();
            run.write(1).info("timeout");
            run.read().ok(first);
            run.read().ok(second);
            assert_eq!(run.judged() == Judgement::Valid, valid, "{first} then {second}");
        }
    }

    #[test]
    fn a_failed_write_must_not_be_seen() {
        let mut run = Run::new();
        run.write(1).fail("refused");
        run.read().ok(1);
        assert!(matches!(run.judged(), Judgement::Invalid(_)));
    }

    #[test]
    fn a_history_without_an_answer_and_a_search_that_is_too_long_are_not_decided() {
        let mut run = Run::new();
        run.write(1).info("timeout");
        assert!(matches!(run.judged(), Judgement::Unknown(_)));
        let mut run = Run::new();
        let writes: Vec<_> = (1..=12).map(|value| run.write(value)).collect();
        writes.into_iter().for_each(|write| write.ok(0));
        run.read().ok(99);
        let history = run.0.history();
        assert!(matches!(check_within(&Register, &history, 100), Judgement::Unknown(_)));
        assert!(matches!(check(&Register, &history), Judgement::Invalid(_)));
        must_be_linearizable(&Register, &history).expect_err("a promise is not kept by it");
    }

    /// An operation that takes effect at some moment between its beginning and its end.
    struct UnderWay {
        pending: Pending<Op, u32>,
        writes: Option<u32>,
        effect: Option<u32>,
    }

    #[test]
    fn histories_of_a_real_order_are_valid_and_one_changed_answer_makes_them_invalid() {
        let seed = Seed::from_env_or_fresh();
        let mut rng = seed.rng();
        for _ in 0..200 {
            let mut run = Run::new();
            let (mut value, mut written) = (0, 0);
            let mut under_way: Vec<UnderWay> = vec![];
            for _ in 0..40 {
                match rng.u8(0..4) {
                    0 if under_way.len() < 5 => {
                        written += 1;
                        let (pending, writes) = (run.write(written), Some(written));
                        under_way.push(UnderWay { pending, writes, effect: None });
                    }
                    1 if under_way.len() < 5 => {
                        let pending = run.read();
                        under_way.push(UnderWay { pending, writes: None, effect: None });
                    }
                    2 if !under_way.is_empty() => {
                        let at = rng.usize(..under_way.len());
                        let operation = &mut under_way[at];
                        if operation.effect.is_none() {
                            value = operation.writes.unwrap_or(value);
                            operation.effect = Some(value);
                        }
                    }
                    _ => {
                        if let Some(at) = under_way.iter().position(|o| o.effect.is_some()) {
                            let UnderWay { pending, effect, .. } = under_way.swap_remove(at);
                            pending.ok(effect.unwrap_or_default());
                        }
                    }
                }
            }
            drop(under_way);
            run.read().ok(value);
            assert_eq!(run.judged(), Judgement::Valid);
            run.read().ok(written + 1);
            assert!(matches!(run.judged(), Judgement::Invalid(_)), "a value nobody wrote");
        }
    }
}
