//! One page that can be mailed: everything inline, nothing fetched, no script.

use super::svg::{Line, Unit, escape, percentile_chart, time_chart};
use super::{chart, text};
use crate::harness::{Interval, Summary};
use crate::question::Question;
use crate::results::{Row, Table};
use crate::stage::{Event, Stage};
use crate::transcript;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
    padding:0 1rem;color:#222;background:#fff}pre{overflow-x:auto;font-size:.85rem}\
    svg{width:100%;height:auto}@media (prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";

fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
         <h1>{title}</h1>\n{body}</html>\n"
    )
}

/// Intervals that lasted a tick: a rate over the last few milliseconds of a run is noise.
fn whole(intervals: &[Interval]) -> impl Iterator<Item = &Interval> {
    let tick_ms = intervals.iter().map(|interval| interval.length_ms).max().unwrap_or(0);
    intervals.iter().filter(move |interval| interval.length_ms * 2 > tick_ms)
}

/// A comparison's page: table, chart, time lines, and where it was made.
pub fn page_of_table(table: &Table) -> String {
    let valid = || table.rows.iter().filter(|row| row.is_valid() && !row.intervals.is_empty());
    let line = |of: fn(&Interval) -> f64| -> Vec<Line> {
        let points = |row: &Row| {
            whole(&row.intervals).map(|interval| (interval.at_ms, of(interval))).collect()
        };
        valid().map(|row| Line { name: row.name.clone(), points: points(row) }).collect()
    };
    let mut body = format!("<pre>{}</pre>\n{}", escape(&text(table)), chart(table));
    if valid().next().is_some() {
        let rates = line(Interval::per_s);
        body += &time_chart("replies a second, last round", Unit::PerSecond, &rates, &[]);
        let tails = line(|interval| interval.p99_ns as f64);
        body += &time_chart("p99 over time, last round", Unit::Nanoseconds, &tails, &[]);
    }
    body += &format!("<p>{}</p>\n", escape(&table.environment.describe()));
    page(&format!("{}: {}", table.system, table.scenario), &body)
}

/// A question's page: what was told, then what happened over time with the faults marked. Runs
/// that are invalid appear in the text, not in the charts; where only the generator lagged, the
/// outcomes are charted and the latencies are not.
pub fn page_of_question(question: &Question, stage: &Stage, events: &[Event]) -> String {
    let transcript: String = events.iter().map(transcript::render).collect();
    let (runs, marks) = (stage.runs(), stage.marks());
    let counted: Vec<_> = runs.iter().filter(|(_, run)| run.counts_hold).collect();
    let timed = |run: &Summary| run.is_valid() && !run.counts_only;
    let mut rates: Vec<Line> = Vec::new();
    let mut tails: Vec<Line> = Vec::new();
    for (began_ms, run) in &counted {
        for class in run.ok.keys().chain(run.errors.keys()) {
            let points = whole(&run.intervals).map(|interval| {
                let seen = interval.classes.get(class).copied().unwrap_or(0) as f64;
                (began_ms + interval.at_ms, seen * 1000.0 / interval.length_ms.max(1) as f64)
            });
            let name = format!("{} {class}", run.name);
            rates.push(Line { name, points: points.collect() });
        }
        if !timed(run) {
            continue;
        }
        let points = whole(&run.intervals).map(|i| (began_ms + i.at_ms, i.p99_ns as f64));
        tails.push(Line { name: run.name.clone(), points: points.collect() });
    }
    let mut body = format!("<pre>{}</pre>\n", escape(&transcript));
    if !counted.is_empty() {
        body += &time_chart("outcomes a second", Unit::PerSecond, &rates, &marks);
    }
    if !tails.is_empty() {
        body += &time_chart("p99 over time", Unit::Nanoseconds, &tails, &marks);
        let timed = counted.iter().filter(|(_, run)| timed(run));
        let curves: Vec<_> = timed.map(|(_, run)| (&*run.name, &*run.curve)).collect();
        body += &percentile_chart(&curves);
    }
    page(&question.path(), &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{Load, Pacing, Plan};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_question_page_shows_valid_runs_and_marks_faults_and_hides_invalid_ones() {
        let question = Question {
            system: "test",
            name: "page",
            asks: "Is <this> escaped?",
            explanation: "It is.",
            run: |_| Box::pin(async { Ok(()) }),
        };
        let stage = Stage::silent(1, false);
        let reply = |_| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok("allowed")
        };
        let load = Load::new(Plan::constant(100.0, Duration::from_secs(2))).paced(Pacing::Timer);
        stage.drive("steady", &load, reply).await;
        stage.fault("redis-down", "killed");
        stage.drive("lossy", &load.clone().in_flight(1), reply).await;
        let page = page_of_question(&question, &stage, &[]);
        assert!(page.contains("steady allowed") && page.contains(">redis-down<"));
        assert!(!page.contains("lossy"), "a run that dropped requests was charted");
        // Nothing may be fetched: the only address is the name of the SVG language.
        assert_eq!(
            page.matches("http").count(),
            page.matches("http://www.w3.org/2000/svg").count()
        );
    }
}
