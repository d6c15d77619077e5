//! The harness: comparisons of answers under the same load, and an interviewer's follow-up
//! questions answered by running them.
//!
//! Reading order: [`harness`] (load, recorder, statistics, verdict), then how a [`Question`] is
//! told on a [`Stage`], how a [`Comparison`] uses a [`Bench`], and how results become [`report`]s
//! and generated [`tables`]. A [`System`] is what a system's package returns to the registry.

pub mod units;
pub mod harness;

mod question;
pub use question::{Asked, LONG_LIMIT, Question, SHORT_LIMIT, ask};
mod stage;
pub use stage::{Event, Mark, Stage, What};
pub mod transcript;
mod subject;
pub use subject::{LoopSubject, Ready, Role, Subject};
mod comparison;
pub use comparison::{Bench, Comparison, Length, Options, Scenario, compare};
mod beside;
pub use beside::{SCENARIO, YOURS, beside};
mod results;
pub use results::{Row, Table, Versus, results_directory, workspace};
pub mod report;
pub mod tables;

pub mod self_check;
pub mod cli;

/// A system as the command line and the console know it.
pub struct System {
    /// The crate's name: `rate-limiter`.
    pub name: &'static str,
    /// Its follow-up questions, in the order an interviewer would ask them.
    pub questions: Vec<Question>,
    /// Its answers side by side.
    pub comparison: Option<Comparison>,
}
