//! The inventory as a candidate writes it, right when nothing is switched on, and every mistake we
//! have seen candidates (and shipped shops) make, one switch each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inventory_locking::audit::{Audit, Totals, judge};
use inventory_locking::conformance::Fixture;
use inventory_locking::order::{QUANTITY_MAX, STOCK_MAX, TTL_MS_MAX};
use inventory_locking::{
    Error, Grant, Inventory, Item, Key, Order, Reservation, ReservationId, Restock, Sku, State,
};
use service::Clock;

use crate::EPOCH_MS;
use crate::bug::Bug;

/// The fixture.
pub(crate) struct Naive {
    clock: Clock,
    bug: Option<Bug>,
}

impl Naive {
    pub(crate) fn with(bug: Option<Bug>) -> Self {
        Self { clock: Clock::manual(EPOCH_MS), bug }
    }
}

impl Fixture for Naive {
    type Inventory = NaiveInventory;

    async fn servers(&self, count: usize) -> Vec<NaiveInventory> {
        let inventory = NaiveInventory {
            clock: self.clock.clone(),
            bug: self.bug,
            shop: Arc::default(),
            locks: Arc::default(),
            asked: Arc::default(),
        };
        vec![inventory; count]
    }

    async fn advance_ms(&self, by_ms: u64) {
        self.clock.advance_ms(by_ms);
    }
}

#[derive(Clone)]
pub(crate) struct NaiveInventory {
    clock: Clock,
    bug: Option<Bug>,
    shop: Arc<Mutex<Shop>>,
    /// One lock per SKU, for the mistake of taking them in any order.
    locks: Arc<Mutex<HashMap<Sku, Arc<tokio::sync::Mutex<()>>>>>,
    asked: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Shop {
    items: HashMap<Sku, Stock>,
    reservations: HashMap<ReservationId, Reservation>,
    /// What each key has made; the request without a reservation is only ever there by mistake.
    keys: HashMap<Key, (Option<ReservationId>, Order)>,
    deliveries: HashMap<Key, (Sku, u64)>,
}

#[derive(Clone, Default)]
struct Stock {
    available: i64,
    held: i64,
    sold: i64,
    received: i64,
    version: u64,
}

impl NaiveInventory {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn shop(&self) -> MutexGuard<'_, Shop> {
        self.shop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shop with every overdue hold released.
    fn swept(&self) -> MutexGuard<'_, Shop> {
        let mut shop = self.shop();
        if !self.has(Bug::ExpiryWaitsForTheSweeper) {
            self.sweep(&mut shop, u64::MAX);
        }
        shop
    }

    fn overdue(&self, reservation: &Reservation) -> bool {
        match self.bug {
            Some(Bug::DeadlineBelongsToTheHold) => reservation.expires_at_ms < self.clock.now_ms(),
            _ => reservation.expires_at_ms <= self.clock.now_ms(),
        }
    }

    fn sweep(&self, shop: &mut Shop, limit: u64) -> u64 {
        let sweeps = |reservation: &&Reservation| {
            let sold = reservation.state == State::Confirmed && self.has(Bug::SweepsWhatIsSold);
            (reservation.state == State::Held || sold) && self.overdue(reservation)
        };
        let due: Vec<_> = shop.reservations.values().filter(sweeps).map(|r| r.id).collect();
        let due = &due[..due.len().min(usize::try_from(limit).unwrap_or(usize::MAX))];
        for &id in due {
            self.end(shop, id, State::Expired);
        }
        due.len() as u64
    }

    fn end(&self, shop: &mut Shop, id: ReservationId, state: State) {
        let reservation = shop.reservations.get_mut(&id).expect("it is there");
        reservation.state = state;
        let lines = reservation.order.lines.clone();
        for line in lines.iter() {
            let stock = shop.items.get_mut(&line.sku).expect("it is there");
            let mut quantity = line.quantity as i64;
            if state == State::Expired && self.has(Bug::ExpiryReturnsOneUnit) {
                quantity = 1;
            }
            match state {
                State::Confirmed => stock.sold += quantity,
                _ => stock.available += quantity,
            }
            if !(state == State::Confirmed && self.has(Bug::SellsWithoutReleasing)) {
                stock.held -= quantity;
            }
            self.bump(stock);
        }
    }

