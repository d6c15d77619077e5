//! Which key a request touches. Skew decides contention, so every comparison states it.

use fastrand::Rng;

/// A distribution over keys `0..n`. Choosing a key is O(1), allocates nothing and needs no table.
#[derive(Debug, Clone, Copy)]
pub enum Keys {
    /// Every key is as likely as any other.
    Uniform {
        /// How many keys there are.
        n: u64,
    },
    /// Key 0 takes `share` of the requests, the rest is uniform over the others: one celebrity.
    Hot {
        /// How many keys there are.
        n: u64,
        /// The share of key 0, 0 to 1.
        share: f64,
    },
    /// Key `k` has weight `1 / (k + 1)^s`: what real caches and links see (`s` near 1).
    Zipf(Zipf),
}

impl Keys {
    /// Every one of `n` keys equally likely.
    pub fn uniform(n: u64) -> Keys {
        assert!(n > 0, "there is at least one key");
        Keys::Uniform { n }
    }

    /// Key 0 takes `share` of the requests.
    pub fn hot(n: u64, share: f64) -> Keys {
        assert!(n > 1 && (0.0..=1.0).contains(&share), "n > 1 and a share of 0 to 1");
        Keys::Hot { n, share }
    }

    /// Zipf over `n` keys with exponent `s > 0`; key 0 is the most popular.
    pub fn zipf(n: u64, s: f64) -> Keys {
        Keys::Zipf(Zipf::new(n, s))
    }

    /// The next key.
    #[inline]
    pub fn pick(&self, rng: &mut Rng) -> u64 {
        match self {
            Keys::Uniform { n } => rng.u64(0..*n),
            Keys::Hot { share, .. } if rng.f64() < *share => 0,
            Keys::Hot { n, .. } => rng.u64(1..*n),
            Keys::Zipf(zipf) => zipf.pick(rng),
        }
    }

    /// One phrase for a table.
    pub fn describe(&self) -> String {
        match self {
            Keys::Uniform { n } => format!("{n} keys, uniform"),
            Keys::Hot { n, share } => format!("{n} keys, one takes {:.0} %", share * 100.0),
            Keys::Zipf(zipf) => format!("{} keys, Zipf {}", zipf.n, zipf.s),
        }
    }
}

/// An exact Zipf sampler by rejection-inversion: Hörmann and Derflinger, "Rejection-inversion to
/// generate variates from monotone discrete distributions" (ACM TOMACS 6, 1996). It accepts more
/// than four draws in five for any `n` and `s`.
#[derive(Debug, Clone, Copy)]
pub struct Zipf {
    n: u64,
    s: f64,
    area_to_first: f64,
    area_to_last: f64,
    squeeze: f64,
}

impl Zipf {
    /// A sampler over `n` keys with exponent `s`.
    pub fn new(n: u64, s: f64) -> Zipf {
        assert!(n > 0 && s > 0.0 && s.is_finite(), "n > 0 keys and an exponent above 0");
        let mut zipf = Zipf { n, s, area_to_first: 0.0, area_to_last: 0.0, squeeze: 0.0 };
        zipf.area_to_first = zipf.area(1.5) - 1.0;
        zipf.area_to_last = zipf.area(n as f64 + 0.5);
        zipf.squeeze = 2.0 - zipf.inverse_area(zipf.area(2.5) - zipf.weight(2.0));
        zipf
    }

    fn weight(&self, x: f64) -> f64 {
        (-self.s * x.ln()).exp()
    }

    /// The integral of the weight up to `x`, written so that `s = 1` is not a special case.
    fn area(&self, x: f64) -> f64 {
        let log = x.ln();
        exp_minus_one_over((1.0 - self.s) * log) * log
    }

    fn inverse_area(&self, area: f64) -> f64 {
        let t = (area * (1.0 - self.s)).max(-1.0);
        (log_one_plus_over(t) * area).exp()
    }

    /// The next key, 0 being the most popular.
    #[inline]
    pub fn pick(&self, rng: &mut Rng) -> u64 {
        loop {
            let u = self.area_to_last + rng.f64() * (self.area_to_first - self.area_to_last);
            let x = self.inverse_area(u);
            let k = x.round().clamp(1.0, self.n as f64);
            if k - x <= self.squeeze || u >= self.area(k + 0.5) - self.weight(k) {
                return k as u64 - 1;
            }
        }
    }
}

/// `(e^x - 1) / x`, also near 0.
fn exp_minus_one_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// `ln(1 + x) / x`, also near 0.
fn log_one_plus_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_frequencies_match_the_weights() {
        for s in [0.7, 1.0, 1.2] {
            let (n, draws) = (1000u64, 400_000u32);
            let keys = Keys::zipf(n, s);
            let mut rng = Rng::with_seed(11);
            let mut counts = vec![0u32; n as usize];
            for _ in 0..draws {
                counts[keys.pick(&mut rng) as usize] += 1;
            }
            let total: f64 = (1..=n).map(|k| (k as f64).powf(-s)).sum();
            for k in [0usize, 1, 2, 9, 99] {
                let share = ((k + 1) as f64).powf(-s) / total;
                let expected = share * f64::from(draws);
                let deviation = (f64::from(counts[k]) - expected).abs() / expected.sqrt();
                assert!(deviation < 5.0, "s {s} key {k}: {} for {expected:.0}", counts[k]);
            }
        }
    }

    #[test]
    fn the_hot_key_takes_its_share_and_every_key_is_in_range() {
        let mut rng = Rng::with_seed(3);
        let hot = Keys::hot(10, 0.9);
        let hits = (0..10_000).filter(|_| hot.pick(&mut rng) == 0).count();
        assert!((8_800..=9_200).contains(&hits), "{hits} hits");
        for keys in [Keys::uniform(7), Keys::hot(7, 0.5), Keys::zipf(7, 1.0)] {
            assert!((0..10_000).all(|_| keys.pick(&mut rng) < 7), "{keys:?}");
        }
    }
}
