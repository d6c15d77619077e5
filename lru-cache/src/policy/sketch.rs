//! How often was this key used lately? An estimate for any number of keys in fixed memory.
//!
//! A count-min sketch (Cormode and Muthukrishnan, 2005) of four-bit counters: a key increments one
//! counter in each of four rows, its frequency is the smallest of the four, and so is only ever
//! over-estimated. After a number of increments all counters are halved, which is how the past is
//! forgotten (Einziger, Friedman and Manes, 2017).

const ROWS: usize = 4;
const COUNTER_MAX: u8 = 15;
/// Counters are halved after this many increments per counter in a row.
const SAMPLE_FACTOR: usize = 10;
/// More counters than this per row buy nothing measurable and cost memory.
const WIDTH_MAX: u64 = 1 << 24;
const WIDTH_MIN: u64 = 64;

/// Odd multipliers, one per row: each row sees an independent hash.
const MIX: [u64; ROWS] =
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93];

#[derive(Default)]
pub(super) struct Sketch {
    counters: Vec<[u8; ROWS]>,
    increments: usize,
}

impl Sketch {
    /// A sketch for a cache of this capacity.
    pub(super) fn for_capacity(capacity: u64) -> Self {
        let width = capacity.clamp(WIDTH_MIN, WIDTH_MAX).next_power_of_two() as usize;
        Self { counters: vec![[0; ROWS]; width], increments: 0 }
    }

    fn place(&self, hash: u64, row: usize) -> usize {
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(MIX[row]);
        (mixed >> 32) as usize & (self.counters.len() - 1)
    }

    pub(super) fn record(&mut self, hash: u64) {
        let mut added = false;
        for row in 0..ROWS {
            let place = self.place(hash, row);
            let counter = &mut self.counters[place][row];
            added |= *counter < COUNTER_MAX;
            *counter = (*counter + 1).min(COUNTER_MAX);
        }
        self.increments += usize::from(added);
        if self.increments >= SAMPLE_FACTOR * self.counters.len() {
            self.halve();
        }
    }

    pub(super) fn estimate(&self, hash: u64) -> u8 {
        (0..ROWS).map(|row| self.counters[self.place(hash, row)][row]).min().unwrap_or(0)
    }

    fn halve(&mut self) {
        self.counters.iter_mut().flatten().for_each(|counter| *counter /= 2);
        self.increments /= 2;
    }
}