    fn bump(&self, stock: &mut Stock) {
        stock.version += u64::from(!self.has(Bug::VersionCountsEditsOnly));
    }

    /// Gives another thread the chance to come in between.
    async fn pause(&self) {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }

    fn found(&self, shop: &Shop, id: ReservationId) -> Result<Reservation, Error> {
        let found = shop.reservations.get(&id).cloned().ok_or(Error::UnknownReservation(id))?;
        let late = found.state == State::Held && self.overdue(&found);
        let state = if late { State::Expired } else { found.state };
        Ok(Reservation { state, ..found })
    }

    /// Confirm or cancel.
    async fn finish(&self, id: ReservationId, state: State) -> Result<Reservation, Error> {
        let seen = {
            // Whoever ignores the deadline must not meet a sweeper first.
            let ignores = self.has(Bug::ConfirmIgnoresTheDeadline) && state == State::Confirmed;
            let shop = if ignores { self.shop() } else { self.swept() };
            let mut seen = self.found(&shop, id)?;
            if ignores {
                seen.state = shop.reservations[&id].state;
            }
            self.may_end(&seen, state)?;
            seen
        };
        if seen.state == state && !self.ends_again(state) {
            return Ok(seen);
        }
        let mut shop = if self.has(Bug::ConfirmChecksThenWrites) {
            self.pause().await;
            self.shop()
        } else {
            // Looks again under the lock it writes under.
            let shop = self.shop();
            self.may_end(&shop.reservations[&id], state)?;
            shop
        };
        if shop.reservations[&id].state != state || self.ends_again(state) {
            self.end(&mut shop, id, state);
        }
        Ok(shop.reservations[&id].clone())
    }

    fn may_end(&self, seen: &Reservation, state: State) -> Result<(), Error> {
        let id = seen.id;
        match seen.state {
            State::Held => Ok(()),
            State::Expired => Err(Error::Expired(id)),
            ended if ended == state => Ok(()),
            State::Confirmed if self.has(Bug::CancelsWhatIsSold) => Ok(()),
            ended => Err(Error::Ended { id, state: ended }),
        }
    }

    fn ends_again(&self, state: State) -> bool {
        (state == State::Confirmed && self.has(Bug::ConfirmsTwice))
            || (state == State::Cancelled && self.has(Bug::CancelsTwice))
    }

    /// What the key has made, if this is a repeat.
    fn repeated(&self, shop: &Shop, order: &Order) -> Result<Option<Grant>, Error> {
        let Some(key) = order.key.as_ref().filter(|_| !self.has(Bug::IgnoresTheKey)) else {
            return Ok(None);
        };
        let Some((made, earlier)) = shop.keys.get(key) else { return Ok(None) };
        if earlier != order && !self.has(Bug::KeyWithoutItsRequest) {
            return Err(Error::KeyReused(key.clone()));
        }
        let Some(id) = made else {
            return Err(Error::Busy { what: "in flight".to_owned(), retry_after_ms: 1 });
        };
        let reservation = shop.reservations[id].clone();
        let reservation = match self.bug {
            Some(Bug::RepeatTellsTheStateOfNow) => reservation,
            _ => reservation.as_granted(),
        };
        Ok(Some(Grant { reservation, replayed: true }))
    }

    /// The first line that cannot be met.
    fn check(&self, shop: &Shop, order: &Order) -> Result<(), Error> {
        for line in order.lines.iter() {
            let stock = match shop.items.get(&line.sku) {
                Some(stock) => stock.clone(),
                None if self.has(Bug::CallsTheUnknownSoldOut) => Stock::default(),
                None => return Err(Error::UnknownSku(line.sku.clone())),
            };
            let keep = i64::from(self.has(Bug::KeepsTheLastUnit));
            if stock.available - keep < line.quantity as i64 {
                let (sku, requested) = (line.sku.clone(), line.quantity);
                return Err(Error::SoldOut { sku, requested, available: stock.available as u64 });
            }
        }
        Ok(())
    }

