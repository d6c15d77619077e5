//! The columns of a table, once for the terminal and the README.

use crate::comparison::role_label;
use crate::harness::{Mode, Ratio};
use crate::results::{Row, Table};
use crate::units::{duration_ns, rate};

struct Grid {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Why rows are invalid, below the table.
    notes: Vec<String>,
}

fn grid(table: &Table) -> Grid {
    let header = match table.mode {
        Mode::Open | Mode::OpenFromSend => {
            vec!["subject", "achieved", "p50", "p99", "p99.9", "max", "send lag p99", "errors"]
        }
        Mode::Closed => vec!["subject", "rate", "p50 (closed)", "p99 (closed)", "errors"],
        Mode::InProcess => vec!["subject", "rate", "median call", "p99 of batch means"],
    };
    let compared = match table.mode {
        Mode::Open | Mode::OpenFromSend => ["p50 vs baseline", "p99 vs baseline"].as_slice(),
        Mode::Closed | Mode::InProcess => ["rate vs baseline"].as_slice(),
    };
    let hits = table.rows.iter().any(|row| row.hit_ratio.is_some()).then_some("hit ratio");
    let served = table.rows.iter().any(|row| row.server.is_some());
    let of_server = ["server CPU", "server memory", "CPU vs baseline"];
    let of_server = of_server.into_iter().filter(|_| served);
    let compared = compared.iter().copied();
    let header: Vec<_> = header.into_iter().chain(hits).chain(compared).chain(of_server).collect();
    let notes = table.rows.iter().filter_map(note).collect();
    let rows = table.rows.iter().map(|row| cells(table, row, header.len())).collect();
    Grid { header, rows, notes }
}

fn cells(table: &Table, row: &Row, width: usize) -> Vec<String> {
    let mut cells = vec![format!("{}{}", row.name, role_label(row.role))];
    if !row.is_valid() {
        cells.push("INVALID".to_owned());
        cells.resize(width, "-".to_owned());
        return cells;
    }
    let latency = &row.latency;
    cells.push(rate(row.per_s));
    cells.extend([latency.p50, latency.p99].map(duration_ns));
    if table.mode.is_open() {
        cells.extend([latency.p999, latency.max, row.lag_p99_ns].map(duration_ns));
    }
    if table.mode != Mode::InProcess {
        cells.push((row.failed + row.dropped).to_string());
    }
    cells.extend(row.hit_ratio.map(|ratio| format!("{:.2} %", ratio * 100.0)));
    let ratio = |ratio: Option<Ratio>| match ratio {
        _ if row.name == table.baseline => "1 (baseline)".to_owned(),
        None => "-".to_owned(),
        Some(Ratio { ratio, low, high }) => format!("{ratio:.2}x [{low:.2}, {high:.2}]"),
    };
    let versus = row.versus;
    if table.mode.is_open() {
        cells.push(ratio(versus.and_then(|v| v.p50)));
        cells.push(ratio(versus.and_then(|v| v.p99)));
    } else {
        cells.push(ratio(versus.and_then(|v| v.throughput)));
    }
    if let Some(server) = row.server {
        cells.push(format!("{:.1} µs/request", server.cpu_us));
        cells.push(format!("{:.0} MB", server.resident_bytes as f64 / 1e6));
        cells.push(ratio(versus.and_then(|v| v.cpu)));
    }
    cells.resize(width, "-".to_owned());
    cells
}

fn note(row: &Row) -> Option<String> {
    if !row.is_valid() {
        return Some(format!("{} is INVALID: {}.", row.name, row.flaws.join("; ")));
    }
    (row.valid_rounds < row.rounds).then(|| {
        format!(
            "{}: {} of {} rounds count; in the others the generator lagged.",
            row.name, row.valid_rounds, row.rounds
        )
    })
}

fn caption(table: &Table) -> [String; 2] {
    let rounds = table.rows.iter().map(|row| row.rounds).max().unwrap_or(0);
    let seed = table.seed;
    let how = format!("{}; {rounds} interleaved rounds; seed {seed}.", table.load);
    [how, format!("{}; ratios with 95 % confidence intervals.", table.mode.label())]
}

/// The table for a terminal.
pub fn text(table: &Table) -> String {
    let grid = grid(table);
    let mut widths: Vec<usize> = grid.header.iter().map(|cell| cell.chars().count()).collect();
    for row in &grid.rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let mut line = String::from(" ");
        for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // Names to the left, figures to the right.
            let cell =
                if at == 0 { format!(" {cell:<width$}") } else { format!("  {cell:>width$}") };
            line += &cell;
        }
        line.trim_end().to_owned() + "\n"
    };
    let header: Vec<String> = grid.header.iter().map(|cell| (*cell).to_owned()).collect();
    let caption = caption(table).join("\n  ");
    let mut text = format!("{}: {}\n  {caption}\n\n", table.scenario, table.about);
    text += &line(&header);
    grid.rows.iter().for_each(|row| text += &line(row));
    grid.notes.iter().for_each(|note| text += &format!("  {note}\n"));
    text
}

/// The table as markdown, with where it was made: the body of a generated block.
pub fn markdown(table: &Table) -> String {
    let grid = grid(table);
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header: Vec<String> = grid.header.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = grid.header.iter().enumerate().map(|(at, _)| if at == 0 { "---" } else { "--:" });
    let mut text = format!("{}\n\n", table.about);
    text += &line(&header);
    text += &format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
    grid.rows.iter().for_each(|row| text += &line(row));
    text += "\n";
    grid.notes.iter().for_each(|note| text += &format!("{note}\n"));
    text += &format!("{}\n", caption(table).join("\n"));
    text += &format!("Made on {}.\n", table.environment.describe());
    text
}
