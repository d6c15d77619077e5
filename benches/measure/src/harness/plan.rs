//! The plan: when every request of a run is due, decided before the run starts.
//!
//! The plan is the clock. Request `n` is due at `t0 + schedule(n)` whatever happened to request
//! `n - 1`, and its latency counts from that instant. A generator that instead waits for a slow
//! reply before it sends the next request asks fewer questions exactly when the answers are bad;
//! Gil Tene named this *coordinated omission* (wrk2, HdrHistogram).

use std::time::Duration;

/// A plan that asks for more arrivals than this is refused: at 100 million the run would take
/// hours at any rate one process can offer.
pub const MAX_ARRIVALS: f64 = 100e6;

/// The shape of the offered rate over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// Evenly spaced. Compare answers under this one: it adds no noise of its own.
    Constant {
        /// Requests a second.
        per_s: f64,
    },
    /// A rate that rises (or falls) linearly over the run. Use it to find the knee.
    Ramp {
        /// Requests a second at the start.
        from_per_s: f64,
        /// Requests a second at the end.
        to_per_s: f64,
    },
    /// `peak_per_s` for the first `peak_for` of every `every`, `base_per_s` for the rest of it.
    Burst {
        /// Requests a second between bursts; may be zero.
        base_per_s: f64,
        /// Requests a second inside a burst.
        peak_per_s: f64,
        /// From the start of one burst to the start of the next.
        every: Duration,
        /// How long a burst lasts.
        peak_for: Duration,
    },
    /// Independent users: exponential gaps. Small bursts happen by chance, as they do in life.
    Poisson {
        /// Mean requests a second.
        per_s: f64,
    },
}

/// When requests are due: a shape, a length and a seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// The shape of the offered rate.
    pub arrivals: Arrivals,
    /// Nothing is due at or after this offset.
    pub duration: Duration,
    /// Decides Poisson gaps here and [`Shot::rng`](super::Shot::rng) in the load.
    pub seed: u64,
}

impl Plan {
    /// A plan of any shape.
    ///
    /// # Panics
    /// When a rate is negative or not finite, when no request would ever be due, or when there
    /// would be more than [`MAX_ARRIVALS`].
    pub fn new(arrivals: Arrivals, duration: Duration) -> Plan {
        let rates = match arrivals {
            Arrivals::Constant { per_s } | Arrivals::Poisson { per_s } => [per_s, per_s],
            Arrivals::Ramp { from_per_s, to_per_s } => [from_per_s, to_per_s],
            Arrivals::Burst { base_per_s, peak_per_s, every, peak_for } => {
                assert!(peak_for <= every && !peak_for.is_zero(), "a burst fits into its period");
                [base_per_s, peak_per_s]
            }
        };
        assert!(rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0), "rates: {rates:?}");
        let highest = rates[0].max(rates[1]);
        assert!(highest > 0.0, "a plan offers something: {arrivals:?}");
        assert!(highest * duration.as_secs_f64() <= MAX_ARRIVALS, "too many arrivals planned");
        Plan { arrivals, duration, seed: 0 }
    }

    /// `per_s` evenly spaced requests a second. Panics as [`Plan::new`] does.
    pub fn constant(per_s: f64, duration: Duration) -> Plan {
        Plan::new(Arrivals::Constant { per_s }, duration)
    }

    /// A linear ramp. Panics as [`Plan::new`] does.
    pub fn ramp(from_per_s: f64, to_per_s: f64, duration: Duration) -> Plan {
        Plan::new(Arrivals::Ramp { from_per_s, to_per_s }, duration)
    }

    /// Independent arrivals. Panics as [`Plan::new`] does.
    pub fn poisson(per_s: f64, duration: Duration) -> Plan {
        Plan::new(Arrivals::Poisson { per_s }, duration)
    }

    /// The same plan with another seed.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Plan {
        Plan { seed, ..self }
    }

    /// The due times as offsets from the start, in order. O(1) each, no table.
    pub fn schedule(&self) -> Schedule {
        Schedule { plan: *self, n: 0, clock_s: 0.0, rng: fastrand::Rng::with_seed(self.seed) }
    }

    /// One phrase for a table: `5000/s for 3.0 s`.
    pub fn describe(&self) -> String {
        let shape = match self.arrivals {
            Arrivals::Constant { per_s } => format!("{per_s:.0}/s"),
            Arrivals::Poisson { per_s } => format!("{per_s:.0}/s (Poisson)"),
            Arrivals::Ramp { from_per_s, to_per_s } => {
                format!("{from_per_s:.0} to {to_per_s:.0}/s")
            }
            Arrivals::Burst { base_per_s, peak_per_s, every, peak_for } => {
                format!("{base_per_s:.0}/s, {peak_per_s:.0}/s for {peak_for:?} in every {every:?}")
            }
        };
        format!("{shape} for {:.1} s", self.duration.as_secs_f64())
    }
}

