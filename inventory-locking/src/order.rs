//! What a caller sends, checked once at the door: SKUs, quantities, carts, keys, and the bounds.
//!
//! A cart is merged and sorted here. Merged, because an answer that checks two lines of the same
//! SKU one by one against the same stock sells it twice. Sorted, because two carts that lock
//! their SKUs in the same order cannot deadlock.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::inventory::Error;

/// The longest SKU, in bytes. It is stored with every line of every reservation.
pub const SKU_BYTES_MAX: usize = 64;

/// The longest key, in bytes. It is kept with every reservation.
pub const KEY_BYTES_MAX: usize = 128;

/// The most lines of one cart. A reservation locks all of its SKUs: a longer cart would make
/// everybody wait who wants any of them.
pub const LINES_MAX: usize = 64;

/// The most of one SKU in one cart.
pub const QUANTITY_MAX: u64 = 1_000_000;

/// The most stock of one SKU. Far below what 64 bits can add up, so no sum overflows.
pub const STOCK_MAX: u64 = 1_000_000_000_000;

/// The longest time a hold may last. A longer one would be stock nobody can buy.
pub const TTL_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// How long a hold lasts when nobody says: long enough to pay.
pub const TTL_MS_DEFAULT: u64 = 10 * 60 * 1_000;

/// The name of something in stock: 1 to [`SKU_BYTES_MAX`] of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Sku(Arc<str>);

