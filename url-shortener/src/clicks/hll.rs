//! HyperLogLog: how many different visitors, in 12 KiB at most, without remembering any.
//!
//! The hash of a visitor chooses one of 2^14 registers and leaves there the longest run of zeros
//! it has seen. Merging two sketches takes the larger of each register, so the sketch of a week is
//! exactly the merge of its days. The standard error is 1.04 / sqrt(2^14) = 0.81 %.
//!
//! Few visitors are kept as a sorted list of the registers in use: three bytes each.
//!
//! Source: Flajolet et al., "HyperLogLog" (2007); the estimator, which needs no correction tables
//! and is right for small numbers too, is Ertl, "New cardinality estimation algorithms for
//! HyperLogLog sketches" (2017), algorithm 6.

const INDEX_BITS: u32 = 14;
const REGISTERS: usize = 1 << INDEX_BITS;
/// The longest run a register can see, plus one.
const RANK_MAX: usize = 64 - INDEX_BITS as usize + 1;
/// Registers in use from which the list takes as much as the whole: 6 bits against 24.
const LIST_MAX: usize = REGISTERS / 4;
/// All registers at six bits each.
const PACKED_BYTES: usize = REGISTERS * 6 / 8;

/// A sketch of a set of visitors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// Register and rank of those in use, by register.
    List(Vec<(u16, u8)>),
    All(Box<[u8]>),
}

impl Default for Sketch {
    fn default() -> Self {
        Self(Form::List(Vec::new()))
    }
}

impl Sketch {
    /// Adds a visitor by a hash whose bits are all equally likely.
    pub fn insert(&mut self, hash: u64) {
        let register = (hash >> (64 - INDEX_BITS)) as u16;
        // The guard bit below the remaining bits ends the run at RANK_MAX.
        let rank = ((hash << INDEX_BITS) | 1 << (INDEX_BITS - 1)).leading_zeros() as u8 + 1;
        self.raise(register, rank);
    }

    /// Adds everybody the other sketch has seen.
    pub fn merge(&mut self, other: &Self) {
        match &other.0 {
            Form::List(list) => {
                list.iter().for_each(|(register, rank)| self.raise(*register, *rank))
            }
            Form::All(ranks) => {
                let used = ranks.iter().enumerate().filter(|(_, rank)| **rank > 0);
                used.for_each(|(register, rank)| self.raise(register as u16, *rank));
            }
        }
    }

    fn raise(&mut self, register: u16, rank: u8) {
        match &mut self.0 {
            Form::All(ranks) => {
                let known = &mut ranks[register as usize];
                *known = (*known).max(rank);
            }
            Form::List(list) => {
                match list.binary_search_by_key(&register, |(register, _)| *register) {
                    Ok(at) => list[at].1 = list[at].1.max(rank),
                    Err(at) => list.insert(at, (register, rank)),
                }
                if list.len() > LIST_MAX {
                    let mut ranks = vec![0; REGISTERS].into_boxed_slice();
                    list.iter().for_each(|(register, rank)| ranks[*register as usize] = *rank);
                    self.0 = Form::All(ranks);
                }
            }
        }
    }

    /// About how many visitors there were.
    pub fn estimate(&self) -> u64 {
        let mut counts = [0_u32; RANK_MAX + 1];
        match &self.0 {
            Form::List(list) => {
                list.iter().for_each(|(_, rank)| counts[*rank as usize] += 1);
                counts[0] = (REGISTERS - list.len()) as u32;
            }
            Form::All(ranks) => ranks.iter().for_each(|rank| counts[*rank as usize] += 1),
        }
        let m = REGISTERS as f64;
        let mut z = m * tau(1.0 - f64::from(counts[RANK_MAX]) / m);
        for count in counts[1..RANK_MAX].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += m * sigma(f64::from(counts[0]) / m);
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round() as u64
    }

