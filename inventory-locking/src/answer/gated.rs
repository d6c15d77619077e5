//! Gated: a Redis in front of the database, which turns away those who come too late.
//!
//! The gate never grants anything. It knows, for SKUs that somebody has been refused, how much
//! SQL can have at most, and refuses what is certain to be refused; everybody else goes on to SQL,
//! which is the truth. So a lost gate, a restarted Redis and a server that dies between the two
//! cost nothing but questions ([`gate`]).
//! Boundary: that of the answer behind it; no call to Redis is made inside a transaction.
//! Blocks: nobody. Fails: open.
//!
//! Trap: the other way round, to take a unit in Redis and to write it into SQL afterwards, makes
//! two truths: a Redis that comes back empty or from a replica that lagged sells everything again.

pub mod gate;

use std::future::Future;

use self::gate::{Asked, FRESH_MS, Gate};
use crate::audit::Audit;
use crate::inventory::{Error, Grant, Inventory, Item, Reservation};
use crate::order::{Order, ReservationId, Restock, Sku};

/// What the gate must be able to see of the answer behind it.
pub trait Truth: Inventory {
    /// What is available now, in one snapshot with the deadline of the next hold to run out, if
    /// that is within `within_ms`.
    ///
    /// # Errors
    /// [`Error::UnknownSku`].
    fn stand(&self, sku: &Sku, within_ms: u64)
    -> impl Future<Output = Result<Stand, Error>> + Send;

    /// What the key of this order has made.
    ///
    /// # Errors
    /// [`Error::KeyReused`].
    fn made_before(
        &self,
        order: &Order,
    ) -> impl Future<Output = Result<Option<Grant>, Error>> + Send;
}

/// How a SKU stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Free to be reserved.
    pub available: u64,
    /// No hold runs out, and so nothing comes back by itself, for this long.
    pub certain_ms: u64,
}

/// An entry of the gate that was not what SQL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Which.
    pub sku: Sku,
    /// What the gate believed. More than there is costs questions, less turns buyers away.
    pub believed: u64,
    /// What there is.
    pub available: u64,
}

/// An answer behind a gate; clones share both.
#[derive(Clone)]
pub struct Gated<T> {
    truth: T,
    gate: Gate,
}

impl<T: Truth> Gated<T> {
    /// Puts `gate` in front of `truth`.
    pub fn new(truth: T, gate: Gate) -> Self {
        Self { truth, gate }
    }

    /// The answer behind the gate.
    pub fn truth(&self) -> &T {
        &self.truth
    }

    /// The gate.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Compares every entry of the gate with SQL and puts it right; what was wrong. A grant that
    /// is being counted at this moment may show as a drift of its size. Part of every audit; it
    /// needs no timer of its own, because an entry that nobody confirms is gone after [`FRESH_MS`].
    ///
    /// Costs a walk over the gate's Redis and a look at SQL for each entry.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when SQL does not answer.
    pub async fn reconcile(&self) -> Result<Vec<Drift>, Error> {
        let mut drifts = Vec::new();
        for sku in self.gate.known().await {
            if let Some((Some(believed), available)) = self.learn(&sku, true).await?
                && believed != available
            {
                metrics::counter!("inventory_gate_drifts_total").increment(1);
                tracing::warn!(%sku, believed, available, "the gate had drifted");
                drifts.push(Drift { sku, believed, available });
            }
        }
        Ok(drifts)
    }

    /// Looks at SQL; what the gate believed before, and what there is. `None` if nothing could be
    /// learnt.
    async fn learn(&self, sku: &Sku, again: bool) -> Result<Option<(Option<u64>, u64)>, Error> {
        let Some(look) = self.gate.look(sku, again).await else { return Ok(None) };
        let stand = self.truth.stand(sku, FRESH_MS).await?;
        let learnt = self.gate.learn(look, sku, stand.available, stand.certain_ms).await;
        Ok(learnt.map(|believed| (believed, stand.available)))
    }

