//! A contract as executable promises.
//!
//! The promises of a contract are *data*: a `Vec<Promise<F>>`, generic over the fixture `F` that
//! builds a fresh subject. One list therefore serves three callers: [`Suite`] turns it into one
//! test per (answer x promise), [`grade`] judges a reader's own answer with it, and the wrong
//! implementations show that the list can say no. A promise that no wrong implementation can
//! break proves nothing, which is why a suite fails when a wrong subject gets through.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
//! use testkit::{Promise, Verdict, conformance::grade, ensure};
//!
//! // The fixture says how to reach a fresh subject; a system puts this in `src/conformance.rs`.
//! pub trait Fixture: Send + Sync + 'static {
//!     fn add(&self, by: u64) -> u64;
//! }
//!
//! pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
//!     testkit::promises! { F;
//!         adds_up => "The total after each addition is the sum of all so far.",
//!     }
//! }
//!
//! async fn adds_up<F: Fixture>(counter: Arc<F>) -> Verdict {
//!     counter.add(2);
//!     let total = counter.add(3);
//!     ensure!(total == 5, "2 + 3 were added, the total was {total}");
//!     Ok(())
//! }
//!
//! struct Atomic(AtomicU64);
//! impl Fixture for Atomic {
//!     fn add(&self, by: u64) -> u64 {
//!         self.0.fetch_add(by, SeqCst) + by
//!     }
//! }
//!
//! // In `tests/conformance.rs` (with `harness = false`) this is `suite.answer("atomic", ..)`.
//! let report = grade(promises, || async { Atomic(AtomicU64::new(0)) });
//! assert!(report.all_kept(), "{report}");
//! ```

mod promise;
mod judge;
mod suite;
mod report;

pub use judge::{Judged, Outcome, TRIAL_LIMIT};
pub(crate) use judge::{Make, judge};
pub use promise::{Broken, Promise, Threads, Verdict};
pub use report::{Report, grade, grade_each};
pub use suite::Suite;
