//! The package that measures and asks: comparisons of answers under the same load, and an
//! interviewer's follow-up questions answered by running them.
//!
//! Reading order: [`harness`] (load, recorder, statistics, verdict), then how a [`Question`] is
//! told on a [`Stage`], how a [`Comparison`] uses a [`Bench`], how results become [`report`]s and
//! generated [`tables`], and last the registry: [`systems`], one module per system.

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
mod results;
pub use results::{Row, Table, Versus, results_directory};
pub mod report;
pub mod tables;

pub mod chat_service;
pub mod inventory_locking;
pub mod job_queue;
pub mod lru_cache;
pub mod rate_limiter;
pub mod url_shortener;

mod self_check;

/// A system as the command line and the console know it.
pub struct System {
    /// The crate's name: `rate-limiter`.
    pub name: &'static str,
    /// Its follow-up questions, in the order an interviewer would ask them.
    pub questions: Vec<Question>,
    /// Its answers side by side.
    pub comparison: Option<Comparison>,
}

/// Every system, in the order of the README.
pub fn systems() -> Vec<System> {
    vec![
        rate_limiter::system(),
        lru_cache::system(),
        url_shortener::system(),
        job_queue::system(),
        inventory_locking::system(),
        chat_service::system(),
    ]
}

/// The system with this name.
pub fn system(name: &str) -> Option<System> {
    systems().into_iter().find(|system| system.name == name)
}

/// The question `<system>/<name>`.
pub fn question(path: &str) -> Option<Question> {
    systems().into_iter().flat_map(|system| system.questions).find(|q| q.path() == path)
}

/// The comparison of a system; `harness` compares the harness with what it promises.
pub fn comparison(name: &str) -> Option<Comparison> {
    if name == self_check::NAME {
        return Some(self_check::comparison());
    }
    system(name)?.comparison
}
