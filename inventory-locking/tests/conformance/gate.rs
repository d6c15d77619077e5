//! SQL behind a gate: the right one over two databases, and wrong ones, each with one line of one
//! script changed.

use inventory_locking::answer::gated::Gated;
use inventory_locking::answer::gated::gate::{Gate, Scripts, Settings};
use inventory_locking::conformance::{Fixture, GateFixture, promises, promises_of_gates};
use testkit::{Promise, Suite};
use tokio::sync::OnceCell;

use super::{EPOCH_MS, PostgresFixture, SqliteFixture, postgres, sqlite};
use service::Clock;

/// One Redis for the whole run; every fixture has a prefix of its own.
static REDIS: OnceCell<infra::Redis> = OnceCell::const_new();

async fn redis() -> &'static infra::Redis {
    let start = || async { infra::redis().await.expect("a Redis to test against") };
    REDIS.get_or_init(start).await
}

pub(super) struct Behind<T> {
    truth: T,
    settings: Settings,
}

impl<T> Behind<T> {
    async fn new(truth: T, scripts: Scripts) -> Self {
        redis().await;
        let prefix = format!("{{{}}}", fastrand::u64(..));
        let clock = Some(Clock::manual(EPOCH_MS));
        Self { truth, settings: Settings { prefix, clock, scripts, ..Settings::default() } }
    }
}

impl<T: Fixture> Fixture for Behind<T>
where
    T::Inventory: inventory_locking::answer::gated::Truth,
{
    type Inventory = Gated<T::Inventory>;

    async fn servers(&self, count: usize) -> Vec<Self::Inventory> {
        let url = redis().await.url();
        let gated = |truth| {
            let gate = Gate::connect(url, self.settings.clone()).expect("a URL from infra");
            Gated::new(truth, gate)
        };
        self.truth.servers(count).await.into_iter().map(gated).collect()
    }

    async fn advance_ms(&self, by_ms: u64) {
        self.truth.advance_ms(by_ms).await;
        self.settings.clock.as_ref().expect("the suite's clock").advance_ms(by_ms);
    }
}

impl<T: Fixture> GateFixture for Behind<T>
where
    T::Inventory: inventory_locking::answer::gated::Truth,
{
    type Truth = T::Inventory;

    async fn lose_gate(&self) {
        let client = redis::Client::open(redis().await.url()).expect("a URL from infra");
        let mut connection =
            client.get_multiplexed_async_connection().await.expect("the suite's Redis");
        let all = "for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
                       redis.call('DEL', key)
                   end";
        let script = redis::Script::new(all);
        let lost = script.arg(&self.settings.prefix).invoke_async::<()>(&mut connection).await;
        lost.expect("everything was deleted");
    }
}

/// Everything an inventory promises, and what a gate adds.
fn all<F: GateFixture>() -> Vec<Promise<F>> {
    [promises(), promises_of_gates()].concat()
}

async fn sqlite(scripts: Scripts) -> Behind<SqliteFixture> {
    Behind::new(SqliteFixture::new(sqlite::Strategy::Batching), scripts).await
}

async fn postgres(scripts: Scripts) -> Behind<PostgresFixture> {
    Behind::new(PostgresFixture::new(postgres::Strategy::Conditional).await, scripts).await
}

pub(super) fn register(suite: &mut Suite) {
    suite.answer("gated-sqlite", all, || sqlite(Scripts::default()));
    suite.answer("gated-postgres", promises_of_gates, || postgres(Scripts::default()));
    for (name, caught_by, edit) in WRONG {
        let make = move || async move {
            let mut scripts = Scripts::default();
            edit(&mut scripts);
            sqlite(scripts).await
        };
        suite.wrong(&format!("gate_{name}"), caught_by, all, make);
    }
}

fn replace(script: &mut String, right: &str, wrong: &str) {
    assert!(script.contains(right), "the script has changed: {right}");
    *script = script.replace(right, wrong);
}

/// A name, the promise that must catch it, and the mistake.
type Wrong = (&'static str, &'static str, fn(&mut Scripts));

/// What `ask.lua` does about a line it knows nothing about.
const UNKNOWN: &str = "certain = certain and known";

const WRONG: [Wrong; 12] = [
    ("shut_until_told_otherwise", "the_last_unit_sells_and_not_one_more", |scripts| {
        replace(
            &mut scripts.ask,
            UNKNOWN,
            "if not known then entry = {'0', '0', '', run_id()} end",
        );
    }),
    ("keeps_the_last_unit", "what_was_refused_once_is_refused_at_the_gate", |scripts| {
        replace(&mut scripts.ask, "tonumber(entry[1]) <", "tonumber(entry[1]) <=");
    }),
    ("forgets_repeats", "a_repeat_is_answered_though_nothing_is_left", |scripts| {
        replace(&mut scripts.ask, "not keyed or now - since >= memory_ms", "true");
        replace(&mut scripts.ask, "keyed and redis.call('EXISTS', KEYS[2]) == 1", "false");
    }),
    ("trusts_a_young_memory", "a_repeat_is_answered_though_nothing_is_left", |scripts| {
        replace(&mut scripts.ask, "not keyed or now - since >= memory_ms", "true");
    }),
    ("looks_past_the_first_line", "the_first_short_line_is_named", |scripts| {
        replace(
            &mut scripts.ask,
            UNKNOWN,
            "if not known then entry = {'1000000', '0', '', ''} end",
        );
    }),
    ("does_not_count", "what_was_refused_once_is_refused_at_the_gate", |scripts| {
        replace(&mut scripts.granted, "'left', -quantity", "'left', 0");
    }),
    ("counts_twice", "a_grant_the_look_has_seen_is_counted_once", |scripts| {
        replace(&mut scripts.granted, "look ~= '' and entry[1] == look", "entry[1]");
    }),
    ("forgets_the_deadline_of_a_grant", "a_hold_that_runs_out_reopens_the_gate", |scripts| {
        replace(&mut scripts.granted, "tonumber(ARGV[2]) < tonumber(entry[2])", "false");
    }),
    ("stays_shut_on_a_return", "what_is_given_back_is_sold_again", |scripts| {
        replace(&mut scripts.raise, "redis.call('DEL', KEYS[at])", "");
    }),
    ("learns_what_is_over", "a_look_that_overlaps_a_return_is_not_learnt", |scripts| {
        replace(&mut scripts.learn, "overtaken or", "");
    }),
    ("looks_during_a_return", "a_look_that_overlaps_a_return_is_not_learnt", |scripts| {
        replace(&mut scripts.look, "> 0 then return nil", "> 99 then return nil");
    }),
    ("believes_for_ever", "a_return_behind_the_gates_back_is_found", |scripts| {
        replace(&mut scripts.learn, "whole(began + ARGV[5])", "whole(began + 86400000)");
    }),
];
