//! The pure core: a whole inventory as a value. Every method takes the time; there is no clock,
//! no lock and no await in here.
//!
//! It is the memory answer under a mutex, and the model that every other answer must agree with.
//! The idea: a hold past its deadline is released before anything else happens, so no method
//! below has to think about time again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::audit::{Audit, Totals, judge};
use crate::inventory::{Error, Grant, Item, Reservation, State};
use crate::lifecycle::{Action, Step, as_seen, decide, stepped};
use crate::order::{
    Key, Order, ReservationId, Restock, Sku, check_restock, check_stock, check_ttl,
};

/// The most reservations that have not ended. Beyond it a reservation is refused as busy: each
/// takes a few hundred bytes, and a client could otherwise fill the memory with tiny holds.
pub const LIVE_MAX: usize = 1_000_000;

/// The most ended reservations that are remembered. Beyond it the oldest is forgotten: a repeat
/// of its request would then reserve again.
pub const ENDED_KEPT_MAX: usize = 1_000_000;

/// The most SKUs.
pub const ITEMS_MAX: usize = 1_000_000;

/// Stock, reservations and keys.
#[derive(Debug, Default)]
pub struct Ledger {
    items: BTreeMap<Sku, Stock>,
    reservations: HashMap<ReservationId, Reservation>,
    keys: HashMap<Key, Made>,
    /// The holds by deadline: the first is the next to expire.
    deadlines: BTreeSet<(u64, ReservationId)>,
    /// The ended ones, oldest first.
    ended: VecDeque<ReservationId>,
}

#[derive(Clone, Debug, Default)]
struct Stock {
    available: u64,
    held: u64,
    sold: u64,
    version: u64,
    received: i64,
    /// Sold by reservations that are no longer remembered.
    sold_forgotten: u64,
}

/// What a key has made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Made {
    Reservation(ReservationId),
    Restock(Sku, u64),
}

impl Ledger {
    /// See [`Inventory::create`](crate::Inventory::create).
    pub fn create(&mut self, sku: Sku, on_hand: u64) -> Result<Item, Error> {
        check_stock(on_hand)?;
        if self.items.contains_key(&sku) {
            return Err(Error::Exists(sku));
        }
        if self.items.len() >= ITEMS_MAX {
            return Err(busy("the memory answer keeps no more items"));
        }
        let received = on_hand as i64;
        let stock = Stock { available: on_hand, version: 1, received, ..Stock::default() };
        self.items.insert(sku.clone(), stock);
        self.shown(&sku)
    }

    /// See [`Inventory::item`](crate::Inventory::item).
    pub fn item(&mut self, sku: &Sku, now_ms: u64) -> Result<Item, Error> {
        self.release_overdue(now_ms, usize::MAX);
        self.shown(sku)
    }

    /// See [`Inventory::restock`](crate::Inventory::restock).
    pub fn restock(&mut self, sku: &Sku, restock: Restock, now_ms: u64) -> Result<Item, Error> {
        self.release_overdue(now_ms, usize::MAX);
        let made = Made::Restock(sku.clone(), restock.quantity);
        if let Some(key) = &restock.key
            && let Some(earlier) = self.keys.get(key)
        {
            return match *earlier == made {
                true => self.shown(sku),
                false => Err(Error::KeyReused(key.clone())),
            };
        }
        let stock = self.stock(sku)?;
        check_restock(restock.quantity, stock.available + stock.held)?;
        stock.available += restock.quantity;
        stock.received += restock.quantity as i64;
        stock.version += 1;
        if let Some(key) = restock.key {
            self.keys.insert(key, made);
        }
        self.shown(sku)
    }

    /// See [`Inventory::set_on_hand`](crate::Inventory::set_on_hand).
    pub fn set_on_hand(
        &mut self,
        sku: &Sku,
        on_hand: u64,
        expected: Option<u64>,
        now_ms: u64,
    ) -> Result<Item, Error> {
        check_stock(on_hand)?;
        self.release_overdue(now_ms, usize::MAX);
        let stock = self.stock(sku)?;
        let current = stock.version;
        if expected.is_some_and(|expected| expected != current) {
            return Err(Error::Conflict { sku: sku.clone(), current });
        }
        let Some(available) = on_hand.checked_sub(stock.held) else {
            return Err(Error::BelowHeld { sku: sku.clone(), held: stock.held });
        };
        stock.received += available as i64 - stock.available as i64;
        stock.available = available;
        stock.version += 1;
        self.shown(sku)
    }

    /// See [`Inventory::reserve`](crate::Inventory::reserve). `id` is used unless the key of the
    /// order has been used.
    pub fn reserve(
        &mut self,
        id: ReservationId,
        order: Order,
        now_ms: u64,
    ) -> Result<Grant, Error> {
        self.release_overdue(now_ms, usize::MAX);
        if let Some(earlier) = self.made_before(&order)? {
            let reservation = self.reservations[&earlier].clone().as_granted();
            return Ok(Grant { reservation, replayed: true });
        }
        if self.deadlines.len() >= LIVE_MAX {
            return Err(busy("the memory answer holds no more reservations"));
        }
        for line in order.lines.iter() {
            let available = self.stock(&line.sku)?.available;
            if available < line.quantity {
                let (sku, requested) = (line.sku.clone(), line.quantity);
                return Err(Error::SoldOut { sku, requested, available });
            }
        }
        // From here on nothing can fail, so all lines are taken or none.
        self.move_stock(&order, |stock, quantity| {
            stock.available -= quantity;
            stock.held += quantity;
        });
        let expires_at_ms = now_ms + order.ttl_ms;
        if let Some(key) = &order.key {
            self.keys.insert(key.clone(), Made::Reservation(id));
        }
        let state = State::Held;
        let reservation = Reservation { id, state, order, granted_at_ms: now_ms, expires_at_ms };
        self.deadlines.insert((expires_at_ms, id));
        self.reservations.insert(id, reservation.clone());
        Ok(Grant { reservation, replayed: false })
    }

