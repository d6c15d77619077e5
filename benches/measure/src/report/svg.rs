//! Charts as hand-written SVG: readable in light and dark, alone or inside a page.

use std::fmt::Write;

use crate::stage::Mark;
use crate::units::{count, duration_ns};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 50.0;

/// Told apart by people who do not see red and green alike (Okabe and Ito), readable on both
/// backgrounds.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00", "#7a7a7a"];

/// What the vertical axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, on a logarithmic axis.
    Nanoseconds,
    /// Events a second, on a linear axis from zero.
    PerSecond,
}

/// A named line of a time chart: `(milliseconds, value)`.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its legend.
    pub name: String,
    /// Its points, in order of time.
    pub points: Vec<(u64, f64)>,
}

/// Latency by percentile, both axes logarithmic: the shape of the tail. Ten times more samples
/// show one nine more.
pub fn percentile_chart(curves: &[(&str, &[(f64, u64)])]) -> String {
    let nines = |quantile: f64| -(1.0 - quantile).max(1e-12).log10();
    let all = curves.iter().flat_map(|(_, curve)| curve.iter());
    let longest = all.clone().map(|(q, _)| nines(*q)).fold(1.0, f64::max);
    let values = all.map(|(_, ns)| *ns as f64);
    let mut chart = Chart::new("latency by percentile", (0.0, longest), Unit::Nanoseconds, values);
    let labels = ["0", "90", "99", "99.9", "99.99", "99.999"];
    for (at, label) in (0u8..).zip(labels).take_while(|(at, _)| f64::from(*at) <= longest) {
        chart.x_label(f64::from(at), &format!("p{label}"));
    }
    for (name, curve) in curves {
        let points = curve.iter().map(|(q, ns)| (nines(*q), *ns as f64));
        chart.line(name, points.collect());
    }
    chart.finish()
}

/// Values over time, faults marked as vertical lines.
pub fn time_chart(title: &str, unit: Unit, lines: &[Line], marks: &[Mark]) -> String {
    let points = lines.iter().flat_map(|line| line.points.iter());
    let moments = points.clone().map(|(ms, _)| *ms).chain(marks.iter().map(|mark| mark.at_ms));
    let last_ms = moments.max().unwrap_or(1).max(1);
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let range = (0.0, seconds(last_ms));
    let mut chart = Chart::new(title, range, unit, points.map(|(_, value)| *value));
    let step = round_step(range.1 / 8.0);
    for at in (0..=8u32).map(|n| f64::from(n) * step).take_while(|at| *at <= range.1) {
        chart.x_label(at, &format!("{} s", (at * 1000.0).round() / 1000.0));
    }
    for mark in marks {
        chart.mark(seconds(mark.at_ms), &mark.name);
    }
    for line in lines {
        let points = line.points.iter().map(|(ms, value)| (seconds(*ms), *value));
        chart.line(&line.name, points.collect());
    }
    chart.finish()
}

/// Horizontal bars of rates.
pub(super) fn bars(rates: &[(&str, f64)]) -> String {
    let highest = rates.iter().map(|(_, per_s)| *per_s).fold(f64::MIN_POSITIVE, f64::max);
    let height = 40.0 + 34.0 * rates.len() as f64;
    let mut svg = open(height, "calls a second");
    for (at, (name, per_s)) in rates.iter().enumerate() {
        let (y, colour) = (34.0 + 34.0 * at as f64, COLOURS[at % COLOURS.len()]);
        let width = (WIDTH - 330.0) * per_s / highest;
        let _ = write!(
            svg,
            r#"<text x="200" y="{:.0}" text-anchor="end">{}</text><rect x="210" y="{y:.0}" width="{width:.1}" height="22" fill="{colour}"/><text x="{:.1}" y="{:.0}">{}/s</text>"#,
            y + 16.0,
            escape(name),
            216.0 + width,
            y + 16.0,
            count(*per_s),
        );
    }
    svg + "</svg>\n"
}

fn open(height: f64, title: &str) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0} {height:.0}" role="img" aria-label="{title}"><style>text{{font:12px system-ui,sans-serif;fill:#444}}.axis{{stroke:#8888;stroke-width:1}}@media (prefers-color-scheme:dark){{text{{fill:#ccc}}}}</style><text x="{LEFT}" y="16" font-weight="bold">{title}</text>"#,
        title = escape(title),
    )
}

