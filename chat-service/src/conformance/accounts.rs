//! Accounts, devices, and the store as a whole.

use std::sync::Arc;

use testkit::conformance::{Broken, Verdict};
use testkit::ensure;

use super::scene::{Scene, device, user};
use super::{Fixture, failed};
use crate::chat::{DEVICES_PER_USER_MAX, Error, Store};
use crate::ids::{ClientId, Seq};

pub(super) async fn one_account_per_name<F: Fixture>(fixture: Arc<F>) -> Verdict {
    let store = fixture.store();
    let mut tasks = tokio::task::JoinSet::new();
    for hash in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            store.create_account(super::scene::account("ann", &format!("hash{hash}"))).await
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

pub(super) async fn devices_are_bounded_and_removable<F: Fixture>(fixture: Arc<F>) -> Verdict {
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

pub(super) async fn agrees_with_the_model<F: Fixture>(fixture: Arc<F>) -> Verdict {
    super::random::agrees(fixture.store()).await
}

pub(super) async fn everything_survives_reopening<F: Fixture>(fixture: Arc<F>) -> Verdict {
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
    ensure!(account == Some(super::scene::account("ann", "hash")), "the account changed");
    let devices = scene.store.devices(user("bob")).await.map_err(failed)?;
    ensure!(devices.len() == 1 && devices[0].added_ms == 3, "the devices changed: {devices:?}");
    let unpublished = scene.store.unpublished(10).await.map_err(failed)?;
    ensure!(unpublished.len() == 1 && unpublished[0].last_seq == Seq(6), "{unpublished:?}");
    Ok(())
}
