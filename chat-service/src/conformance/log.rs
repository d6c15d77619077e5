//! The log: sequences, repeats, pages.

use std::sync::Arc;

use testkit::conformance::{Broken, Verdict};
use testkit::ensure;

use super::scene::{Scene, text_of, user};
use super::{Fixture, failed, seqs};
use crate::chat::{Error, PAGE_BYTES_MAX, PageLimit, Store, TEXT_BYTES_MAX};
use crate::ids::{ClientId, Seq};

pub(super) async fn messages_get_the_next_sequence<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob", "cy"]).await?;
    let (one, other) = (scene.direct("ann", "bob").await?, scene.direct("ann", "cy").await?);
    for expected in 1..=5 {
        for (sender, conversation) in [("ann", one), ("bob", one), ("cy", other)] {
            let appended = scene.say(sender, conversation, "hi").await?;
            let expected = if conversation == one {
                2 * expected - u64::from(sender == "ann")
            } else {
                expected
            };
            ensure!(!appended.duplicate, "a new message is called a repeat");
            ensure!(
                appended.seq == Seq(expected),
                "{sender}'s message got {} instead of {expected}",
                appended.seq
            );
        }
    }
    let page = scene.since("bob", one, 0, 100).await?;
    ensure!(seqs(&page) == (1..=10).collect::<Vec<_>>(), "the log holds {:?}", seqs(&page));
    Ok(())
}

pub(super) async fn a_repeat_returns_the_original_place<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    let id = ClientId::fresh();
    let first = scene.say_as("ann", conversation, id, "hi", 5).await.map_err(failed)?;
    scene.say("bob", conversation, "hello").await?;
    for attempt in 1..4 {
        let again = scene.say_as("ann", conversation, id, "hi", 99).await.map_err(failed)?;
        ensure!(again.duplicate, "attempt {attempt} is not called a repeat: {again:?}");
        ensure!((again.seq, again.at_ms) == (first.seq, first.at_ms), "{first:?} became {again:?}");
    }
    let theirs = scene.say_as("bob", conversation, id, "hi", 5).await.map_err(failed)?;
    ensure!(!theirs.duplicate, "another sender's message with the same id is another message");
    let page = scene.since("ann", conversation, 0, 100).await?;
    ensure!(seqs(&page) == [1, 2, 3], "three were written, the log holds {:?}", seqs(&page));
    Ok(())
}

pub(super) async fn a_client_id_is_remembered_for_good<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    let id = ClientId::fresh();
    scene.say_as("ann", conversation, id, "hi", 0).await.map_err(failed)?;
    scene.say_many("ann", conversation, 300).await?;
    let week_ms = 7 * 24 * 60 * 60 * 1_000;
    let again = scene.say_as("ann", conversation, id, "hi", week_ms).await.map_err(failed)?;
    ensure!(again.duplicate && again.seq == Seq(1), "after 300 messages and a week: {again:?}");
    Ok(())
}

pub(super) async fn a_client_id_names_one_message<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob", "cy"]).await?;
    let (one, other) = (scene.direct("ann", "bob").await?, scene.direct("ann", "cy").await?);
    let id = ClientId::fresh();
    scene.say_as("ann", one, id, "hi", 0).await.map_err(failed)?;
    for (conversation, text) in [(one, "other words"), (other, "hi")] {
        let refused = scene.say_as("ann", conversation, id, text, 0).await;
        ensure!(
            matches!(refused, Err(Error::Conflict { field: "client_id", .. })),
            "{text:?}: {refused:?}"
        );
    }
    let page = scene.since("ann", one, 0, 10).await?;
    ensure!(
        page.messages.len() == 1 && text_of(&page.messages[0]) == "hi",
        "the log was changed: {page:?}"
    );
    ensure!(scene.since("ann", other, 0, 10).await?.messages.is_empty(), "something was written");
    Ok(())
}

pub(super) async fn concurrent_senders_leave_no_gap<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Arc::new(Scene::new(fixture.store(), &["ann", "bob"]).await?);
    let conversation = scene.direct("ann", "bob").await?;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let scene = Arc::clone(&scene);
        let sender = if task % 2 == 0 { "ann" } else { "bob" };
        tasks.spawn(async move {
            let mut got = Vec::new();
            for _ in 0..25 {
                got.push(scene.say(sender, conversation, "hi").await?.seq.0);
            }
            Ok::<_, Broken>(got)
        });
    }
    let mut all = Vec::new();
    while let Some(task) = tasks.join_next().await {
        let got = task.map_err(|error| Broken::because(error.to_string()))??;
        ensure!(got.is_sorted(), "one sender's messages are out of order: {got:?}");
        all.extend(got);
    }
    all.sort_unstable();
    ensure!(all == (1..=200).collect::<Vec<_>>(), "200 messages got the places {all:?}");
    let page = scene.since("ann", conversation, 0, 500).await?;
    ensure!(seqs(&page) == all, "200 were acknowledged, the log holds {:?}", seqs(&page));
    Ok(())
}

pub(super) async fn concurrent_repeats_append_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Arc::new(Scene::new(fixture.store(), &["ann", "bob"]).await?);
    let conversation = scene.direct("ann", "bob").await?;
    for round in 1..=10 {
        let id = ClientId::fresh();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let scene = Arc::clone(&scene);
            tasks.spawn(async move { scene.say_as("ann", conversation, id, "hi", 0).await });
        }
        let mut fresh = 0;
        while let Some(task) = tasks.join_next().await {
            let appended =
                task.map_err(|error| Broken::because(error.to_string()))?.map_err(failed)?;
            ensure!(appended.seq == Seq(round), "round {round} got the place {}", appended.seq);
            fresh += u32::from(!appended.duplicate);
        }
        ensure!(fresh == 1, "{fresh} of 8 attempts were told to be the first");
    }
    Ok(())
}