impl Sku {
    /// The SKU, or [`Error::Invalid`] naming `field`.
    pub fn new(text: &str, field: &str) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.is_empty() || text.len() > SKU_BYTES_MAX || !text.bytes().all(plain) {
            let rule = format!("must be 1 to {SKU_BYTES_MAX} of A-Z a-z 0-9 . _ -");
            return Err(Error::invalid(field, rule));
        }
        Ok(Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a store holds was checked when it was written.
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The name of a request, chosen by whoever may have to repeat it: 1 to [`KEY_BYTES_MAX`] visible
/// ASCII characters. One per intent: a key with a time in it is a new intent with every retry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key(Arc<str>);

impl Key {
    /// The key, or [`Error::Invalid`] naming the field `key`.
    pub fn new(text: &str) -> Result<Self, Error> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > KEY_BYTES_MAX || !visible {
            let rule = format!("must be 1 to {KEY_BYTES_MAX} visible ASCII characters");
            return Err(Error::invalid("key", rule));
        }
        Ok(Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn stored(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a reservation. Its first bits are a time, so new ones go to the end of an index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReservationId(pub Uuid);

impl ReservationId {
    /// One nobody has.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One SKU of a cart.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Line {
    /// Which.
    pub sku: Sku,
    /// How many: 1 to [`QUANTITY_MAX`].
    pub quantity: u64,
}

/// A cart: 1 to [`LINES_MAX`] lines, each SKU once, in SKU order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lines(Arc<[Line]>);

impl Lines {
    /// The cart, merged and sorted, or [`Error::Invalid`] naming the line.
    pub fn new(wanted: impl IntoIterator<Item = Line>) -> Result<Self, Error> {
        let mut lines: Vec<Line> = Vec::new();
        for (index, line) in wanted.into_iter().enumerate() {
            if index == LINES_MAX {
                return Err(Error::invalid("lines", format!("holds more than {LINES_MAX} lines")));
            }
            let field = || format!("lines/{index}/quantity");
            if line.quantity == 0 {
                return Err(Error::invalid(field(), "must be at least 1"));
            }
            let place = lines.binary_search_by(|other| other.sku.cmp(&line.sku));
            let total = match place {
                Ok(at) => lines[at].quantity.saturating_add(line.quantity),
                Err(_) => line.quantity,
            };
            if total > QUANTITY_MAX {
                let reason = format!("must be at most {QUANTITY_MAX} of one SKU in all");
                return Err(Error::invalid(field(), reason));
            }
            match place {
                Ok(at) => lines[at].quantity = total,
                Err(at) => lines.insert(at, line),
            }
        }
        match lines.is_empty() {
            true => Err(Error::invalid("lines", "must not be empty")),
            false => Ok(Self(lines.into())),
        }
    }

    /// What a store holds was checked when it was written; the order may be another.
    pub(crate) fn stored(mut lines: Vec<Line>) -> Self {
        lines.sort_by(|a, b| a.sku.cmp(&b.sku));
        lines.dedup_by(|next, line| {
            let same = next.sku == line.sku;
            line.quantity += if same { next.quantity } else { 0 };
            same
        });
        Self(lines.into())
    }
}

impl std::ops::Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        &self.0
    }
}

/// A wish to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Names the wish, so that it can be repeated.
    pub key: Option<Key>,
    /// The cart.
    pub lines: Lines,
    /// For how long: 1 to [`TTL_MS_MAX`].
    pub ttl_ms: u64,
}

impl Order {
    /// The order, or [`Error::Invalid`] naming `ttl_ms`.
    pub fn new(key: Option<Key>, lines: Lines, ttl_ms: u64) -> Result<Self, Error> {
        check_ttl(ttl_ms)?;
        Ok(Self { key, lines, ttl_ms })
    }

    /// Whether a reservation found under this order's key was made by this very request.
    pub(crate) fn is_repeat_of(&self, earlier: &Order) -> bool {
        self.lines == earlier.lines && self.ttl_ms == earlier.ttl_ms
    }
}

/// More stock has arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restock {
    /// Names the delivery, so that it can be booked twice without harm.
    pub key: Option<Key>,
    /// How many: 1 to [`STOCK_MAX`].
    pub quantity: u64,
}

pub(crate) fn check_ttl(ttl_ms: u64) -> Result<(), Error> {
    match ttl_ms {
        1..=TTL_MS_MAX => Ok(()),
        _ => Err(Error::invalid("ttl_ms", format!("must be 1 to {TTL_MS_MAX}"))),
    }
}

pub(crate) fn check_stock(on_hand: u64) -> Result<(), Error> {
    match on_hand {
        0..=STOCK_MAX => Ok(()),
        _ => Err(Error::invalid("on_hand", format!("must be at most {STOCK_MAX}"))),
    }
}

/// The most that may be added to what is there.
pub(crate) fn check_restock(quantity: u64, stock: u64) -> Result<(), Error> {
    if quantity == 0 {
        return Err(Error::invalid("quantity", "must be at least 1"));
    }
    match stock.checked_add(quantity) {
        Some(0..=STOCK_MAX) => Ok(()),
        _ => Err(Error::invalid("quantity", format!("would make the stock exceed {STOCK_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sku: &str, quantity: u64) -> Line {
        Line { sku: Sku::stored(sku), quantity }
    }

    #[test]
    fn a_cart_is_merged_and_sorted_whatever_its_order() {
        let cart = Lines::new([line("b", 1), line("a", 2), line("b", 3)]).unwrap();
        assert_eq!(&cart[..], [line("a", 2), line("b", 4)]);
        assert_eq!(cart, Lines::stored(vec![line("b", 4), line("a", 1), line("a", 1)]));
    }

    #[test]
    fn a_bad_cart_is_refused_with_the_line_at_fault() {
        let many = (0..=LINES_MAX).map(|n| line(&format!("s{n}"), 1));
        for (cart, field) in [
            (vec![], "lines "),
            (vec![line("a", 1), line("b", 0)], "lines/1/quantity "),
            (vec![line("a", QUANTITY_MAX), line("a", 1)], "lines/1/quantity "),
            (vec![line("a", u64::MAX)], "lines/0/quantity "),
            (many.collect(), "lines "),
        ] {
            let error = Lines::new(cart).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
        for text in ["", "a b", "ä", "a/b", &"x".repeat(SKU_BYTES_MAX + 1)] {
            assert!(Sku::new(text, "sku").is_err(), "{text:?}");
        }
    }
}
