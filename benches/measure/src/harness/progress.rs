//! One line on stderr while a long run goes on: rewritten in place on a terminal, a line every
//! few seconds elsewhere, so that a log stays readable and a person is never left wondering.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::run::Progress;
use crate::units::{duration_ns, rate};

/// How often a line is written where it cannot be rewritten.
const EVERY: Duration = Duration::from_secs(5);

/// A progress line.
#[derive(Debug)]
pub struct ProgressLine {
    label: String,
    terminal: bool,
    last: Instant,
    shown: bool,
}

impl ProgressLine {
    /// A line that begins with `label`. Nothing is written yet.
    pub fn new(label: impl Into<String>) -> ProgressLine {
        let terminal = std::io::stderr().is_terminal();
        ProgressLine { label: label.into(), terminal, last: Instant::now(), shown: false }
    }

    /// Shows where the run is.
    pub fn show(&mut self, progress: &Progress) {
        self.say(&describe(progress));
    }

    /// Shows any other state.
    pub fn say(&mut self, state: &str) {
        // A closed stderr must not end a measurement, so write errors are ignored here.
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K  {}  {state}", self.label);
            let _ = std::io::stderr().flush();
            self.shown = true;
        } else if self.last.elapsed() >= EVERY {
            let _ = writeln!(std::io::stderr(), "  {}  {state}", self.label);
            self.last = Instant::now();
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

/// `1.5 of 3.0 s, 5.00k/s, p50 130 µs, p99 410 µs`, and what goes wrong when something does.
pub fn describe(progress: &Progress) -> String {
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let mut line = format!(
        "{:.1} of {:.1} s, {}, p50 {}, p99 {}",
        seconds(progress.elapsed_ms),
        seconds(progress.planned_ms),
        rate(progress.latest.per_s()),
        duration_ns(progress.latest.p50_ns),
        duration_ns(progress.latest.p99_ns),
    );
    for (count, what) in [
        (progress.in_flight, "in flight"),
        (progress.failed, "failed"),
        (progress.dropped, "dropped"),
    ] {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    line
}
