//! The simulator: which policy, at which size, on which traffic? An argument a run settles.
//!
//! Read a trace ([`trace`]), send every request through every policy at every capacity ([`run`]), and
//! print or draw the hit ratios ([`report`]).

pub mod trace;
pub mod run;
pub mod report;