    fn take(&self, shop: &mut Shop, order: &Order) {
        for line in order.lines.iter() {
            let stock = shop.items.get_mut(&line.sku).expect("it was checked");
            stock.available -= line.quantity as i64;
            stock.held += line.quantity as i64;
            self.bump(stock);
        }
    }

    fn record(&self, shop: &mut Shop, order: Order) -> Grant {
        let now_ms = self.clock.now_ms();
        let reservation = Reservation {
            id: ReservationId::fresh(),
            state: State::Held,
            granted_at_ms: now_ms,
            expires_at_ms: now_ms + order.ttl_ms,
            order,
        };
        if let Some(key) = reservation.order.key.clone() {
            shop.keys.insert(key, (Some(reservation.id), reservation.order.clone()));
        }
        shop.reservations.insert(reservation.id, reservation.clone());
        Grant { reservation, replayed: false }
    }

    /// The right way: one lock from the first look to the last write.
    fn reserve_at_once(&self, order: Order) -> Result<Grant, Error> {
        let mut shop = self.swept();
        if let Some(repeat) = self.repeated(&shop, &order)? {
            return Ok(repeat);
        }
        self.check(&shop, &order)?;
        self.take(&mut shop, &order);
        Ok(self.record(&mut shop, order))
    }

    async fn reserve_read_then_write(&self, order: Order) -> Result<Grant, Error> {
        let read = {
            let shop = self.swept();
            if let Some(repeat) = self.repeated(&shop, &order)? {
                return Ok(repeat);
            }
            self.check(&shop, &order)?;
            shop.items.clone()
        };
        self.pause().await;
        let mut shop = self.shop();
        for line in order.lines.iter() {
            let seen = &read[&line.sku];
            let stock = shop.items.get_mut(&line.sku).expect("it was checked");
            stock.available = seen.available - line.quantity as i64;
            stock.held = seen.held + line.quantity as i64;
            self.bump(stock);
        }
        Ok(self.record(&mut shop, order))
    }

    fn reserve_line_by_line(&self, order: Order) -> Result<Grant, Error> {
        let mut shop = self.swept();
        for line in order.lines.iter() {
            let lines = inventory_locking::Lines::new([line.clone()])?;
            let one = Order { lines, ..order.clone() };
            self.check(&shop, &one)?;
            self.take(&mut shop, &one);
        }
        Ok(self.record(&mut shop, order))
    }

    fn reserve_then_check(&self, order: Order) -> Result<Grant, Error> {
        let mut shop = self.swept();
        let checked = self.check(&shop, &order);
        if !matches!(checked, Err(Error::UnknownSku(_))) {
            self.take(&mut shop, &order);
        }
        checked?;
        Ok(self.record(&mut shop, order))
    }

    async fn reserve_after_checking_the_key(&self, order: Order) -> Result<Grant, Error> {
        if let Some(repeat) = self.repeated(&self.swept(), &order)? {
            return Ok(repeat);
        }
        self.pause().await;
        let mut shop = self.swept();
        self.check(&shop, &order)?;
        self.take(&mut shop, &order);
        Ok(self.record(&mut shop, order))
    }

    fn reserve_after_taking_the_key(&self, order: Order) -> Result<Grant, Error> {
        let mut shop = self.swept();
        if let Some(repeat) = self.repeated(&shop, &order)? {
            return Ok(repeat);
        }
        if let Some(key) = order.key.clone() {
            shop.keys.insert(key, (None, order.clone()));
        }
        self.check(&shop, &order)?;
        self.take(&mut shop, &order);
        Ok(self.record(&mut shop, order))
    }

