//! Priorities without starvation: which queue to ask next.
//!
//! Each lane is a queue of its own with a weight, and shares follow the weights (smooth weighted
//! round robin, as in nginx). A lane that had nothing when asked does not save up. And a lane whose
//! work waited longer than `aging` gets the next turn whatever its weight: the low lane is slow
//! under load, never stopped.
//!
//! Not one queue with priorities inside: there the low ones starve, and a broker has to sort.

/// A queue and its share.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The queue's name.
    pub queue: String,
    /// Its share relative to the others; at least 1.
    pub weight: u32,
}

/// Whose turn it is.
#[derive(Clone, Debug)]
pub struct Picker {
    lanes: Vec<State>,
    aging_ms: u64,
}

#[derive(Clone, Debug)]
struct State {
    weight: i64,
    credit: i64,
    last_turn_ms: u64,
}

impl Picker {
    /// Turns for lanes of these weights; each gets one at least every `aging_ms`.
    pub fn new(weights: impl IntoIterator<Item = u32>, aging_ms: u64, now_ms: u64) -> Self {
        let state = |weight: u32| State {
            weight: i64::from(weight.max(1)),
            credit: 0,
            last_turn_ms: now_ms,
        };
        Self { lanes: weights.into_iter().map(state).collect(), aging_ms }
    }

    /// The lanes in the order in which to ask them now; the first that has work takes the turn.
    pub fn order(&self, now_ms: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.lanes.len()).collect();
        order.sort_by_key(|&lane| {
            let it = &self.lanes[lane];
            let waited_ms = now_ms.saturating_sub(it.last_turn_ms);
            let is_overdue = waited_ms >= self.aging_ms;
            // Overdue lanes first, the longest waiting of them first; then by credit.
            let overdue_ms = if is_overdue { waited_ms } else { 0 };
            (std::cmp::Reverse(overdue_ms), std::cmp::Reverse(it.credit + it.weight), lane)
        });
        order
    }

    /// `lane` had work and took the turn; those asked before it had none.
    pub fn took(&mut self, lane: usize, asked_before: &[usize], now_ms: u64) {
        // Shares are among those that have work: a lane alone pays what it gets.
        let has_work = |index: &usize| !asked_before.contains(index);
        let total: i64 =
            (0..self.lanes.len()).filter(has_work).map(|it| self.lanes[it].weight).sum();
        for (index, it) in self.lanes.iter_mut().enumerate() {
            if asked_before.contains(&index) {
                (it.credit, it.last_turn_ms) = (0, now_ms);
            } else {
                it.credit += it.weight;
            }
        }
        let it = &mut self.lanes[lane];
        it.credit -= total;
        it.last_turn_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand turns, one a millisecond, on lanes that always have work.
    fn turns(weights: &[u32], aging_ms: u64) -> Vec<u32> {
        let mut picker = Picker::new(weights.iter().copied(), aging_ms, 0);
        let mut taken = vec![0; weights.len()];
        for now_ms in 0..1_000 {
            let lane = picker.order(now_ms)[0];
            picker.took(lane, &[], now_ms);
            taken[lane] += 1;
        }
        taken
    }

    #[test]
    fn turns_follow_the_weights() {
        assert_eq!(turns(&[7, 2, 1], 100_000), [700, 200, 100]);
    }

    #[test]
    fn the_low_lane_never_starves() {
        let taken = turns(&[1_000_000, 1], 50);
        assert!((19..=20).contains(&taken[1]), "one turn every 50 ms: {taken:?}");
    }

    #[test]
    fn an_empty_lane_does_not_save_up() {
        let mut picker = Picker::new([5, 1], 100_000, 0);
        for now_ms in 0..100 {
            // The heavy lane is empty for a while.
            picker.took(1, &[0], now_ms);
        }
        let mut taken = [0; 2];
        for now_ms in 100..160 {
            let lane = picker.order(now_ms)[0];
            picker.took(lane, &[], now_ms);
            taken[lane] += 1;
        }
        assert!(taken[1] >= 8, "six turns in sixty belong to the light lane: {taken:?}");
    }
}