    /// Appends the sketch to `out`: a length, then three bytes per register in use, or all
    /// registers at six bits.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Form::List(list) => {
                out.extend((list.len() as u16).to_le_bytes());
                for (register, rank) in list {
                    out.extend(register.to_le_bytes());
                    out.push(*rank);
                }
            }
            Form::All(ranks) => {
                out.extend(u16::MAX.to_le_bytes());
                for four in ranks.chunks_exact(4) {
                    let bits =
                        four.iter().rev().fold(0_u32, |bits, rank| bits << 6 | u32::from(*rank));
                    out.extend(&bits.to_le_bytes()[..3]);
                }
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote from the front of `bytes`; `None` when it is not.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let length = u16::from_le_bytes(take(bytes, 2)?.try_into().ok()?);
        if length == u16::MAX {
            let packed = take(bytes, PACKED_BYTES)?;
            let ranks = packed.chunks_exact(3).flat_map(|three| {
                let bits = u32::from_le_bytes([three[0], three[1], three[2], 0]);
                [0, 6, 12, 18].map(|shift| (bits >> shift & 63) as u8)
            });
            let ranks: Box<[u8]> = ranks.collect();
            return ranks
                .iter()
                .all(|rank| *rank as usize <= RANK_MAX)
                .then_some(Self(Form::All(ranks)));
        }
        let listed = take(bytes, length as usize * 3)?.chunks_exact(3);
        let list: Vec<_> =
            listed.map(|three| (u16::from_le_bytes([three[0], three[1]]), three[2])).collect();
        let sorted = list.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let valid = |(register, rank): &(u16, u8)| {
            (*register as usize) < REGISTERS && (1..=RANK_MAX).contains(&(*rank as usize))
        };
        (sorted && list.len() <= LIST_MAX && list.iter().all(valid))
            .then_some(Self(Form::List(list)))
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// `x + sum of x^(2^k) * 2^(k-1)`: what the registers still at zero say.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * power;
        power += power;
        if sum == before {
            return sum;
        }
    }
}

/// The same for the registers at their maximum.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut power, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        power *= 0.5;
        sum -= (1.0 - x).powi(2) * power;
        if sum == before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(seed: u64, visitors: u64) -> Sketch {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut sketch = Sketch::default();
        (0..visitors).for_each(|_| sketch.insert(rng.u64(..)));
        sketch
    }

    #[test]
    fn the_error_stays_within_four_standard_errors_at_every_size() {
        assert_eq!(Sketch::default().estimate(), 0);
        for visitors in [1, 2, 10, 100, 1_000, 4_000, 5_000, 20_000, 100_000, 1_000_000] {
            for seed in 0..4 {
                let estimate = of(seed, visitors).estimate();
                let error = (estimate as f64 - visitors as f64).abs() / visitors as f64;
                assert!(error <= 4.0 * 0.0081, "{visitors} were estimated as {estimate}");
            }
        }
        assert!((1..=10).all(|visitors| of(9, visitors).estimate() == visitors));
    }

    #[test]
    fn a_few_visitors_take_few_bytes_and_any_number_twelve_kib() {
        let bytes = |visitors| {
            let mut out = Vec::new();
            of(1, visitors).encode(&mut out);
            out.len()
        };
        assert!(bytes(60) < 200, "{}", bytes(60));
        assert_eq!(bytes(1_000_000), PACKED_BYTES + 2);
    }

    proptest! {
        #[test]
        fn merging_days_is_sketching_everybody(seeds in prop::collection::vec((0_u64..9, 0_u64..6_000), 1..6)) {
            let mut merged = Sketch::default();
            let mut all = Sketch::default();
            for (seed, visitors) in seeds {
                merged.merge(&of(seed, visitors));
                let mut rng = fastrand::Rng::with_seed(seed);
                (0..visitors).for_each(|_| all.insert(rng.u64(..)));
            }
            prop_assert_eq!(&merged, &all);
            let mut bytes = Vec::new();
            merged.encode(&mut bytes);
            bytes.push(42);
            let mut rest = &bytes[..];
            prop_assert_eq!(Sketch::decode(&mut rest), Some(merged));
            prop_assert_eq!(rest, &[42][..]);
        }

        #[test]
        fn bytes_that_are_no_sketch_are_refused_not_a_panic(bytes: Vec<u8>) {
            if let Some(sketch) = Sketch::decode(&mut &bytes[..]) {
                sketch.estimate();
            }
        }
    }
}
