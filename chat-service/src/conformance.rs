//! The contracts as executable promises: what our answers are tested by, and what a reader's own
//! answer is graded by. [`promises`] judges stores, [`bus_promises`] judges buses.
//!
//! The promises come in the order in which an interviewer would probe.

mod bus;
mod random;
mod scene;

use std::future::Future;
use std::sync::Arc;

use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, promise};

use crate::chat::{
    DEVICES_PER_USER_MAX, Error, NewGroup, PAGE_BYTES_MAX, PageLimit, Store, TEXT_BYTES_MAX,
};
use crate::ids::{ClientId, ConversationId, Seq};

pub use bus::{BusFixture, bus_promises};
use scene::{Scene, device, text_of, user};

/// How the suite reaches the store under test.
pub trait Fixture: Send + Sync + 'static {
    /// The answer.
    type Store: Store;

    /// A store nobody used before.
    fn store(&self) -> Arc<Self::Store>;

    /// The same store as another server, or the next process, opens it. A store that lives in one
    /// process returns itself.
    fn reopened(&self) -> impl Future<Output = Arc<Self::Store>> + Send;
}

/// What every message store promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    vec![
        promise!(
            F,
            messages_get_the_next_sequence,
            "Each conversation counts 1, 2, 3, and none knows of another's count."
        ),
        promise!(
            F,
            a_repeat_returns_the_original_place,
            "A message sent again under its client id is the same message."
        ),
        promise!(F, a_client_id_is_remembered_for_good, "A retry after a week is still a retry."),
        promise!(
            F,
            a_client_id_names_one_message,
            "A client id used for another text or conversation is refused."
        ),
        promise!(F, concurrent_senders_leave_no_gap, "Many senders at once get 1 to n, each once.")
            .on_many_threads(),
        promise!(
            F,
            concurrent_repeats_append_once,
            "The same message sent many times at once is there once."
        )
        .on_many_threads(),
        promise!(
            F,
            paging_covers_everything_once,
            "Pages in either direction, of any size, hold every message once and in order."
        ),
        promise!(
            F,
            pages_are_bounded_in_bytes,
            "A page of long messages is short, and paging still goes on."
        ),
        promise!(
            F,
            strangers_see_and_change_nothing,
            "Who is not in a conversation cannot tell it from one that does not exist."
        ),
        promise!(
            F,
            a_removed_member_is_a_stranger,
            "From the moment of removal nothing is read or written."
        ),
        promise!(
            F,
            a_new_member_sees_what_follows,
            "History before joining stays with those who were there."
        ),
        promise!(
            F,
            only_the_admin_changes_members,
            "Others may leave, and nothing else; between two people nobody may."
        ),
        promise!(
            F,
            one_direct_conversation_per_pair,
            "Both sides asking at once get the same conversation."
        )
        .on_many_threads(),
        promise!(
            F,
            creating_a_group_twice_is_once,
            "A repeated creation is no change; another's id is refused."
        ),
        promise!(F, cursors_only_grow, "A late acknowledgement or read mark moves nothing back."),
        promise!(F, a_cursor_cannot_pass_the_log, "Nobody has what is not there."),
        promise!(
            F,
            devices_have_cursors_of_their_own,
            "What the phone has, the laptop still misses."
        ),
        promise!(F, what_is_read_is_delivered, "A read mark counts as delivery."),
        promise!(
            F,
            unread_is_what_others_wrote_after_the_read_cursor,
            "Unread is last minus read minus one's own, whatever happened before."
        ),
        promise!(
            F,
            summaries_page_through_every_conversation,
            "Every conversation is listed once, with its end and its newest message."
        ),
        promise!(
            F,
            member_lists_have_versions,
            "Every change of members is a higher version, and appends name the one they saw."
        ),
        promise!(
            F,
            what_nobody_was_told_of_is_listed,
            "An append stands unpublished until it is noted as published."
        ),
        promise!(F, one_account_per_name, "The second to take a name is refused.")
            .on_many_threads(),
        promise!(
            F,
            devices_are_bounded_and_removable,
            "A ninth device is refused until one is removed."
        ),
        promise!(
            F,
            bad_texts_are_refused_and_leave_nothing,
            "An empty or oversized text is refused by name, and uses no sequence."
        ),
        promise!(
            F,
            agrees_with_the_model,
            "Everything a random history shows is what a plain list of messages says."
        ),
        promise!(
            F,
            everything_survives_reopening,
            "Whoever opens the store next finds logs, cursors, identity and accounts."
        ),
    ]
}

