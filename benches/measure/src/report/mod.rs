//! Results for people: a plain table for the terminal, markdown for a README, and one
//! self-contained HTML page (no script, no external resource) with its charts as SVG.

mod columns;
mod html;
mod svg;

pub use columns::{markdown, text};
pub use html::{page_of_question, page_of_table};
pub use svg::{Line, Unit, percentile_chart, time_chart};

use crate::results::Table;

/// The chart of a table: percentile curves where there are latencies, bars of rates elsewhere.
/// Invalid rows are not in it.
pub fn chart(table: &Table) -> String {
    let valid: Vec<_> = table.rows.iter().filter(|row| row.is_valid()).collect();
    if valid.iter().any(|row| !row.curve.is_empty()) {
        let curves: Vec<_> = valid.iter().map(|row| (&*row.name, &*row.curve)).collect();
        return percentile_chart(&curves);
    }
    let rates: Vec<_> = valid.iter().map(|row| (&*row.name, row.per_s)).collect();
    svg::bars(&rates)
}