    /// See [`Inventory::reservation`](crate::Inventory::reservation).
    pub fn reservation(&self, id: ReservationId, now_ms: u64) -> Result<Reservation, Error> {
        let found = self.reservations.get(&id).cloned();
        found.map(|found| as_seen(found, now_ms)).ok_or(Error::UnknownReservation(id))
    }

    /// Confirm, cancel or extend.
    pub fn act(
        &mut self,
        id: ReservationId,
        action: Action,
        now_ms: u64,
    ) -> Result<Reservation, Error> {
        if let Action::Extend { ttl_ms } = action {
            check_ttl(ttl_ms)?;
        }
        self.release_overdue(now_ms, usize::MAX);
        let before = self.reservation(id, now_ms)?;
        let step = decide(&before, action, now_ms)?;
        match step {
            Step::Same => {}
            Step::End(state) => self.end(id, state),
            Step::Until(expires_at_ms) => {
                self.deadlines.remove(&(before.expires_at_ms, id));
                self.deadlines.insert((expires_at_ms, id));
            }
        }
        let after = stepped(before, step);
        self.reservations.insert(id, after.clone());
        Ok(after)
    }

    /// See [`Inventory::expire_due`](crate::Inventory::expire_due).
    pub fn release_overdue(&mut self, now_ms: u64, limit: usize) -> u64 {
        let mut released = 0;
        while released < limit
            && let Some(&(expires_at_ms, id)) = self.deadlines.first()
            && expires_at_ms <= now_ms
        {
            self.end(id, State::Expired);
            released += 1;
        }
        released as u64
    }

    /// See [`Inventory::audit`](crate::Inventory::audit).
    pub fn audit(&self, now_ms: u64) -> Audit {
        let mut totals: BTreeMap<Sku, Totals> = BTreeMap::new();
        for (sku, stock) in &self.items {
            let counters = Totals {
                available: stock.available as i64,
                held: stock.held as i64,
                sold: stock.sold as i64,
                received: stock.received,
                sold_by_reservations: stock.sold_forgotten as i64,
                held_by_reservations: 0,
            };
            totals.insert(sku.clone(), counters);
        }
        for reservation in self.reservations.values() {
            for line in reservation.order.lines.iter() {
                let totals = totals.entry(line.sku.clone()).or_default();
                match reservation.state {
                    State::Held => totals.held_by_reservations += line.quantity as i64,
                    State::Confirmed => totals.sold_by_reservations += line.quantity as i64,
                    State::Cancelled | State::Expired => {}
                }
            }
        }
        let overdue = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now_ms);
        judge(totals, overdue.count() as u64)
    }

    /// The reservation this order's key has made.
    fn made_before(&self, order: &Order) -> Result<Option<ReservationId>, Error> {
        let Some(key) = &order.key else { return Ok(None) };
        match self.keys.get(key) {
            None => Ok(None),
            Some(Made::Reservation(id)) if order.is_repeat_of(&self.reservations[id].order) => {
                Ok(Some(*id))
            }
            Some(_) => Err(Error::KeyReused(key.clone())),
        }
    }

    /// Ends a hold: its stock is sold or given back, and it can be forgotten some day.
    fn end(&mut self, id: ReservationId, state: State) {
        let reservation = self.reservations.get_mut(&id).expect("a hold is remembered");
        reservation.state = state;
        let order = reservation.order.clone();
        self.deadlines.remove(&(reservation.expires_at_ms, id));
        self.move_stock(&order, |stock, quantity| {
            stock.held -= quantity;
            match state {
                State::Confirmed => stock.sold += quantity,
                _ => stock.available += quantity,
            }
        });
        self.ended.push_back(id);
        if self.ended.len() > ENDED_KEPT_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(forgotten) = self.ended.pop_front().and_then(|id| self.reservations.remove(&id))
        else {
            return;
        };
        if forgotten.state == State::Confirmed {
            for line in forgotten.order.lines.iter() {
                let stock =
                    self.items.get_mut(&line.sku).expect("a reserved item is never removed");
                stock.sold_forgotten += line.quantity;
            }
        }
        if let Some(key) = forgotten.order.key {
            self.keys.remove(&key);
        }
    }

    fn move_stock(&mut self, order: &Order, change: impl Fn(&mut Stock, u64)) {
        for line in order.lines.iter() {
            let stock = self.items.get_mut(&line.sku).expect("a reserved item is never removed");
            change(stock, line.quantity);
            stock.version += 1;
        }
    }

    fn stock(&mut self, sku: &Sku) -> Result<&mut Stock, Error> {
        self.items.get_mut(sku).ok_or_else(|| Error::UnknownSku(sku.clone()))
    }

    fn shown(&self, sku: &Sku) -> Result<Item, Error> {
        let stock = self.items.get(sku).ok_or_else(|| Error::UnknownSku(sku.clone()))?;
        let &Stock { available, held, sold, version, .. } = stock;
        Ok(Item { sku: sku.clone(), on_hand: available + held, available, held, sold, version })
    }
}

fn busy(what: &str) -> Error {
    Error::Busy { what: what.to_owned(), retry_after_ms: 1_000 }
}
