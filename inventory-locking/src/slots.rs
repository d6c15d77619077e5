//! Stock that is spread over several rows, as pure arithmetic: take from them, give to them, share
//! out evenly.

/// One row of a SKU's stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub slot: i32,
    /// What it has.
    pub available: u64,
}

/// Takes `quantity` from the slots in their order; which gave how much. `None`, taking nothing,
/// when they do not have it together.
pub fn take(slots: &mut [Slot], quantity: u64) -> Option<Vec<(i32, u64)>> {
    if slots.iter().map(|slot| slot.available).sum::<u64>() < quantity {
        return None;
    }
    let mut missing = quantity;
    let mut taken = Vec::new();
    for slot in slots {
        let part = slot.available.min(missing);
        if part > 0 {
            slot.available -= part;
            missing -= part;
            taken.push((slot.slot, part));
        }
    }
    Some(taken)
}

/// Shares out what the slots have together, as evenly as units allow: a slot that is empty while
/// another is full would send buyers away who could be served.
pub fn share_out(slots: &mut [Slot]) {
    let total: u64 = slots.iter().map(|slot| slot.available).sum();
    let count = slots.len() as u64;
    for (index, slot) in slots.iter_mut().enumerate() {
        slot.available = total / count + u64::from((index as u64) < total % count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(available: &[u64]) -> Vec<Slot> {
        (0..).zip(available).map(|(slot, &available)| Slot { slot, available }).collect()
    }

    #[test]
    fn nothing_is_lost_and_the_last_unit_is_found() {
        let mut some = slots(&[2, 0, 3]);
        assert_eq!(take(&mut some, 6), None);
        assert_eq!(some, slots(&[2, 0, 3]), "a refusal takes nothing");
        assert_eq!(take(&mut some, 4), Some(vec![(0, 2), (2, 2)]));
        assert_eq!(some, slots(&[0, 0, 1]));
        let mut uneven = slots(&[0, 11, 0, 0]);
        share_out(&mut uneven);
        assert_eq!(uneven, slots(&[3, 3, 3, 2]));
    }
}
