//! The crossover: what all cells say together, as a table of wasted attempts, a chart, and the
//! rule that follows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use measure::results_directory;

/// One answer at one place, in one round.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) answer: &'static str,
    pub(super) flush: &'static str,
    pub(super) contention: &'static str,
    pub(super) clients: usize,
    pub(super) per_s: f64,
    pub(super) p99_ns: u64,
    pub(super) attempts: f64,
}

/// All cells so far; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Crossover(Arc<Mutex<Vec<Cell>>>);

type Place = (&'static str, &'static str, usize);

impl Crossover {
    pub(super) fn add(&self, cell: Cell) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(cell);
    }

    /// Prints what the tables do not show, and draws the chart.
    pub(super) fn finish(&self, system: &str) -> anyhow::Result<()> {
        let cells = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if cells.is_empty() {
            return Ok(());
        }
        let places = by_place(&cells);
        println!(
            "attempts per success, and goodput against FOR UPDATE at the same place (medians)"
        );
        for (place, answers) in &places {
            println!("  {} SKU, flush {}, {} clients", place.0, place.1, place.2);
            let base = answers.get("pessimistic").map_or(f64::NAN, |cell| cell.per_s);
            for (answer, cell) in answers {
                let attempts = match cell.attempts > 0.0 {
                    true => format!("{:.2} attempts", cell.attempts),
                    false => "shared".to_owned(),
                };
                let p99_ms = cell.p99_ns as f64 / 1e6;
                println!(
                    "    {answer:<20} {:>9.0}/s {:>7.1}x  p99 {p99_ms:>8.1} ms  {attempts}",
                    cell.per_s,
                    cell.per_s / base
                );
            }
        }
        rule(&places);
        let path = results_directory().join(system).join("crossover.svg");
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(&path, svg(&places))?;
        println!("  {}\n", path.display());
        Ok(())
    }
}

/// The median round of every answer at every place.
fn by_place(cells: &[Cell]) -> BTreeMap<Place, BTreeMap<&'static str, Cell>> {
    let mut rounds: BTreeMap<Place, BTreeMap<&'static str, Vec<Cell>>> = BTreeMap::new();
    for cell in cells {
        let place = (cell.contention, cell.flush, cell.clients);
        rounds.entry(place).or_default().entry(cell.answer).or_default().push(cell.clone());
    }
    let median = |mut cells: Vec<Cell>| {
        cells.sort_by(|a, b| a.per_s.total_cmp(&b.per_s));
        cells.swap_remove(cells.len() / 2)
    };
    rounds
        .into_iter()
        .map(|(place, answers)| {
            (place, answers.into_iter().map(|(name, cells)| (name, median(cells))).collect())
        })
        .collect()
}

/// Where optimistic wins and where it loses, from the cells and nothing else.
fn rule(places: &BTreeMap<Place, BTreeMap<&'static str, Cell>>) {
    println!("decision rule, from the cells above");
    let (mut wins, mut loses): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    for (place, answers) in places {
        let best = answers.values().max_by(|a, b| a.per_s.total_cmp(&b.per_s));
        if let Some(best) = best {
            println!("  {:<8} {:<7} {:>4} clients: {}", place.0, place.1, place.2, best.answer);
        }
        if let (Some(optimistic), Some(pessimistic)) =
            (answers.get("optimistic"), answers.get("pessimistic"))
        {
            let side = if optimistic.per_s > pessimistic.per_s { &mut wins } else { &mut loses };
            side.push(optimistic.attempts);
        }
    }
    let most = wins.iter().copied().reduce(f64::max);
    let least = loses.iter().copied().reduce(f64::min);
    let told = |attempts: Option<f64>| attempts.map_or("-".to_owned(), |n| format!("{n:.2}"));
    println!(
        "  optimistic beat FOR UPDATE at {} places (attempts per success there, at most: {}) and \
         lost at {} (at least: {})\n",
        wins.len(),
        told(most),
        loses.len(),
        told(least)
    );
}