    async fn reserve_in_any_order(&self, order: Order) -> Result<Grant, Error> {
        let mut skus: Vec<Sku> = order.lines.iter().map(|line| line.sku.clone()).collect();
        if self.asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            skus.reverse();
        }
        let mut guards = Vec::new();
        for sku in skus {
            let lock = Arc::clone(
                self.locks
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(sku.clone())
                    .or_default(),
            );
            // A deadlock ends as it does in a database: after a while, with an error.
            let locked = tokio::time::timeout(LOCK_TIMEOUT, lock.lock_owned()).await;
            let what = format!("no lock on {sku} within {LOCK_TIMEOUT:?}");
            guards.push(locked.map_err(|_| Error::Unavailable { what, source: None })?);
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        self.reserve_at_once(order)
    }
}

/// Far longer than anybody holds a lock here.
const LOCK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

fn shown(sku: &Sku, stock: &Stock) -> Item {
    Item {
        sku: sku.clone(),
        on_hand: (stock.available + stock.held) as u64,
        available: stock.available as u64,
        held: stock.held as u64,
        sold: stock.sold as u64,
        version: stock.version,
    }
}

fn invalid(field: &str) -> Error {
    Error::Invalid { field: field.to_owned(), reason: "is out of range".to_owned() }
}

impl Inventory for NaiveInventory {
    async fn create(&self, sku: Sku, on_hand: u64) -> Result<Item, Error> {
        if on_hand > STOCK_MAX {
            return Err(invalid("on_hand"));
        }
        let mut shop = self.shop();
        if shop.items.contains_key(&sku) {
            return Err(Error::Exists(sku));
        }
        let received = on_hand as i64;
        let stock = Stock { available: received, received, version: 1, ..Stock::default() };
        let item = shown(&sku, &stock);
        shop.items.insert(sku, stock);
        Ok(item)
    }

    async fn item(&self, sku: &Sku) -> Result<Item, Error> {
        let shop = self.swept();
        let stock = shop.items.get(sku).ok_or_else(|| Error::UnknownSku(sku.clone()))?;
        Ok(shown(sku, stock))
    }

    async fn restock(&self, sku: &Sku, restock: Restock) -> Result<Item, Error> {
        let mut shop = self.swept();
        let Restock { key, quantity } = restock;
        let delivery = (sku.clone(), quantity);
        let earlier = key.as_ref().and_then(|key| shop.deliveries.get(key).cloned());
        let stock = shop.items.get_mut(sku).ok_or_else(|| Error::UnknownSku(sku.clone()))?;
        match (key, earlier) {
            (Some(key), Some(earlier)) if earlier != delivery => Err(Error::KeyReused(key)),
            (Some(_), Some(_)) if !self.has(Bug::RestocksTwice) => Ok(shown(sku, stock)),
            (key, _) => {
                if quantity == 0 || quantity > STOCK_MAX - (stock.available + stock.held) as u64 {
                    // The model names the field and the bound, so this does too.
                    return Err(restock_error(quantity));
                }
                stock.available += quantity as i64;
                stock.received += quantity as i64;
                self.bump(stock);
                let item = shown(sku, stock);
                if let Some(key) = key {
                    shop.deliveries.insert(key, delivery);
                }
                Ok(item)
            }
        }
    }

    async fn set_on_hand(
        &self,
        sku: &Sku,
        on_hand: u64,
        expected: Option<u64>,
    ) -> Result<Item, Error> {
        if on_hand > STOCK_MAX {
            return Err(invalid("on_hand"));
        }
        let check = |shop: &Shop| {
            let stock = shop.items.get(sku).ok_or_else(|| Error::UnknownSku(sku.clone()))?;
            let stale = expected.is_some_and(|expected| expected != stock.version);
            if stale && !self.has(Bug::EditsBlindly) {
                return Err(Error::Conflict { sku: sku.clone(), current: stock.version });
            }
            Ok(())
        };
        let mut shop = if self.has(Bug::EditChecksThenWrites) {
            check(&self.swept())?;
            self.pause().await;
            self.shop()
        } else {
            let shop = self.swept();
            check(&shop)?;
            shop
        };
        let stock = shop.items.get_mut(sku).expect("it was checked");
        let held = stock.held;
        if (on_hand as i64) < held && !self.has(Bug::CountTakesWhatIsPromised) {
            return Err(Error::BelowHeld { sku: sku.clone(), held: held as u64 });
        }
        let available = (on_hand as i64 - held).max(0);
        stock.received += available - stock.available;
        stock.available = available;
        stock.version += 1;
        Ok(shown(sku, stock))
    }

