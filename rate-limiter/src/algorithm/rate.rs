//! Rates without rounding.
//!
//! 7 requests per second is one request every 142,857.142857... microseconds. Rounding that
//! interval makes a limiter drift (redis-cell reports more tokens left than its limit because of
//! it), and floating point loses whole microseconds once a year has passed. So we count in *units*
//! small enough that both sides are whole numbers: with the rate reduced to `a` tokens per `b`
//! microseconds, every microsecond brings `a` units and every token costs `b`.

/// The largest number of units a limit may need: half of 2^53, so that sums stay exact in the
/// doubles that Lua scripts compute with.
pub const UNITS_MAX: u64 = 1 << 52;

/// A refill rate in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units that one microsecond brings.
    pub units_per_us: u64,
    /// Units that one token costs.
    pub units_per_token: u64,
}

impl Rate {
    /// `count` tokens per `per_us` microseconds; both at least one.
    pub const fn new(count: u64, per_us: u64) -> Self {
        assert!(count > 0 && per_us > 0, "the policy refuses zero rates before this");
        let divisor = gcd(count, per_us);
        Self { units_per_us: count / divisor, units_per_token: per_us / divisor }
    }

    /// Units that `tokens` cost. Exact while `tokens` is at most the burst that was validated.
    pub const fn units(self, tokens: u32) -> u64 {
        tokens as u64 * self.units_per_token
    }

    /// Units that `elapsed_us` brings, but never more than `missing`: an idle bucket stays full
    /// however long it idles.
    pub const fn accrued(self, elapsed_us: u64, missing: u64) -> u64 {
        let units = elapsed_us.saturating_mul(self.units_per_us);
        if units < missing { units } else { missing }
    }

    /// Microseconds until `units` have come in, rounded up: never early.
    pub const fn time_for(self, units: u64) -> u64 {
        // Most rates people write have a whole number of microseconds between two tokens; they
        // are spared the slowest instruction of a check.
        if self.units_per_us == 1 { units } else { units.div_ceil(self.units_per_us) }
    }

    /// Whole tokens in `units`.
    pub const fn tokens(self, units: u64) -> u32 {
        // At most the burst, which is a u32.
        (units / self.units_per_token) as u32
    }
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_in_lowest_terms() {
        assert_eq!(Rate::new(50, 1_000_000), Rate { units_per_us: 1, units_per_token: 20_000 });
        assert_eq!(Rate::new(7, 1_000_000), Rate { units_per_us: 7, units_per_token: 1_000_000 });
        assert_eq!(
            Rate::new(1_000_000_000, 1_000_000),
            Rate { units_per_us: 1_000, units_per_token: 1 }
        );
    }

    #[test]
    fn an_age_of_idling_does_not_overflow() {
        let rate = Rate::new(1_000_000_000, 1_000_000);
        assert_eq!(rate.accrued(u64::MAX, 1_000), 1_000);
        assert_eq!(rate.accrued(0, 1_000), 0);
    }
}
