//! The registry: every system with its follow-up questions and its comparison.
//!
//! [`measure`] is the harness they share; a system's questions and comparison are a package of
//! their own beside it, so that a change to one of them rebuilds nothing else.

pub use measure::*;

/// Every system, in the order of the README.
pub fn systems() -> Vec<System> {
    vec![
        bench_rate_limiter::system(),
        bench_lru_cache::system(),
        bench_url_shortener::system(),
        bench_job_queue::system(),
        bench_inventory_locking::system(),
        bench_chat_service::system(),
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
