//! Test-only: what the tests of every system share, and what `grade` runs on a reader's answer.
//!
//! Use it when a test has to judge behaviour rather than one return value:
//!
//! - [`conformance`]: a contract as a list of promises; one list judges our answers, a reader's
//!   answer, and the wrong implementations that prove the list can say no.
//! - [`mistakes!`]: the wrong implementations, each with the promise that must catch it.
//! - [`wait`]: wait for a condition, never for a duration.
//! - [`seed`]: randomness that a failure lets you replay.
//! - [`history`]: what concurrent callers asked and were told, in order; [`linearizable`] and
//!   [`accounting`] judge it.
//! - [`shrink`]: from a long history that fails to a short one.
//! - [`grader`]: what `grade` prints about a reader's own answer.
//! - [`crash`]: the real program as a child that is killed with SIGKILL and started again.
//! - [`schemathesis`]: a fuzzer that holds a running service to its own OpenAPI document.

pub mod conformance;
pub mod mistakes;
pub mod wait;
pub mod seed;
pub mod shrink;
pub mod grader;
pub mod history;
pub mod linearizable;
pub mod accounting;
pub mod crash;
pub mod schemathesis;

pub use conformance::{Broken, Promise, Suite, Verdict};
pub use history::Recorder;
pub use seed::Seed;
pub use wait::{eventually, wait_until, wait_until_blocking};