    /// Runs what may bring stock back, announced before and after.
    async fn raising<R>(
        &self,
        skus: Vec<Sku>,
        work: impl Future<Output = Result<R, Error>>,
    ) -> Result<R, Error> {
        let raise = self.gate.raise(skus).await;
        let result = work.await;
        // After a lost COMMIT the stock may still come back: the announcement stays.
        let open_ended = matches!(result, Err(Error::Unavailable { .. }));
        if let Some(raise) = raise.filter(|_| !open_ended) {
            self.gate.raised(raise).await;
        }
        result
    }

    /// The SKUs of a reservation.
    async fn skus_of(&self, id: ReservationId) -> Result<Vec<Sku>, Error> {
        let reservation = self.truth.reservation(id).await?;
        Ok(reservation.order.lines.iter().map(|line| line.sku.clone()).collect())
    }
}

impl<T: Truth> Inventory for Gated<T> {
    async fn create(&self, sku: Sku, on_hand: u64) -> Result<Item, Error> {
        self.truth.create(sku, on_hand).await
    }

    async fn item(&self, sku: &Sku) -> Result<Item, Error> {
        self.truth.item(sku).await
    }

    async fn restock(&self, sku: &Sku, restock: Restock) -> Result<Item, Error> {
        self.raising(vec![sku.clone()], self.truth.restock(sku, restock)).await
    }

    async fn set_on_hand(
        &self,
        sku: &Sku,
        on_hand: u64,
        expected: Option<u64>,
    ) -> Result<Item, Error> {
        let work = self.truth.set_on_hand(sku, on_hand, expected);
        self.raising(vec![sku.clone()], work).await
    }

    async fn reserve(&self, order: Order) -> Result<Grant, Error> {
        let ticket = match self.gate.ask(&order).await {
            Asked::Pass(ticket) => ticket,
            Asked::Short { line, left, perhaps_a_repeat } => {
                if perhaps_a_repeat && let Some(grant) = self.truth.made_before(&order).await? {
                    self.gate.remember(&order).await;
                    return Ok(grant);
                }
                metrics::counter!("inventory_gate_refusals_total").increment(1);
                let line = &order.lines[line];
                let (sku, requested) = (line.sku.clone(), line.quantity);
                return Err(Error::SoldOut { sku, requested, available: left });
            }
        };
        let result = self.truth.reserve(order.clone()).await;
        match &result {
            Ok(grant) if !grant.replayed => self.gate.granted(&ticket, &order).await,
            // The next one who wants it need not ask SQL. That this one was refused is true
            // whether or not the gate learns it.
            Err(Error::SoldOut { sku, .. }) => drop(self.learn(sku, false).await),
            _ => {}
        }
        result
    }

    async fn reservation(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.truth.reservation(id).await
    }

    async fn confirm(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.truth.confirm(id).await // held or sold, nobody else can have it
    }

    async fn cancel(&self, id: ReservationId) -> Result<Reservation, Error> {
        self.raising(self.skus_of(id).await?, self.truth.cancel(id)).await
    }

    async fn extend(&self, id: ReservationId, ttl_ms: u64) -> Result<Reservation, Error> {
        // Checked first: an extension may shorten a hold, and then its stock is back earlier.
        crate::order::check_ttl(ttl_ms)?;
        self.raising(self.skus_of(id).await?, self.truth.extend(id, ttl_ms)).await
    }

    async fn expire_due(&self, limit: u32) -> Result<u64, Error> {
        self.truth.expire_due(limit).await // nothing is certain beyond a deadline
    }

    /// The audit of the truth, after the gate was compared with it and put right.
    async fn audit(&self) -> Result<Audit, Error> {
        let gate_drifts = self.reconcile().await?.len() as u64;
        Ok(Audit { gate_drifts, ..self.truth.audit().await? })
    }
}