/// The due times of a [`Plan`], in order.
#[derive(Debug, Clone)]
pub struct Schedule {
    plan: Plan,
    n: u64,
    clock_s: f64,
    rng: fastrand::Rng,
}

impl Schedule {
    /// When arrival `n` of a deterministic shape is due: the inverse of the arrival integral, so
    /// that rounding never accumulates.
    fn due_s(&self, n: f64) -> f64 {
        let length_s = self.plan.duration.as_secs_f64();
        match self.plan.arrivals {
            Arrivals::Constant { per_s } | Arrivals::Poisson { per_s } => n / per_s,
            Arrivals::Ramp { from_per_s, to_per_s } => {
                let slope = (to_per_s - from_per_s) / length_s;
                if slope == 0.0 {
                    return n / from_per_s;
                }
                // Solve from*t + slope*t^2/2 = n; a falling ramp never reaches some n.
                let discriminant = from_per_s * from_per_s + 2.0 * slope * n;
                if discriminant < 0.0 {
                    return f64::INFINITY;
                }
                (discriminant.sqrt() - from_per_s) / slope
            }
            Arrivals::Burst { base_per_s, peak_per_s, every, peak_for } => {
                let (every_s, peak_s) = (every.as_secs_f64(), peak_for.as_secs_f64());
                let in_peak = peak_per_s * peak_s;
                let in_cycle = in_peak + base_per_s * (every_s - peak_s);
                let cycle = (n / in_cycle).floor();
                let left = n - cycle * in_cycle;
                let within_s = if left < in_peak {
                    left / peak_per_s
                } else if base_per_s > 0.0 {
                    peak_s + (left - in_peak) / base_per_s
                } else {
                    every_s
                };
                cycle * every_s + within_s
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due_s = match self.plan.arrivals {
            Arrivals::Poisson { per_s } => {
                // 1 - f64() lies in (0, 1]: the logarithm is finite.
                self.clock_s -= (1.0 - self.rng.f64()).ln() / per_s;
                self.clock_s
            }
            _ => self.due_s(self.n as f64),
        };
        if due_s >= self.plan.duration.as_secs_f64() {
            return None;
        }
        self.n += 1;
        Some(Duration::from_secs_f64(due_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced_and_do_not_drift() {
        let due: Vec<_> = Plan::constant(3.0, second(1000)).schedule().collect();
        assert_eq!(due.len(), 3000);
        assert_eq!(due[2997], second(999));
    }

    #[test]
    fn a_ramp_offers_the_area_under_its_line_rising_or_falling() {
        for (from, to) in [(0.0, 1000.0), (1000.0, 0.0)] {
            let due: Vec<_> = Plan::ramp(from, to, second(10)).schedule().collect();
            assert!((4999..=5001).contains(&due.len()), "{} arrivals", due.len());
            assert!(due.is_sorted());
            let first_half = due.iter().filter(|at| **at < second(5)).count();
            let expected = if from < to { 1250 } else { 3750 };
            assert!(first_half.abs_diff(expected) <= 1, "{first_half} in the first half");
        }
    }

    #[test]
    fn bursts_hold_their_rate_inside_and_between() {
        let (every, peak_for) = (second(2), Duration::from_millis(500));
        let shape = Arrivals::Burst { base_per_s: 10.0, peak_per_s: 1000.0, every, peak_for };
        let due: Vec<_> = Plan::new(shape, second(8)).schedule().collect();
        assert_eq!(due.len(), 4 * (500 + 15));
        let third_burst = |at: &&Duration| **at >= second(4) && **at < second(4) + peak_for;
        assert_eq!(due.iter().filter(third_burst).count(), 500);
    }

    #[test]
    fn poisson_has_the_rate_asked_for_and_repeats_with_its_seed() {
        let plan = Plan::poisson(1000.0, second(100)).seeded(7);
        let due: Vec<_> = plan.schedule().collect();
        // Standard deviation of the count is sqrt(100_000) = 316; 5 of them.
        assert!(due.len().abs_diff(100_000) < 1_600, "{} arrivals", due.len());
        assert_eq!(due, plan.schedule().collect::<Vec<_>>());
        assert_ne!(due, plan.seeded(8).schedule().collect::<Vec<_>>());
        // Exponential gaps: a share of 1/e of them is longer than the mean.
        let long = due.windows(2).filter(|w| w[1] - w[0] > Duration::from_millis(1)).count();
        let share = long as f64 / due.len() as f64;
        assert!((share - (-1.0f64).exp()).abs() < 0.01, "{share} of the gaps exceed the mean");
    }
}
