//! Hit ratios as a table, as JSON, and as a picture.

use std::fmt::Write as _;

use super::run::Outcome;

/// A table: a row per policy and capacity.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<10} {:>14} {:>12} {:>12} {:>9}\n",
        "policy", "capacity", "requests", "hits", "ratio"
    );
    for outcome in outcomes {
        let Outcome { policy, capacity, requests, hits, hit_ratio } = outcome;
        let percent = hit_ratio * 100.0;
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{policy:<10} {capacity:>14} {requests:>12} {hits:>12} {percent:>8.2}%");
    }
    text
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Told apart by people who do not see red and green alike (after Okabe and Ito).
const COLOURS: [&str; 10] = [
    "#999999", "#56b4e9", "#0072b2", "#cc79a7", "#e69f00", "#d55e00", "#b59f00", "#009e73",
    "#7f3fbf", "#000000",
];

/// The hit-ratio curves: capacity to the right on a logarithmic scale, hit ratio up, a line per
/// policy.
pub fn svg(title: &str, outcomes: &[Outcome]) -> String {
    let capacities = outcomes.iter().map(|outcome| outcome.capacity.max(1) as f64);
    let (least, most) =
        capacities.fold((f64::MAX, 0.0_f64), |(low, high), at| (low.min(at), high.max(at)));
    let span = (most / least).ln();
    let x = |capacity: u64| {
        let along = if span > 0.0 { (capacity.max(1) as f64 / least).ln() / span } else { 0.5 };
        LEFT + along * (WIDTH - LEFT - RIGHT)
    };
    let top_ratio = outcomes.iter().map(|outcome| outcome.hit_ratio).fold(0.0, f64::max);
    let top_ratio = ((top_ratio * 10.0).ceil() / 10.0).clamp(0.1, 1.0);
    let y = |ratio: f64| HEIGHT - BOTTOM - ratio / top_ratio * (HEIGHT - TOP - BOTTOM);

    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    axes(&mut text, outcomes, &x, top_ratio, &y);
    for (number, policy) in policies(outcomes).into_iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let of_policy = outcomes.iter().filter(|outcome| outcome.policy == policy);
        let points: Vec<(f64, f64)> =
            of_policy.map(|outcome| (x(outcome.capacity), y(outcome.hit_ratio))).collect();
        curve(&mut text, policy, colour, &points, TOP + 16.0 * number as f64);
    }
    text.push_str("</svg>\n");
    text
}

fn policies(outcomes: &[Outcome]) -> Vec<&'static str> {
    let mut policies: Vec<&'static str> = Vec::new();
    for outcome in outcomes {
        if !policies.contains(&outcome.policy) {
            policies.push(outcome.policy);
        }
    }
    policies
}

fn axes(
    text: &mut String,
    outcomes: &[Outcome],
    x: &impl Fn(u64) -> f64,
    top_ratio: f64,
    y: &impl Fn(f64) -> f64,
) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tenth in 0..=(top_ratio * 10.0).round() as u32 {
        let (ratio, at) = (f64::from(tenth) * 10.0, y(f64::from(tenth) / 10.0));
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{ratio}%</text>",
            LEFT - 8.0,
            at + 4.0
        );
    }
    let mut capacities: Vec<u64> = outcomes.iter().map(|outcome| outcome.capacity).collect();
    capacities.sort_unstable();
    capacities.dedup();
    for capacity in capacities {
        let at = x(capacity);
        let _ = writeln!(
            text,
            "<path d=\"M{at:.1} {bottom}v5\" stroke=\"black\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{capacity}</text>",
            bottom + 20.0
        );
    }
    let _ = writeln!(
        text,
        "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">capacity</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 10.0
    );
}

fn curve(text: &mut String, policy: &str, colour: &str, points: &[(f64, f64)], legend_y: f64) {
    let mut path = String::new();
    for (at, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' });
        let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
    }
    let legend_x = WIDTH - RIGHT + 16.0;
    let _ = writeln!(
        text,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
         <path d=\"M{legend_x} {legend_y}h18\" stroke=\"{colour}\" stroke-width=\"3\"/>\
         <text x=\"{}\" y=\"{}\">{policy}</text>",
        legend_x + 24.0,
        legend_y + 4.0
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