const PANEL: (f64, f64) = (320.0, 220.0);
const COLOURS: [&str; 10] = [
    "#1b6ca8", "#c0392b", "#1e8449", "#8e44ad", "#d68910", "#2c3e50", "#16a085", "#7f8c8d",
    "#e84393", "#5d4037",
];

/// A panel for each contention and flush: goodput over clients, both logarithmic.
fn svg(places: &BTreeMap<Place, BTreeMap<&'static str, Cell>>) -> String {
    let contentions = distinct(places.keys().map(|place| place.0));
    let flushes = distinct(places.keys().map(|place| place.1));
    let answers = distinct(places.values().flat_map(|answers| answers.keys().copied()));
    let all = || places.values().flat_map(|answers| answers.values());
    let (low, high) = all().fold((f64::MAX, 1.0_f64), |(low, high), cell| {
        (low.min(cell.per_s.max(1.0)), high.max(cell.per_s))
    });
    let most_clients = all().map(|cell| cell.clients).max().unwrap_or(1).max(2) as f64;
    let (width, height) =
        (PANEL.0 * contentions.len() as f64 + 180.0, PANEL.1 * flushes.len() as f64 + 30.0);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>"#
    );
    for (row, flush) in flushes.iter().enumerate() {
        for (column, contention) in contentions.iter().enumerate() {
            let (left, top) = (50.0 + PANEL.0 * column as f64, 30.0 + PANEL.1 * row as f64);
            let (inner_w, inner_h) = (PANEL.0 - 60.0, PANEL.1 - 50.0);
            let x = |clients: usize| left + inner_w * (clients as f64).ln() / most_clients.ln();
            let y = |per_s: f64| {
                top + inner_h * (1.0 - (per_s.max(1.0) / low).ln() / (high / low).ln().max(0.1))
            };
            let _ = write!(
                svg,
                r#"<text x="{left}" y="{}">{contention} SKU, flush {flush}: reservations/s over clients</text><rect x="{left}" y="{top}" width="{inner_w}" height="{inner_h}" fill="none" stroke="gray"/>"#,
                top - 6.0
            );
            for tick in [10.0, 100.0, 1e3, 1e4, 1e5].into_iter().filter(|t| (low..high).contains(t))
            {
                let at = y(tick);
                let _ = write!(
                    svg,
                    r##"<line x1="{left}" x2="{}" y1="{at}" y2="{at}" stroke="#ddd"/><text x="{}" y="{}" text-anchor="end">{tick}</text>"##,
                    left + inner_w,
                    left - 4.0,
                    at + 4.0
                );
            }
            for (index, answer) in answers.iter().enumerate() {
                let points =
                    places.iter().filter(|(place, _)| place.0 == *contention && place.1 == *flush);
                let points = points.filter_map(|(_, cells)| cells.get(answer));
                let points: Vec<String> = points
                    .map(|cell| format!("{:.1},{:.1}", x(cell.clients), y(cell.per_s)))
                    .collect();
                let colour = COLOURS[index % COLOURS.len()];
                let _ = write!(
                    svg,
                    r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
                    points.join(" ")
                );
                for point in &points {
                    let (cx, cy) = point.split_once(',').unwrap_or(("0", "0"));
                    let _ = write!(svg, r#"<circle cx="{cx}" cy="{cy}" r="3" fill="{colour}"/>"#);
                }
            }
        }
    }
    legend(&mut svg, &answers, width);
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String, answers: &[&str], width: f64) {
    for (index, answer) in answers.iter().enumerate() {
        let (x, y) = (width - 120.0, 40.0 + 18.0 * index as f64);
        let colour = COLOURS[index % COLOURS.len()];
        let _ = write!(
            svg,
            r#"<circle cx="{x}" cy="{}" r="4" fill="{colour}"/><text x="{}" y="{y}">{answer}</text>"#,
            y - 4.0,
            x + 8.0
        );
    }
}

fn distinct(items: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut distinct: Vec<&str> = Vec::new();
    for item in items {
        if !distinct.contains(&item) {
            distinct.push(item);
        }
    }
    distinct
}
