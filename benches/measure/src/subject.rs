//! What takes part in a comparison: an answer of ours or a peer, made fresh for every run, and
//! the correctness check that ends it.

use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::harness::{Outcome, Saturated, Saturation, ServerProcess, Shot, Summary};

/// Whose code it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// One of our answers.
    Answer,
    /// Somebody else's library or server, for scale.
    Peer,
}

type BoxedOp = Arc<dyn Fn(Shot) -> BoxFuture<'static, Outcome> + Send + Sync>;
type BoxedCheck = Box<dyn FnOnce(Summary) -> BoxFuture<'static, Result<(), String>> + Send>;

/// A subject that is ready to be loaded, and knows how to check itself afterwards.
pub struct Ready {
    pub(crate) op: BoxedOp,
    pub(crate) check: BoxedCheck,
    pub(crate) server: Option<ServerProcess>,
}

impl Ready {
    /// `op` performs one request. `check` runs after the load on the same state and says which
    /// invariant broke; it is given what the load counted (of the measured part; the warm-up
    /// before it touched the same state). A comparison of something unchecked is not possible.
    pub fn new<Op, Replied, Check, Checked>(op: Op, check: Check) -> Ready
    where
        Op: Fn(Shot) -> Replied + Send + Sync + 'static,
        Replied: Future<Output = Outcome> + Send + 'static,
        Check: FnOnce(Summary) -> Checked + Send + 'static,
        Checked: Future<Output = Result<(), String>> + Send + 'static,
    {
        Ready {
            op: Arc::new(move |shot| Box::pin(op(shot))),
            check: Box::new(move |summary| Box::pin(check(summary))),
            server: None,
        }
    }

    /// The requests go to this process: what it uses is measured beside them.
    #[must_use]
    pub fn served_by(self, server: ServerProcess) -> Ready {
        Ready { server: Some(server), ..self }
    }
}

type Prepare = Box<dyn Fn() -> BoxFuture<'static, anyhow::Result<Ready>> + Send + Sync>;

/// A subject of an open- or closed-loop scenario.
pub struct Subject {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) prepare: Prepare,
}

impl Subject {
    /// One of our answers. `prepare` makes fresh state before every run.
    pub fn answer<F, Fut>(name: impl Into<String>, prepare: F) -> Subject
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<Ready>> + Send + 'static,
    {
        Subject::new(name, Role::Answer, prepare)
    }

    /// A peer.
    pub fn peer<F, Fut>(name: impl Into<String>, prepare: F) -> Subject
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<Ready>> + Send + 'static,
    {
        Subject::new(name, Role::Peer, prepare)
    }

    fn new<F, Fut>(name: impl Into<String>, role: Role, prepare: F) -> Subject
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<Ready>> + Send + 'static,
    {
        Subject { name: name.into(), role, prepare: Box::new(move || Box::pin(prepare())) }
    }
}

/// What was measured, and the hit ratio if the subject is a cache, or which invariant broke.
type Looped = (Saturated, Result<Option<f64>, String>);

/// A subject of an in-process scenario: called by threads in a tight loop, without boxing.
pub struct LoopSubject {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) run: Arc<dyn Fn(Saturation) -> Looped + Send + Sync>,
}

impl LoopSubject {
    /// `make` builds fresh state, `worker(state, thread)` the closure that a thread calls with its
    /// call's number, `check` says which invariant broke.
    pub fn new<S, W, R>(
        name: impl Into<String>,
        role: Role,
        make: impl Fn() -> S + Send + Sync + 'static,
        worker: impl Fn(Arc<S>, usize) -> W + Send + Sync + 'static,
        check: impl Fn(&S, &Saturated) -> Result<(), String> + Send + Sync + 'static,
    ) -> LoopSubject
    where
        S: Send + Sync + 'static,
        W: FnMut(u64) -> R,
    {
        let run = move |saturation: Saturation| {
            let state = Arc::new(make());
            let measured = saturation.run(|thread| worker(Arc::clone(&state), thread));
            let checked = check(&state, &measured);
            (measured, checked.map(|()| None))
        };
        LoopSubject { name: name.into(), role, run: Arc::new(run) }
    }

    /// A cache with a loop of its own, which measures and then returns the hit ratio, or which
    /// invariant broke. The ratio stands beside the rate: a fast cache that forgets the wrong
    /// things must not look good.
    pub fn cache(
        name: impl Into<String>,
        role: Role,
        run: impl Fn(Saturation) -> (Saturated, Result<f64, String>) + Send + Sync + 'static,
    ) -> LoopSubject {
        let run = move |saturation| {
            let (measured, checked) = run(saturation);
            (measured, checked.map(Some))
        };
        LoopSubject { name: name.into(), role, run: Arc::new(run) }
    }
}