pub(super) async fn paging_covers_everything_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    scene.say_many("ann", conversation, 23).await?;
    for size in [1, 2, 5, 23, 24, 100] {
        let (mut forward, mut after) = (Vec::new(), 0);
        loop {
            let page = scene.since("bob", conversation, after, size).await?;
            ensure!(
                page.messages.len() <= size,
                "{size} were asked for, {} came",
                page.messages.len()
            );
            forward.extend(seqs(&page));
            let Some(last) = page.messages.last() else { break };
            after = last.seq.0;
            ensure!(
                page.has_more == (after < 23),
                "at {after} of 23, has_more is {}",
                page.has_more
            );
            ensure!(forward.len() <= 23, "paging forward repeats itself: {forward:?}");
        }
        ensure!(forward == (1..=23).collect::<Vec<_>>(), "by {size} forward: {forward:?}");
        let (mut backward, mut before) = (Vec::new(), None);
        loop {
            let page = scene.before("bob", conversation, before, size).await?;
            ensure!(
                page.messages.len() <= size,
                "{size} were asked for, {} came",
                page.messages.len()
            );
            let Some(first) = page.messages.first() else { break };
            before = Some(first.seq);
            ensure!(
                page.has_more == (first.seq > Seq(1)),
                "at {}, has_more is {}",
                first.seq,
                page.has_more
            );
            backward.splice(0..0, seqs(&page));
            ensure!(backward.len() <= 23, "paging backward repeats itself: {backward:?}");
        }
        ensure!(backward == forward, "by {size} backward: {backward:?}");
    }
    let beyond = scene.since("bob", conversation, 1_000_000, 5).await?;
    ensure!(beyond.messages.is_empty() && !beyond.has_more, "after the end: {beyond:?}");
    Ok(())
}

pub(super) async fn pages_are_bounded_in_bytes<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    let long = "x".repeat(TEXT_BYTES_MAX);
    for _ in 0..20 {
        scene.say("ann", conversation, &long).await?;
    }
    let fitting = PAGE_BYTES_MAX / TEXT_BYTES_MAX;
    let forward = scene.since("bob", conversation, 0, 100).await?;
    let backward = scene.before("bob", conversation, None, 100).await?;
    ensure!(
        seqs(&forward) == (1..=fitting as u64).collect::<Vec<_>>(),
        "forward: {:?}",
        seqs(&forward)
    );
    ensure!(
        seqs(&backward) == (21 - fitting as u64..=20).collect::<Vec<_>>(),
        "backward: {:?}",
        seqs(&backward)
    );
    ensure!(forward.has_more && backward.has_more, "the rest is not announced");
    let tight = PageLimit { messages: 10, bytes: 1 };
    let one = scene.store.since(user("bob"), conversation, Seq(0), tight).await.map_err(failed)?;
    ensure!(
        seqs(&one) == [1],
        "a page that fits nothing must hold one, and holds {:?}",
        seqs(&one)
    );
    Ok(())
}

pub(super) async fn bad_texts_are_refused_and_leave_nothing<F: Fixture>(
    fixture: Arc<F>,
) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    for text in [String::new(), "x".repeat(TEXT_BYTES_MAX + 1)] {
        let refused = scene.say_as("ann", conversation, ClientId::fresh(), &text, 0).await;
        ensure!(
            matches!(refused, Err(Error::Invalid { field: "text", .. })),
            "{} bytes: {refused:?}",
            text.len()
        );
    }
    let largest = scene.say("ann", conversation, &"\u{0}'\"\\é".repeat(TEXT_BYTES_MAX / 6)).await?;
    ensure!(largest.seq == Seq(1), "a refused message used a sequence");
    // In one call the good ones are appended and the bad ones are refused, each on its own.
    let batch =
        ["a", "", "b"].map(|text| scene.message("ann", conversation, ClientId::fresh(), text, 0));
    let results = scene.store.append(batch.to_vec()).await;
    let places: Vec<_> = results.iter().map(|r| r.as_ref().ok().map(|a| a.seq.0)).collect();
    ensure!(places == [Some(2), None, Some(3)], "a batch with a bad one in it: {results:?}");
    Ok(())
}

pub(super) async fn what_nobody_was_told_of_is_listed<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob", "cy"]).await?;
    let (one, other) = (scene.direct("ann", "bob").await?, scene.direct("ann", "cy").await?);
    let listed = async || {
        let listed = scene.store.unpublished(100).await.map_err(failed)?;
        let mut listed: Vec<_> = listed.iter().map(|c| (c.conversation, c.last_seq.0)).collect();
        listed.sort();
        Ok::<_, Broken>(listed)
    };
    ensure!(listed().await?.is_empty(), "something is unpublished before anything was written");
    scene.say_many("ann", one, 3).await?;
    scene.say_many("ann", other, 1).await?;
    let mut both = vec![(one, 3), (other, 1)];
    both.sort();
    ensure!(listed().await? == both, "listed: {:?}", listed().await?);
    scene.store.published(vec![(one, Seq(2)), (other, Seq(1))]).await.map_err(failed)?;
    ensure!(listed().await? == [(one, 3)], "published up to 2 of 3: {:?}", listed().await?);
    scene.store.published(vec![(one, Seq(3)), (one, Seq(1))]).await.map_err(failed)?;
    ensure!(listed().await?.is_empty(), "all was published: {:?}", listed().await?);
    scene.say("ann", other, "more").await?;
    ensure!(listed().await? == [(other, 2)], "one more: {:?}", listed().await?);
    Ok(())
}
