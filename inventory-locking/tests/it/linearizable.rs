//! Whole histories: is what many buyers were told explained by some order of one buyer at a time?
//!
//! Counting units catches what was sold twice. This catches more: a "sold out" at a moment when
//! there was stock, an item that shows what was never there, an answer that comes too early.

use std::sync::Arc;

use inventory_locking::answer::memory::Memory;
use inventory_locking::answer::postgres::{Postgres, SCHEMA, Settings, Strategy};
use inventory_locking::answer::sqlite::{self, Sqlite};
use inventory_locking::{Error, Inventory, Line, Lines, Order, Sku};
use service::Clock;
use testkit::history::{History, Recorder};
use testkit::linearizable::{Judgement, Model, check};
use testkit::seed::Seed;
use tokio::task::JoinSet;

const STOCK: u64 = 4;

#[derive(Clone, Debug)]
enum Op {
    Reserve(u64),
    GiveBack(u64),
    Look,
}

#[derive(Clone, Debug)]
enum Ret {
    Done,
    SoldOut,
    Available(u64),
}

/// One SKU, one at a time.
struct Shelf;

impl Model for Shelf {
    type Op = Op;
    type Ret = Ret;
    type State = u64;

    fn initial(&self) -> u64 {
        STOCK
    }

    fn step(&self, available: &u64, op: &Op, ret: Option<&Ret>) -> Option<u64> {
        match (op, ret) {
            (Op::Reserve(quantity), Some(Ret::Done)) => available.checked_sub(*quantity),
            (Op::Reserve(quantity), Some(Ret::SoldOut)) => {
                (available < quantity).then_some(*available)
            }
            (Op::Reserve(quantity), None) => {
                Some(available.checked_sub(*quantity).unwrap_or(*available))
            }
            (Op::GiveBack(quantity), Some(Ret::Done) | None) => Some(available + quantity),
            (Op::Look, Some(Ret::Available(seen))) => (seen == available).then_some(*available),
            (Op::Look, None) => Some(*available),
            _ => None,
        }
    }
}

fn sku() -> Sku {
    Sku::new("hot", "sku").unwrap()
}

/// A few buyers who reserve, give back and look, all at once.
async fn history<I: Inventory>(inventory: Arc<I>, seed: &Seed) -> History<Op, Ret> {
    inventory.create(sku(), STOCK).await.unwrap();
    let recorder = Arc::new(Recorder::new());
    let mut buyers = JoinSet::new();
    for buyer in 0..5 {
        let (inventory, recorder) = (Arc::clone(&inventory), Arc::clone(&recorder));
        let mut rng = seed.rng_for(buyer);
        buyers.spawn(async move {
            for _ in 0..6 {
                if rng.u8(0..4) == 0 {
                    let pending = recorder.invoke(buyer, Op::Look);
                    match inventory.item(&sku()).await {
                        Ok(item) => pending.ok(Ret::Available(item.available)),
                        Err(error) => pending.info(error),
                    }
                    continue;
                }
                let quantity = rng.u64(1..3);
                let lines = Lines::new([Line { sku: sku(), quantity }]).unwrap();
                let order = Order::new(None, lines, 600_000).unwrap();
                let pending = recorder.invoke(buyer, Op::Reserve(quantity));
                let held = match inventory.reserve(order).await {
                    Ok(grant) => {
                        pending.ok(Ret::Done);
                        grant.reservation.id
                    }
                    Err(Error::SoldOut { .. }) => {
                        pending.ok(Ret::SoldOut);
                        continue;
                    }
                    Err(Error::Busy { what, .. }) => {
                        pending.fail(what);
                        continue;
                    }
                    Err(error) => {
                        pending.info(error);
                        continue;
                    }
                };
                let pending = recorder.invoke(buyer, Op::GiveBack(quantity));
                match inventory.cancel(held).await {
                    Ok(_) => pending.ok(Ret::Done),
                    Err(error) => pending.info(error),
                }
            }
        });
    }
    while let Some(buyer) = buyers.join_next().await {
        buyer.unwrap();
    }
    recorder.history()
}

async fn must_be_linearizable<I: Inventory>(name: &str, inventory: I, seed: &Seed) {
    let history = history(Arc::new(inventory), seed).await;
    let judgement = check(&Shelf, &history);
    assert_eq!(judgement, Judgement::Valid, "{name}: {history:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_buyers_are_told_is_explained_by_one_buyer_at_a_time() {
    let seed = Seed::from_env_or_fresh();
    let directory = tempfile::tempdir().unwrap();
    must_be_linearizable("memory", Memory::new(Clock::system()), &seed).await;
    for (name, strategy) in sqlite::Strategy::ALL {
        let path = directory.path().join(name);
        let inventory = Sqlite::open(&path, strategy, Clock::system()).unwrap();
        must_be_linearizable(name, inventory, &seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_buyers_are_told_by_postgres_is_explained_by_one_buyer_at_a_time() {
    let seed = Seed::from_env_or_fresh();
    let server = infra::postgres().await.expect("a Postgres to test against");
    for (name, strategy) in Strategy::ALL.into_iter().filter(|(name, _)| *name != "naive") {
        let database = server.database("inventory_history", SCHEMA).await.unwrap();
        let settings = Settings { connections: 6, per_sku: 6 };
        let inventory = Postgres::connect(database.url(), strategy, settings).await.unwrap();
        must_be_linearizable(name, inventory, &seed).await;
    }
}

/// The checker can say no: histories that no order explains, and ones that some order does.
#[test]
fn the_checker_tells_a_good_history_from_a_bad_one() {
    let told = |events: &[(Op, Ret)]| {
        let recorder = Recorder::new();
        for (op, ret) in events {
            recorder.invoke(1, op.clone()).ok(ret.clone());
        }
        check(&Shelf, &recorder.history())
    };
    let good =
        [(Op::Reserve(4), Ret::Done), (Op::Reserve(1), Ret::SoldOut), (Op::GiveBack(4), Ret::Done)];
    assert_eq!(told(&good), Judgement::Valid);
    let oversold = [(Op::Reserve(3), Ret::Done), (Op::Reserve(2), Ret::Done)];
    assert!(matches!(told(&oversold), Judgement::Invalid(_)));
    let false_sold_out = [(Op::Reserve(3), Ret::Done), (Op::Reserve(1), Ret::SoldOut)];
    assert!(matches!(told(&false_sold_out), Judgement::Invalid(_)));
    let stale = [(Op::Reserve(3), Ret::Done), (Op::Look, Ret::Available(4))];
    assert!(matches!(told(&stale), Judgement::Invalid(_)));

    // At the same time, either may have come first.
    let recorder = Recorder::new();
    let first = recorder.invoke(1, Op::Reserve(3));
    let look = recorder.invoke(2, Op::Look);
    look.ok(Ret::Available(4));
    first.ok(Ret::Done);
    assert_eq!(check(&Shelf, &recorder.history()), Judgement::Valid);
}