fn failed(error: Error) -> Broken {
    Broken::because(format!("the store failed: {error}"))
}

fn seqs(page: &crate::chat::Page) -> Vec<u64> {
    page.messages.iter().map(|message| message.seq.0).collect()
}

async fn messages_get_the_next_sequence<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn a_repeat_returns_the_original_place<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn a_client_id_is_remembered_for_good<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn a_client_id_names_one_message<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn concurrent_senders_leave_no_gap<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn concurrent_repeats_append_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn paging_covers_everything_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn pages_are_bounded_in_bytes<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn strangers_see_and_change_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob", "eve"]).await?;
    let direct = scene.direct("ann", "bob").await?;
    let group = scene.group("ann", &["bob"]).await?;
    scene.say("ann", direct, "secret").await?;
    scene.say("ann", group, "secret").await?;
    for (what, conversation) in
        [("a direct", direct), ("a group", group), ("an unknown", ConversationId::fresh())]
    {
        scene
            .is_stranger("eve", conversation)
            .await
            .map_err(|broken| Broken::because(format!("{what} conversation: {}", broken.what())))?;
    }
    let listed = scene.summaries("eve", "phone").await?;
    ensure!(listed.is_empty(), "a stranger's list names {listed:?}");
    ensure!(
        scene.since("ann", direct, 0, 10).await?.messages.len() == 1,
        "a stranger's message is in the log"
    );
    Ok(())
}

async fn a_removed_member_is_a_stranger<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob", "cy"]).await?;
    let group = scene.group("ann", &["bob", "cy"]).await?;
    scene.say("bob", group, "hi").await?;
    scene.store.remove_member(user("ann"), group, user("bob"), 0).await.map_err(failed)?;
    scene.say("ann", group, "now without bob").await?;
    scene.is_stranger("bob", group).await?;
    let listed = scene.summaries("bob", "phone").await?;
    ensure!(listed.is_empty(), "a removed member's list names {listed:?}");
    let members = scene.store.members(group).await.map_err(failed)?;
    ensure!(
        !members.users.contains(&user("bob")) && members.users.len() == 2,
        "members: {members:?}"
    );
    let again = scene.store.remove_member(user("ann"), group, user("bob"), 0).await;
    ensure!(matches!(again, Err(Error::NotFound { field: "member" })), "removed twice: {again:?}");
    Ok(())
}

async fn a_new_member_sees_what_follows<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob", "cy"]).await?;
    let group = scene.group("ann", &["bob"]).await?;
    for _ in 0..3 {
        scene.say("ann", group, "before").await?;
    }
    let changed =
        scene.store.add_members(user("ann"), group, vec![user("cy"), user("bob")], 0).await;
    let changed = changed.map_err(failed)?;
    ensure!(changed.changed && changed.last_seq == Seq(5), "one of two was new: {changed:?}");
    scene.say("bob", group, "after").await?;
    let forward = scene.since("cy", group, 0, 100).await?;
    let backward = scene.before("cy", group, None, 100).await?;
    ensure!(
        seqs(&forward) == [5, 6] && seqs(&backward) == [5, 6],
        "a new member sees {:?} and {:?}",
        seqs(&forward),
        seqs(&backward)
    );
    ensure!(!backward.has_more, "a new member is told of older messages");
    let listed = scene.summaries("cy", "phone").await?;
    ensure!(listed[0].unread == 2, "two messages followed, {} are unread", listed[0].unread);
    let old = scene.since("bob", group, 0, 100).await?;
    ensure!(old.messages.len() == 6, "an old member sees {:?}", seqs(&old));
    Ok(())
}

