//! A line in front of the naive limiter: right when nothing is switched on, and the mistakes that
//! come with coalescing, one switch each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rate_limiter::clock::ManualClock;
use rate_limiter::coalesce::Op;
use rate_limiter::conformance::Fixture;
use rate_limiter::{AlgorithmName, Decision, Error, Grant, Key, Limiter, Policy};
use tokio::sync::oneshot;

use crate::naive::{Naive, NaiveLimiter};

testkit::mistakes! {
    /// A mistake.
    pub(crate) enum Mistake {
        GrantHandedOutTwice => concurrent_callers_share_one_quota,
        WholeRunOrNothing => a_crowd_is_answered_as_if_one_by_one,
        SmallOvertakesLarge => a_crowd_is_answered_as_if_one_by_one,
        AnswersMixedUp => a_crowd_is_answered_as_if_one_by_one,
        TailLost => a_crowd_is_answered_as_if_one_by_one,
    }
}

/// The fixture.
pub(crate) struct NaiveCoalescer {
    inner: Naive,
    mistake: Option<Mistake>,
}

impl NaiveCoalescer {
    pub(crate) fn with(mistake: Option<Mistake>) -> Self {
        Self { inner: Naive::with(None), mistake }
    }
}

impl Fixture for NaiveCoalescer {
    type Limiter = Coalescing;

    fn algorithm(&self) -> AlgorithmName {
        self.inner.algorithm()
    }

    fn clock(&self) -> &ManualClock {
        self.inner.clock()
    }

    fn servers(&self, policy: Policy, count: usize) -> Vec<Coalescing> {
        let mistake = self.mistake;
        let inner = self.inner.servers(policy, count).into_iter();
        let line = Arc::default;
        inner.map(|inner| Coalescing { inner: Arc::new(inner), line: line(), mistake }).collect()
    }
}

type Answer = Result<Grant, Error>;

struct Waiting {
    key: String,
    op: Op,
    cost: u32,
    reply: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    call_in_flight: bool,
}

pub(crate) struct Coalescing {
    inner: Arc<NaiveLimiter>,
    line: Arc<Mutex<Line>>,
    mistake: Option<Mistake>,
}

impl Coalescing {
    async fn ask(&self, key: Key<'_>, op: Op, cost: u32) -> Answer {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { key: key.as_str().to_owned(), op, cost, reply };
        let starts = {
            let mut line = self.line.lock().unwrap();
            line.waiting.push_back(waiting);
            !std::mem::replace(&mut line.call_in_flight, true)
        };
        if starts {
            let (inner, line) = (Arc::clone(&self.inner), Arc::clone(&self.line));
            tokio::spawn(serve(inner, line, self.mistake));
        }
        let lost = |_| Error::Unavailable { what: "nobody answered".to_owned(), source: None };
        answer.await.map_err(lost)?
    }
}

async fn serve(inner: Arc<NaiveLimiter>, line: Arc<Mutex<Line>>, mistake: Option<Mistake>) {
    loop {
        let mut call: Vec<Waiting> = {
            let mut line = line.lock().unwrap();
            line.call_in_flight = !line.waiting.is_empty();
            line.waiting.drain(..).collect()
        };
        if call.is_empty() {
            return;
        }
        if mistake == Some(Mistake::TailLost) {
            call.truncate(8); // What does not fit one call is dropped instead of left in line.
        }
        if mistake == Some(Mistake::SmallOvertakesLarge) {
            call.sort_by_key(|waiting| waiting.cost);
        }
        let answers = decide(&inner, &call, mistake).await;
        // The time that a call takes, in which others come.
        tokio::task::yield_now().await;
        let mut replies: Vec<_> = call.into_iter().map(|waiting| waiting.reply).collect();
        if mistake == Some(Mistake::AnswersMixedUp) {
            replies.reverse();
        }
        for (reply, answer) in replies.into_iter().zip(answers) {
            let _ = reply.send(answer);
        }
    }
}

async fn decide(inner: &NaiveLimiter, call: &[Waiting], mistake: Option<Mistake>) -> Vec<Answer> {
    let mut answers: Vec<Answer> = Vec::new();
    for (index, waiting) in call.iter().enumerate() {
        let same = |other: &&Waiting| {
            other.op == Op::Check
                && (&other.key, other.op, other.cost) == (&waiting.key, waiting.op, waiting.cost)
        };
        let run_before = call[..index].iter().rev().take_while(same).count();
        let run = run_before + call[index..].iter().take_while(same).count();
        if mistake == Some(Mistake::GrantHandedOutTwice)
            && let (1.., Some(Ok(first))) = (run_before, answers.last())
        {
            let first = *first;
            answers.push(Ok(first));
            continue;
        }
        let key = Key::new(&waiting.key).unwrap();
        if mistake == Some(Mistake::WholeRunOrNothing) && run_before == 0 && run > 1 {
            let left = inner.peek(key).await.unwrap().quota.remaining as usize;
            if left < run * waiting.cost as usize {
                let denied = inner.check(key, left as u32 + 1).await;
                let denied = denied.map(|decision| Grant { granted: 0, decision });
                answers.push(denied);
                continue;
            }
        }
        answers.push(one(inner, key, waiting.op, waiting.cost).await);
    }
    answers
}

async fn one(inner: &NaiveLimiter, key: Key<'_>, op: Op, cost: u32) -> Answer {
    let decision = match op {
        Op::Check => inner.check(key, cost).await?,
        Op::Peek => inner.peek(key).await?,
        Op::Take => return inner.take_up_to(key, cost).await,
        Op::Refund => inner.refund(key, cost).await?,
    };
    Ok(Grant { granted: 0, decision })
}

impl Limiter for Coalescing {
    fn policy(&self) -> &Policy {
        self.inner.policy()
    }

    async fn check(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        Ok(self.ask(key, Op::Check, cost).await?.decision)
    }

    async fn peek(&self, key: Key<'_>) -> Result<Decision, Error> {
        Ok(self.ask(key, Op::Peek, 0).await?.decision)
    }

    async fn take_up_to(&self, key: Key<'_>, at_most: u32) -> Result<Grant, Error> {
        self.ask(key, Op::Take, at_most).await
    }

    async fn refund(&self, key: Key<'_>, cost: u32) -> Result<Decision, Error> {
        Ok(self.ask(key, Op::Refund, cost).await?.decision)
    }
}
