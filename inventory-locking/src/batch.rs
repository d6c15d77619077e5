//! The verdicts of a batch, as a pure function: many orders, one look at the stock.
//!
//! A batch pays for one lock, one flush and one round trip, whatever its size; that is all there
//! is to beating a hot row. Orders are judged in the order in which they came. An order that
//! asks for more than is left is refused and takes nothing, and the smaller one behind it is
//! served: nobody starves behind somebody greedy.

use std::collections::BTreeMap;

use crate::inventory::Error;
use crate::order::{Order, Sku};

/// What is available of each SKU that the batch names; `None` for one that does not exist.
pub type Available = BTreeMap<Sku, Option<u64>>;

/// Takes what `order` wants from `available`, all of it or nothing.
///
/// # Errors
/// [`Error::SoldOut`] or [`Error::UnknownSku`] for the first line that cannot be met.
pub fn take(available: &mut Available, order: &Order) -> Result<(), Error> {
    for line in order.lines.iter() {
        let left = available.get(&line.sku).copied().flatten();
        let left = left.ok_or_else(|| Error::UnknownSku(line.sku.clone()))?;
        if left < line.quantity {
            let (sku, requested) = (line.sku.clone(), line.quantity);
            return Err(Error::SoldOut { sku, requested, available: left });
        }
    }
    for line in order.lines.iter() {
        if let Some(Some(left)) = available.get_mut(&line.sku) {
            *left -= line.quantity;
        }
    }
    Ok(())
}

/// The verdict on each order, in the order given. `available` is left as the grants leave it.
pub fn judge<'a>(
    available: &mut Available,
    orders: impl IntoIterator<Item = &'a Order>,
) -> Vec<Result<(), Error>> {
    orders.into_iter().map(|order| take(available, order)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Line, Lines};

    fn order(cart: &[(&str, u64)]) -> Order {
        let line = |&(sku, quantity): &(&str, u64)| Line { sku: Sku::stored(sku), quantity };
        Order { key: None, lines: Lines::new(cart.iter().map(line)).unwrap(), ttl_ms: 1 }
    }

    #[test]
    fn a_small_order_is_served_behind_a_greedy_one_and_a_refused_cart_takes_nothing() {
        let mut available: Available =
            [("a", Some(5)), ("b", Some(1)), ("c", None)].map(|(s, n)| (Sku::stored(s), n)).into();
        let orders = [
            order(&[("a", 3)]),
            order(&[("a", 3)]),
            order(&[("a", 1), ("b", 2)]),
            order(&[("a", 2), ("b", 1)]),
            order(&[("c", 1)]),
        ];
        let verdicts = judge(&mut available, &orders);
        let granted: Vec<_> = verdicts.iter().map(Result::is_ok).collect();
        assert_eq!(granted, [true, false, false, true, false]);
        assert!(matches!(verdicts[1], Err(Error::SoldOut { available: 2, .. })));
        assert!(matches!(verdicts[4], Err(Error::UnknownSku(_))));
        assert_eq!(available.values().copied().collect::<Vec<_>>(), [Some(0), Some(0), None]);
    }
}
