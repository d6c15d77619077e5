//! The measuring harness, in reading order.
//!
//! | you want | use | because |
//! |---|---|---|
//! | latency of an operation over Redis, SQL or HTTP | [`Load`] with a [`Plan`] | open loop: latency counts from the planned send time |
//! | the highest rate such an operation reaches | [`ClosedLoop`] | saturation, labelled as such |
//! | the highest rate that meets a promise | [`max_rate`] | a bounded search of open-loop runs |
//! | the cost of an operation of nanoseconds | [`Saturation`] | batches between clock readings, median of slices |
//! | whether B beats A | [`paired_ratio`] over [`interleaved`] rounds | drift cancels, the interval is tested |
//!
//! A run says itself whether it may be believed: [`Run::flaws`].

mod plan;
pub use plan::{Arrivals, MAX_ARRIVALS, Plan, Schedule};
mod keys;
pub use keys::{Keys, Zipf};
mod load;
pub use load::{DRAIN, Load, MAX_IN_FLIGHT, Outcome, Pacing, Shot, TICK};
mod recorder;
pub use recorder::{Classes, histogram};
mod run;
pub use run::{Interval, Mode, Percentiles, Progress, Run, Summary, curve};
mod verdict;
pub use verdict::{Flaw, MAX_DROPPED_SHARE, MAX_LAG_FROM_SEND, MAX_LAG_SHARE, MIN_ACHIEVED_SHARE};
mod closed;
pub use closed::ClosedLoop;
mod saturate;
pub use saturate::{Saturated, Saturation};
mod server;
pub use server::{ServerProcess, ServerUse};
mod stats;
pub use stats::{Ratio, interleaved, median, paired_ratio};
mod slo;
pub use slo::{Search, Slo, Sustained, Trial, max_rate};
mod distance;
mod environment;
pub use distance::there_and_back_ns;
pub use environment::{Environment, load_average};
mod progress;
pub use progress::{ProgressLine, describe};