struct Chart {
    svg: String,
    x: (f64, f64),
    y: (f64, f64),
    unit: Unit,
    lines: usize,
}

impl Chart {
    fn new(title: &str, x: (f64, f64), unit: Unit, values: impl Iterator<Item = f64>) -> Chart {
        let values: Vec<f64> = values.filter(|value| *value > 0.0).collect();
        let highest = values.iter().copied().fold(1.0, f64::max);
        let lowest = values.iter().copied().fold(highest, f64::min);
        let y = match unit {
            Unit::PerSecond => (0.0, 4.0 * round_step(highest / 4.0)),
            Unit::Nanoseconds => {
                let (low, high) = (lowest.log10().floor(), highest.log10().ceil());
                (low, high.max(low + 1.0))
            }
        };
        let mut chart = Chart { svg: open(HEIGHT, title), x, y, unit, lines: 0 };
        chart.y_labels();
        chart
    }

    fn x_at(&self, value: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (value - self.x.0) / (self.x.1 - self.x.0)
    }

    fn y_at(&self, value: f64) -> f64 {
        let value = match self.unit {
            Unit::PerSecond => value,
            Unit::Nanoseconds => value.max(1.0).log10().max(self.y.0),
        };
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.y.0) / (self.y.1 - self.y.0)
    }

    fn y_labels(&mut self) {
        let labels: Vec<(f64, String)> = match self.unit {
            Unit::PerSecond => {
                let steps = (0..=4u32).map(|step| self.y.1 * f64::from(step) / 4.0);
                steps.map(|value| (value, format!("{}/s", count(value)))).collect()
            }
            Unit::Nanoseconds => {
                let decades = self.y.0 as i32..=self.y.1 as i32;
                let values = decades.map(|decade| 10f64.powi(decade));
                values.map(|value| (value, duration_ns(value as u64))).collect()
            }
        };
        for (value, label) in labels {
            let y = self.y_at(value);
            let (end, text_x, text_y) = (WIDTH - RIGHT, LEFT - 6.0, y + 4.0);
            let _ = write!(
                self.svg,
                r#"<path class="axis" d="M{LEFT} {y:.1}H{end}"/><text x="{text_x}" y="{text_y:.1}" text-anchor="end">{label}</text>"#,
            );
        }
    }

    fn x_label(&mut self, value: f64, label: &str) {
        let (x, y) = (self.x_at(value), HEIGHT - BOTTOM + 16.0);
        let _ = write!(self.svg, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{label}</text>"#);
    }

    fn mark(&mut self, value: f64, name: &str) {
        let (x, bottom, name) = (self.x_at(value), HEIGHT - BOTTOM, escape(name));
        let (anchor, text_x) = if x < WIDTH * 0.7 { ("start", x + 4.0) } else { ("end", x - 4.0) };
        let text_y = TOP + 10.0;
        let _ = write!(
            self.svg,
            r#"<path d="M{x:.1} {TOP}V{bottom}" stroke="crimson" stroke-dasharray="4 3"/><text x="{text_x:.1}" y="{text_y:.1}" text-anchor="{anchor}">{name}</text>"#,
        );
    }

    fn line(&mut self, name: &str, points: Vec<(f64, f64)>) {
        let colour = COLOURS[self.lines % COLOURS.len()];
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", self.x_at(*x), self.y_at(*y)))
            .collect();
        let (x, y) = (LEFT + 150.0 * (self.lines % 5) as f64, HEIGHT - 14.0);
        let y = y + 13.0 * (self.lines / 5) as f64 - 2.0;
        let _ = write!(
            self.svg,
            r#"<polyline fill="none" stroke="{colour}" stroke-width="2" points="{}"/><rect x="{x}" y="{:.1}" width="10" height="10" fill="{colour}"/><text x="{:.1}" y="{y:.1}">{}</text>"#,
            path.join(" "),
            y - 9.0,
            x + 14.0,
            escape(name),
        );
        self.lines += 1;
    }

    fn finish(self) -> String {
        self.svg + "</svg>\n"
    }
}

/// The next of 1, 2, 2.5, 5 and 10 times a power of ten: steps of an axis that people can add.
fn round_step(at_least: f64) -> f64 {
    let decade = 10f64.powf(at_least.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0].map(|step| step * decade);
    steps.into_iter().find(|step| *step >= at_least).unwrap_or(10.0 * decade)
}

/// Text inside markup.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
