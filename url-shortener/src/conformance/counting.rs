//! The promises about clicks, counters, secrets and keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use testkit::conformance::{Broken, Verdict};
use testkit::ensure;

use super::{Fixture, created, only, terms, unexpected};
use crate::clicks::{ClickBatch, ClickLog, Day, DayTally, Tallies};
use crate::codes::Sequences;
use crate::keys::{KeyRecord, Keys};
use crate::link::{LinkId, Links};

fn tally(clicks: u64, visitors: std::ops::Range<u64>) -> DayTally {
    let mut tally =
        DayTally { clicks, bots: 1, browsers: [clicks, 0, 0, 0, 0], ..DayTally::default() };
    tally.add_referrer("news.example", clicks);
    // Spread over the whole range, as a hash would be.
    visitors.for_each(|visitor| tally.visitors.insert(visitor.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    tally
}

fn batch(writer: &str, number: u64, rows: &[(LinkId, Day, DayTally)]) -> Arc<ClickBatch> {
    let rows: Tallies = rows.iter().map(|(link, day, row)| ((*link, *day), row.clone())).collect();
    Arc::new(ClickBatch { writer: writer.to_owned(), number, rows })
}

pub(super) async fn a_batch_of_clicks_counts_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = only(&*fixture).await;
    let (one, two) =
        (created(&*store, terms("one")).await?.id, created(&*store, terms("two")).await?.id);
    let first = batch("w", 1, &[(one, Day(7), tally(5, 0..3)), (two, Day(7), tally(1, 0..1))]);
    let second = batch("w", 2, &[(one, Day(8), tally(2, 0..2))]);
    let other = batch("another", 1, &[(one, Day(7), tally(10, 0..9))]);
    // The answer of a commit got lost, so it is repeated; and one comes again much later.
    for batch in [&first, &first, &second, &other, &second, &first, &other] {
        store.add_clicks(Arc::clone(batch)).await.map_err(unexpected("add_clicks"))?;
        // Folding, wherever it happens, must not count anything twice either.
        store.housekeep(0).await.map_err(unexpected("housekeep"))?;
    }
    for (link, expected) in [(one, vec![(7, 15, 2), (8, 2, 1)]), (two, vec![(7, 1, 1)])] {
        let days = store.clicks(link).await.map_err(unexpected("clicks"))?;
        let found: Vec<_> = days.iter().map(|(day, row)| (day.0, row.clicks, row.bots)).collect();
        ensure!(found == expected, "day, clicks and bots should be {expected:?}, not {found:?}");
        let hosts: u64 = days.iter().flat_map(|(_, row)| row.referrers.values()).sum();
        let clicks: u64 = expected.iter().map(|(_, clicks, _)| clicks).sum();
        ensure!(hosts == clicks, "{clicks} came from news.example, {hosts} are stored");
    }
    Ok(())
}

pub(super) async fn visitors_of_several_batches_are_merged<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = only(&*fixture).await;
    let link = created(&*store, terms("seen")).await?.id;
    let mut expected = tally(0, 0..0);
    for (number, visitors) in [(1, 0..3_000), (2, 2_000..9_000), (3, 5..6)] {
        let row = tally(1, visitors);
        expected.merge(&row);
        let rows = [(link, Day(1), row)];
        store.add_clicks(batch("w", number, &rows)).await.map_err(unexpected("add_clicks"))?;
        store.housekeep(0).await.map_err(unexpected("housekeep"))?;
    }
    let days = store.clicks(link).await.map_err(unexpected("clicks"))?;
    ensure!(days.len() == 1, "one day had clicks, {} are stored", days.len());
    let (found, right) = (days[0].1.visitors.estimate(), expected.visitors.estimate());
    ensure!(
        days[0].1.visitors == expected.visitors,
        "9,000 visitors (a sketch of all says {right}) are stored as {found}"
    );
    Ok(())
}

pub(super) async fn leased_numbers_are_nobody_elses<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = fixture.servers(4).await;
    let leases: Vec<_> = (0..32)
        .map(|lease| {
            let server = Arc::clone(&servers[lease % servers.len()]);
            let sequence = if lease < 24 { "a" } else { "b" };
            tokio::spawn(async move { (sequence, server.lease(sequence, 10).await) })
        })
        .collect();
    let mut numbers = BTreeSet::new();
    for lease in leases {
        let (sequence, lease) = lease.await.map_err(|error| Broken::because(error.to_string()))?;
        let lease = lease.map_err(unexpected("lease"))?;
        ensure!(lease.end - lease.start == 10, "10 numbers were asked for, {lease:?} came");
        for number in lease {
            ensure!(numbers.insert((sequence, number)), "{number} of {sequence} was leased twice");
        }
    }
    let b = numbers.range(("b", 0)..).count();
    ensure!(b == 80, "the sequences are not apart: {b} numbers of b");
    Ok(())
}

pub(super) async fn the_secret_stays<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let servers = fixture.servers(4).await;
    let asked =
        servers.iter().cloned().map(|server| tokio::spawn(async move { server.secret().await }));
    let mut secrets = BTreeSet::new();
    for answer in asked.collect::<Vec<_>>() {
        let answer = answer.await.map_err(|error| Broken::because(error.to_string()))?;
        secrets.insert(answer.map_err(unexpected("secret"))?);
    }
    secrets.insert(servers[0].secret().await.map_err(unexpected("secret"))?);
    ensure!(secrets.len() == 1, "{} different secrets were told", secrets.len());
    ensure!(!secrets.contains(&[0; 32]), "the secret is nothing but zeros");
    Ok(())
}

pub(super) async fn keys_come_and_go<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = only(&*fixture).await;
    let key = |id: &str| KeyRecord {
        id: id.to_owned(),
        name: format!("name of {id}"),
        hash: [id.len() as u8; 32],
        created_at_ms: 5,
    };
    for id in ["b", "aa"] {
        store.add_key(key(id)).await.map_err(unexpected("add_key"))?;
    }
    let keys = store.keys().await.map_err(unexpected("keys"))?;
    ensure!(keys == [key("aa"), key("b")], "aa and b were added, {keys:?} are there");
    let revoked = store.revoke_key("aa").await.map_err(unexpected("revoke_key"))?;
    let again = store.revoke_key("aa").await.map_err(unexpected("revoke_key"))?;
    ensure!(revoked && !again, "revoking said {revoked}, and the second time {again}");
    let keys = store.keys().await.map_err(unexpected("keys"))?;
    ensure!(keys == [key("b")], "aa was revoked, {keys:?} are there");
    Ok(())
}
