//! Figures as people read them, three significant digits.

use std::time::Duration;

/// `12.3 ms` for nanoseconds.
pub fn duration_ns(nanoseconds: u64) -> String {
    let ns = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{} µs", significant(ns / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", significant(ns / 1e6)),
        _ => format!("{} s", significant(ns / 1e9)),
    }
}

/// `12.3 ms` for a duration.
pub fn duration(duration: Duration) -> String {
    duration_ns(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// `45.2k/s`.
pub fn rate(per_s: f64) -> String {
    format!("{}/s", count(per_s))
}

/// `45.2k`.
pub fn count(value: f64) -> String {
    match value.abs() {
        v if v >= 1e9 => format!("{}G", significant(value / 1e9)),
        v if v >= 1e6 => format!("{}M", significant(value / 1e6)),
        v if v >= 1e4 => format!("{}k", significant(value / 1e3)),
        _ => significant(value),
    }
}

fn significant(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 || v.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_significant_digits_and_a_unit() {
        assert_eq!(duration_ns(999), "999 ns");
        assert_eq!(duration_ns(1_234), "1.23 µs");
        assert_eq!(duration_ns(45_600_000), "45.6 ms");
        assert_eq!(duration(Duration::from_secs(90)), "90 s");
        assert_eq!(rate(45_211.0), "45.2k/s");
        assert_eq!(rate(5_000.0), "5000/s");
        assert_eq!(count(1_250_000.0), "1.25M");
    }
}