    async fn reserve(&self, order: Order) -> Result<Grant, Error> {
        debug_assert!(order.lines.iter().all(|line| (1..=QUANTITY_MAX).contains(&line.quantity)));
        match self.bug {
            Some(Bug::ReadsThenWrites) => self.reserve_read_then_write(order).await,
            Some(Bug::TakesLinesUntilOneFails) => self.reserve_line_by_line(order),
            Some(Bug::TakesBeforeItChecks) => self.reserve_then_check(order),
            Some(Bug::ChecksTheKeyThenReserves) => self.reserve_after_checking_the_key(order).await,
            Some(Bug::RemembersTheKeyBeforeTheEffect) => self.reserve_after_taking_the_key(order),
            Some(Bug::LocksInAnyOrder) => self.reserve_in_any_order(order).await,
            _ => self.reserve_at_once(order),
        }
    }

    async fn reservation(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.found(&self.shop(), id)
    }

    async fn confirm(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.finish(id, State::Confirmed).await
    }

    async fn cancel(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.finish(id, State::Cancelled).await
    }

    async fn extend(&self, id: ReservationId, ttl_ms: u64) -> Result<Reservation, Error> {
        if !(1..=TTL_MS_MAX).contains(&ttl_ms) {
            return Err(Error::Invalid {
                field: "ttl_ms".to_owned(),
                reason: format!("must be 1 to {TTL_MS_MAX}"),
            });
        }
        let mut shop = if self.has(Bug::ExtendRevives) { self.shop() } else { self.swept() };
        let seen = self.found(&shop, id)?;
        match seen.state {
            State::Held => {}
            State::Expired
                if self.has(Bug::ExtendRevives) && shop.reservations[&id].state == State::Held => {}
            State::Expired => return Err(Error::Expired(id)),
            state => return Err(Error::Ended { id, state }),
        }
        let now_ms = self.clock.now_ms();
        let reservation = shop.reservations.get_mut(&id).expect("it was found");
        reservation.expires_at_ms = match self.bug {
            Some(Bug::ExtendAddsToTheOldDeadline) => reservation.expires_at_ms + ttl_ms,
            _ => now_ms + ttl_ms,
        };
        Ok(reservation.clone())
    }

    async fn expire_due(&self, limit: u32) -> Result<u64, Error> {
        Ok(self.sweep(&mut self.shop(), u64::from(limit)))
    }

    async fn audit(&self) -> Result<Audit, Error> {
        let shop = self.shop();
        let mut totals: HashMap<Sku, Totals> = HashMap::new();
        for (sku, stock) in &shop.items {
            let &Stock { available, held, sold, received, .. } = stock;
            let totals = totals.entry(sku.clone()).or_default();
            *totals = Totals { available, held, sold, received, ..Totals::default() };
        }
        for reservation in shop.reservations.values() {
            for line in reservation.order.lines.iter() {
                let totals = totals.entry(line.sku.clone()).or_default();
                match reservation.state {
                    State::Held => totals.held_by_reservations += line.quantity as i64,
                    State::Confirmed => totals.sold_by_reservations += line.quantity as i64,
                    State::Cancelled | State::Expired => {}
                }
            }
        }
        let overdue = |r: &&Reservation| r.state == State::Held && self.overdue(r);
        Ok(judge(totals, shop.reservations.values().filter(overdue).count() as u64))
    }
}

fn restock_error(quantity: u64) -> Error {
    let reason = match quantity {
        0 => "must be at least 1".to_owned(),
        _ => format!("would make the stock exceed {STOCK_MAX}"),
    };
    Error::Invalid { field: "quantity".to_owned(), reason }
}
