//! Who is in a conversation, and what the others may not.

use std::sync::Arc;

use testkit::conformance::{Broken, Verdict};
use testkit::ensure;

use super::scene::{Scene, user};
use super::{Fixture, failed, seqs};
use crate::chat::{Error, NewGroup, Store};
use crate::ids::{ConversationId, Seq};

pub(super) async fn strangers_see_and_change_nothing<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

pub(super) async fn a_removed_member_is_a_stranger<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

pub(super) async fn a_new_member_sees_what_follows<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

pub(super) async fn only_the_admin_changes_members<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

pub(super) async fn one_direct_conversation_per_pair<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

pub(super) async fn creating_a_group_twice_is_once<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

pub(super) async fn member_lists_have_versions<F: Fixture>(fixture: Arc<F>) -> Verdict {
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