async fn only_the_admin_changes_members<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob", "cy", "dee"]).await?;
    let group = scene.group("ann", &["bob", "cy"]).await?;
    let direct = scene.direct("ann", "bob").await?;
    let added = scene.store.add_members(user("bob"), group, vec![user("dee")], 0).await;
    ensure!(matches!(added, Err(Error::Forbidden { .. })), "a member added somebody: {added:?}");
    let removed = scene.store.remove_member(user("bob"), group, user("cy"), 0).await;
    ensure!(
        matches!(removed, Err(Error::Forbidden { .. })),
        "a member removed another: {removed:?}"
    );
    let added = scene.store.add_members(user("ann"), direct, vec![user("dee")], 0).await;
    ensure!(matches!(added, Err(Error::Forbidden { .. })), "two became three: {added:?}");
    let unknown = scene.store.add_members(user("ann"), group, vec![user("nobody")], 0).await;
    ensure!(
        matches!(unknown, Err(Error::NotFound { field: "members" })),
        "a ghost was added: {unknown:?}"
    );
    scene.store.remove_member(user("cy"), group, user("cy"), 0).await.map_err(failed)?;
    let members = scene.store.members(group).await.map_err(failed)?;
    ensure!(members.users.len() == 2, "after one left: {members:?}");
    Ok(())
}

async fn one_direct_conversation_per_pair<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Arc::new(Scene::new(fixture.store(), &["ann", "bob", "cy"]).await?);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let scene = Arc::clone(&scene);
        let (by, with) = if task % 2 == 0 { ("ann", "bob") } else { ("bob", "ann") };
        tasks.spawn(async move { scene.store.open_direct(user(by), user(with)).await });
    }
    let (mut ids, mut created) = (std::collections::HashSet::new(), 0);
    while let Some(task) = tasks.join_next().await {
        let opened = task.map_err(|error| Broken::because(error.to_string()))?.map_err(failed)?;
        ids.insert(opened.conversation);
        created += u32::from(opened.changed);
    }
    ensure!(
        ids.len() == 1 && created == 1,
        "two people have {} conversations, {created} created",
        ids.len()
    );
    ensure!(
        !ids.contains(&scene.direct("ann", "cy").await?),
        "another pair got the same conversation"
    );
    let alone = scene.store.open_direct(user("ann"), user("ann")).await;
    ensure!(
        matches!(alone, Err(Error::Invalid { field: "with", .. })),
        "talking to oneself: {alone:?}"
    );
    let ghost = scene.store.open_direct(user("ann"), user("nobody")).await;
    ensure!(
        matches!(ghost, Err(Error::NotFound { field: "with" })),
        "talking to nobody: {ghost:?}"
    );
    Ok(())
}

async fn creating_a_group_twice_is_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let group = NewGroup {
        conversation: ConversationId::fresh(),
        by: user("ann"),
        title: "plans".to_owned(),
        members: vec![user("bob")],
        now_ms: 0,
    };
    let first = scene.store.create_group(group.clone()).await.map_err(failed)?;
    let again = scene.store.create_group(group.clone()).await.map_err(failed)?;
    ensure!(first.changed && !again.changed, "created twice: {first:?}, {again:?}");
    let theirs = scene.store.create_group(NewGroup { by: user("bob"), ..group }).await;
    ensure!(
        matches!(theirs, Err(Error::Conflict { field: "conversation", .. })),
        "taken over: {theirs:?}"
    );
    let listed = scene.summaries("bob", "phone").await?;
    ensure!(listed.len() == 1 && listed[0].title.as_deref() == Some("plans"), "listed: {listed:?}");
    ensure!(listed[0].members == 2, "{} members are counted", listed[0].members);
    Ok(())
}

async fn cursors_only_grow<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn a_cursor_cannot_pass_the_log<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn devices_have_cursors_of_their_own<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn what_is_read_is_delivered<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn unread_is_what_others_wrote_after_the_read_cursor<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn summaries_page_through_every_conversation<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn member_lists_have_versions<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob", "cy"]).await?;
    let group = scene.group("ann", &["bob"]).await?;
    let version = async || scene.store.members(group).await.map(|m| m.version).map_err(failed);
    let mut last = version().await?;
    for add in [true, false, true] {
        let changed = match add {
            true => scene.store.add_members(user("ann"), group, vec![user("cy")], 0).await,
            false => scene.store.remove_member(user("ann"), group, user("cy"), 0).await,
        };
        let changed = changed.map_err(failed)?;
        let now = version().await?;
        ensure!(now > last, "the version went from {last} to {now}");
        ensure!(
            changed.members_version == now,
            "the change names {}, the list {now}",
            changed.members_version
        );
        let appended = scene.say("ann", group, "hi").await?;
        ensure!(
            appended.members_version == now,
            "the append names {}, the list {now}",
            appended.members_version
        );
        last = now;
    }
    let unknown = scene.store.members(ConversationId::fresh()).await.map_err(failed)?;
    ensure!(unknown.users.is_empty(), "an unknown conversation has members: {unknown:?}");
    Ok(())
}

