//! A question as text: one calm column of words, one of what happened.

use std::sync::Mutex;

use crate::harness::{ProgressLine, Summary};
use crate::stage::{Event, What};
use crate::units::{duration_ns, rate};

/// Text is wrapped at this column.
const WIDTH: usize = 96;
/// The column at which the text begins, after the word that says what it is.
const INDENT: usize = 11;

/// A sink that prints a telling to standard output and live progress to standard error.
pub fn printer() -> impl Fn(&Event) + Send + Sync + 'static {
    let line: Mutex<Option<ProgressLine>> = Mutex::new(None);
    move |event| {
        let mut line = line.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let What::Progress { run, progress } = &event.what {
            line.get_or_insert_with(|| ProgressLine::new(run)).show(progress);
        } else {
            // Dropping the line clears it from the terminal.
            *line = None;
            print!("{}", render(event));
        }
    }
}

/// One event as text, ending in a newline; nothing for progress.
pub fn render(event: &Event) -> String {
    let at = format!("{:.1} s", event.at_ms as f64 / 1000.0);
    match &event.what {
        What::Begin { question, asks, seed, long } => {
            let form = if *long { " --long" } else { "" };
            format!("\n{question}{form} --seed {seed}\n\n{}\n", paragraph("asked", asks))
        }
        What::Scene { text } => paragraph("scene", text),
        What::Load { text } => paragraph("load", text),
        What::Fault { name, text } => paragraph("fault", &format!("{name} at {at}: {text}")),
        What::Heal { name } => paragraph("healed", &format!("{name} at {at}")),
        What::Progress { .. } => String::new(),
        What::Measured { summary } => paragraph("measured", &measured(summary)),
        What::Observe { name, value } => paragraph("seen", &format!("{name}: {value}")),
        What::Expect { promise, holds, observed } => {
            let word = if *holds { "holds" } else { "BROKEN" };
            paragraph(word, &format!("{promise} ({observed})"))
        }
        What::Because { text } => paragraph("because", text),
        What::End { passed, asked, explanation } => {
            let counts = format!("{} of {} expectations held", asked.held, asked.expected);
            let verdict = if *passed { "yes" } else { "NO" };
            let error = asked.error.as_ref().map_or(String::new(), |e| format!(". Failed: {e}"));
            let outcome = paragraph("outcome", &format!("{verdict}: {counts} in {at}{error}"));
            format!("\n{outcome}{}\n", paragraph("why", explanation))
        }
    }
}

/// One run in a line: rate, classes, latencies, and what is wrong with it.
pub fn measured(run: &Summary) -> String {
    let classes = run.ok.iter().chain(&run.errors);
    let classes: Vec<_> = classes.map(|(class, count)| format!("{count} {class}")).collect();
    let mut line = format!(
        "{}: {} offered, {} achieved; {}",
        run.name,
        rate(run.offered_per_s),
        rate(run.achieved_per_s),
        classes.join(", "),
    );
    if !run.counts_only {
        line += &format!(
            "; p50 {}, p99 {}, p99.9 {}, send lag p99 {}",
            duration_ns(run.latency.p50),
            duration_ns(run.latency.p99),
            duration_ns(run.latency.p999),
            duration_ns(run.lag.p99),
        );
    }
    if run.dropped > 0 {
        line += &format!("; {} dropped", run.dropped);
    }
    if !run.is_valid() {
        let what = if run.counts_hold { "latencies INVALID" } else { "INVALID" };
        line += &format!(". {what}: {}", run.flaws.join("; "));
    }
    line
}

/// `word` in its column, `text` wrapped beside it. Blank lines in `text` stay.
fn paragraph(word: &str, text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for source in text.trim().lines() {
        let mut line = String::new();
        for part in source.split_whitespace() {
            let length = line.chars().count() + 1 + part.chars().count();
            if !line.is_empty() && INDENT + length > WIDTH {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(part);
        }
        lines.push(line);
    }
    let mut words = std::iter::once(word).chain(std::iter::repeat(""));
    let column = |line: String| {
        let word = words.next().unwrap_or_default();
        let row = format!("  {word:<width$}{line}", width = INDENT - 2);
        row.trim_end().to_owned() + "\n"
    };
    lines.into_iter().map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_expectation_is_loud_and_says_what_was_seen() {
        let what = What::Expect {
            promise: "at most 100 are admitted".to_owned(),
            holds: false,
            observed: "200 admitted".to_owned(),
        };
        let text = render(&Event { at_ms: 1200, what });
        assert_eq!(text, "  BROKEN   at most 100 are admitted (200 admitted)\n");
    }

    #[test]
    fn long_text_is_wrapped_beside_its_word() {
        let text = paragraph("scene", &"word ".repeat(40));
        assert!(text.lines().count() > 1);
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        assert!(text.lines().skip(1).all(|line| line.starts_with("           word")));
    }
}
