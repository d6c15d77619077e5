//! How far everybody is.

use std::sync::Arc;

use testkit::conformance::Verdict;
use testkit::ensure;

use super::scene::{Scene, device, text_of, user};
use super::{Fixture, failed};
use crate::chat::{Error, Store};
use crate::ids::Seq;

pub(super) async fn cursors_only_grow<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    scene.say_many("ann", conversation, 10).await?;
    for (seq, expected, changed) in
        [(4, 4, true), (2, 4, false), (4, 4, false), (9, 9, true), (0, 9, false)]
    {
        let moved = scene.ack("bob", "phone", conversation, seq).await.map_err(failed)?;
        ensure!(moved.receipt.delivered == Seq(expected), "acknowledged {seq}: {moved:?}");
        ensure!(moved.changed == changed, "acknowledged {seq}: changed is {}", moved.changed);
        let listed = scene.summaries("bob", "phone").await?;
        ensure!(listed[0].delivered_seq == Seq(expected), "acknowledged {seq}: {listed:?}");
    }
    for (seq, expected) in [(5, 5), (3, 5), (8, 8), (1, 8)] {
        let moved = scene.store.read(user("bob"), conversation, Seq(seq)).await.map_err(failed)?;
        ensure!(moved.receipt.read == Seq(expected), "read {seq}: {moved:?}");
        ensure!(moved.receipt.delivered == Seq(9), "reading {seq} moved delivery: {moved:?}");
    }
    Ok(())
}

pub(super) async fn a_cursor_cannot_pass_the_log<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    scene.say_many("ann", conversation, 3).await?;
    for seq in [4, u64::MAX >> 11] {
        let acked = scene.ack("bob", "phone", conversation, seq).await;
        ensure!(
            matches!(acked, Err(Error::Invalid { field: "seq", .. })),
            "acknowledged {seq} of 3: {acked:?}"
        );
        let read = scene.store.read(user("bob"), conversation, Seq(seq)).await;
        ensure!(
            matches!(read, Err(Error::Invalid { field: "seq", .. })),
            "read {seq} of 3: {read:?}"
        );
    }
    let listed = scene.summaries("bob", "phone").await?;
    ensure!((listed[0].delivered_seq, listed[0].read_seq) == (Seq(0), Seq(0)), "moved: {listed:?}");
    Ok(())
}

pub(super) async fn devices_have_cursors_of_their_own<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    scene.say_many("ann", conversation, 10).await?;
    scene.ack("bob", "phone", conversation, 7).await.map_err(failed)?;
    let late = scene.ack("bob", "laptop", conversation, 3).await.map_err(failed)?;
    ensure!(
        late.receipt.delivered == Seq(7) && !late.changed,
        "the slower device moved the user: {late:?}"
    );
    for (name, expected) in [("phone", 7), ("laptop", 3), ("new", 0)] {
        let listed = scene.summaries("bob", name).await?;
        ensure!(
            listed[0].delivered_seq == Seq(expected),
            "the {name} has {}",
            listed[0].delivered_seq
        );
    }
    Ok(())
}

pub(super) async fn what_is_read_is_delivered<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    scene.say_many("ann", conversation, 5).await?;
    scene.store.read(user("bob"), conversation, Seq(4)).await.map_err(failed)?;
    let receipts = scene.store.receipts(user("ann"), conversation).await.map_err(failed)?;
    let told: Vec<_> =
        receipts.iter().map(|r| (r.user.as_str(), r.delivered.0, r.read.0)).collect();
    ensure!(told == [("ann", 0, 0), ("bob", 4, 4)], "the receipts are {told:?}");
    Ok(())
}

pub(super) async fn unread_is_what_others_wrote_after_the_read_cursor<F: Fixture>(
    fixture: Arc<F>,
) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    let script = ["ann", "bob", "ann", "ann", "bob", "ann", "bob", "bob", "ann"];
    for (index, sender) in script.iter().enumerate() {
        scene.say(sender, conversation, "hi").await?;
        let unread = scene.summaries("bob", "phone").await?[0].unread;
        let expected = script[..=index].iter().filter(|sender| **sender == "ann").count() as u64;
        ensure!(
            unread == expected,
            "after {} messages {unread} are unread, not {expected}",
            index + 1
        );
    }
    for read in [2, 4, 1, 5, 8, 9] {
        let moved = scene.store.read(user("bob"), conversation, Seq(read)).await.map_err(failed)?;
        let cursor = moved.receipt.read.0 as usize;
        let unread = scene.summaries("bob", "phone").await?[0].unread;
        let expected = script[cursor..].iter().filter(|sender| **sender == "ann").count() as u64;
        ensure!(unread == expected, "read up to {cursor}: {unread} are unread, not {expected}");
    }
    scene.say("bob", conversation, "mine").await?;
    let unread = scene.summaries("bob", "phone").await?[0].unread;
    ensure!(unread == 0, "one's own message is unread");
    Ok(())
}

pub(super) async fn summaries_page_through_every_conversation<F: Fixture>(
    fixture: Arc<F>,
) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob", "cy", "dee"]).await?;
    let mut expected = Vec::new();
    for with in ["bob", "cy", "dee"] {
        let conversation = scene.direct("ann", with).await?;
        scene.say(with, conversation, with).await?;
        expected.push((conversation, Some(user(with)), with.to_owned()));
    }
    let group = scene.group("bob", &["ann", "cy"]).await?;
    scene.say("cy", group, "cy").await?;
    expected.push((group, None, "cy".to_owned()));
    expected.sort();
    for size in [1, 2, 3, 4, 10] {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = scene
                .store
                .summaries(user("ann"), device("phone"), after, size)
                .await
                .map_err(failed)?;
            ensure!(page.items.len() <= size, "{size} were asked for, {} came", page.items.len());
            after = page.items.last().map(|summary| summary.conversation);
            all.extend(page.items);
            ensure!(all.len() <= 4, "the list repeats itself");
            ensure!(
                page.has_more == (all.len() < 4),
                "after {} of 4, has_more is {}",
                all.len(),
                page.has_more
            );
            if !page.has_more {
                break;
            }
        }
        let newest = |s: &crate::chat::Summary| {
            s.newest.as_deref().map(text_of).unwrap_or_default().to_owned()
        };
        let listed: Vec<_> =
            all.iter().map(|s| (s.conversation, s.with.clone(), newest(s))).collect();
        ensure!(listed == expected, "by {size}: {listed:?} instead of {expected:?}");
    }
    Ok(())
}