async fn what_nobody_was_told_of_is_listed<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn one_account_per_name<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = fixture.store();
    let mut tasks = tokio::task::JoinSet::new();
    for hash in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            store.create_account(scene::account("ann", &format!("hash{hash}"))).await
        });
    }
    let mut created = 0;
    while let Some(task) = tasks.join_next().await {
        match task.map_err(|error| Broken::because(error.to_string()))? {
            Ok(()) => created += 1,
            Err(Error::Conflict { field: "user", .. }) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    ensure!(created == 1, "one name was given to {created}");
    let nobody = store.account(user("nobody")).await.map_err(failed)?;
    ensure!(nobody.is_none(), "an account that was never made exists");
    Ok(())
}

async fn devices_are_bounded_and_removable<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    scene.say_many("bob", conversation, 5).await?;
    for index in 0..DEVICES_PER_USER_MAX {
        scene
            .store
            .put_device(user("ann"), device(&format!("d{index}")), 7)
            .await
            .map_err(failed)?;
    }
    scene.store.put_device(user("ann"), device("d0"), 9).await.map_err(failed)?;
    let one_more = scene.store.put_device(user("ann"), device("more"), 7).await;
    ensure!(
        matches!(one_more, Err(Error::Full { field: "devices", .. })),
        "a ninth device: {one_more:?}"
    );
    let listed = scene.store.devices(user("ann")).await.map_err(failed)?;
    ensure!(
        listed.len() == DEVICES_PER_USER_MAX && listed.iter().all(|d| d.added_ms == 7),
        "{listed:?}"
    );
    scene.ack("ann", "d0", conversation, 4).await.map_err(failed)?;
    scene.store.remove_device(user("ann"), device("d0")).await.map_err(failed)?;
    let again = scene.store.remove_device(user("ann"), device("d0")).await;
    ensure!(matches!(again, Err(Error::NotFound { field: "device" })), "removed twice: {again:?}");
    scene.store.put_device(user("ann"), device("d0"), 7).await.map_err(failed)?;
    let listed = scene.summaries("ann", "d0").await?;
    ensure!(listed[0].delivered_seq == Seq(0), "a removed device left its cursor: {listed:?}");
    Ok(())
}

async fn bad_texts_are_refused_and_leave_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

async fn agrees_with_the_model<F: Fixture>(fixture: Arc<F>) -> Verdict {
    random::agrees(fixture.store()).await
}

async fn everything_survives_reopening<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let scene = Scene::new(fixture.store(), &["ann", "bob"]).await?;
    let conversation = scene.direct("ann", "bob").await?;
    let id = ClientId::fresh();
    scene.say_as("ann", conversation, id, "hi", 5).await.map_err(failed)?;
    scene.say_many("ann", conversation, 4).await?;
    scene.store.put_device(user("bob"), device("phone"), 3).await.map_err(failed)?;
    scene.ack("bob", "phone", conversation, 4).await.map_err(failed)?;
    scene.store.read(user("bob"), conversation, Seq(2)).await.map_err(failed)?;
    let (before, identity) =
        (scene.summaries("bob", "phone").await?, scene.store.identity().clone());
    let scene = Scene { store: fixture.reopened().await };
    ensure!(
        scene.summaries("bob", "phone").await? == before,
        "the summaries changed from {before:?}"
    );
    let now = scene.store.identity();
    ensure!(
        now.epoch == identity.epoch && now.token_key == identity.token_key,
        "the identity changed"
    );
    let again = scene.say_as("ann", conversation, id, "hi", 9).await.map_err(failed)?;
    ensure!(
        again.duplicate && again.seq == Seq(1) && again.at_ms == 5,
        "a retry is new: {again:?}"
    );
    ensure!(scene.say("bob", conversation, "next").await?.seq == Seq(6), "the count began anew");
    let account = scene.store.account(user("ann")).await.map_err(failed)?;
    ensure!(account == Some(scene::account("ann", "hash")), "the account changed");
    let devices = scene.store.devices(user("bob")).await.map_err(failed)?;
    ensure!(devices.len() == 1 && devices[0].added_ms == 3, "the devices changed: {devices:?}");
    let unpublished = scene.store.unpublished(10).await.map_err(failed)?;
    ensure!(unpublished.len() == 1 && unpublished[0].last_seq == Seq(6), "{unpublished:?}");
    Ok(())
}
