//! A random history against the plainest model there is: a list of messages, and counting.

use std::collections::HashMap;
use std::sync::Arc;

use testkit::conformance::{Broken, Verdict};
use testkit::seed::Seed;

use super::scene::{Scene, text_of, user};
use super::{failed, seqs};
use crate::chat::{Error, Store};
use crate::ids::{ClientId, ConversationId, Seq};

const USERS: [&str; 4] = ["ann", "bob", "cy", "dee"];
const DEVICES: [&str; 2] = ["phone", "laptop"];
const STEPS: usize = 250;

/// What was appended, and the marks.
#[derive(Default)]
struct Model {
    log: Vec<(&'static str, ClientId, String)>,
    acked: HashMap<(&'static str, &'static str), u64>,
    read: HashMap<&'static str, u64>,
}

impl Model {
    fn unread(&self, name: &str) -> u64 {
        let read = self.read.get(name).copied().unwrap_or_default() as usize;
        self.log[read..].iter().filter(|(sender, ..)| *sender != name).count() as u64
    }
}

pub(super) async fn agrees<S: Store>(store: Arc<S>) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    let scene = Scene::new(store, &USERS).await?;
    let ids = [scene.direct("ann", "bob").await?, scene.direct("cy", "dee").await?];
    let members = [["ann", "bob"], ["cy", "dee"]];
    let mut models = [Model::default(), Model::default()];
    let mut history = Vec::new();
    for _ in 0..STEPS {
        let at = rng.usize(0..2);
        let name = members[at][rng.usize(0..2)];
        let told = step(&scene, &mut rng, ids[at], &mut models[at], name).await;
        match told {
            Ok(what) => history.push(what),
            Err(broken) => {
                let recent = history.split_off(history.len().saturating_sub(10));
                return Err(Broken::because(broken.what().to_owned()).with_history(recent));
            }
        }
    }
    Ok(())
}

async fn step<S: Store>(
    scene: &Scene<S>,
    rng: &mut fastrand::Rng,
    id: ConversationId,
    model: &mut Model,
    name: &'static str,
) -> Result<String, Broken> {
    let last = model.log.len() as u64;
    let somewhere = rng.u64(0..=last + 1);
    let told = match rng.u8(0..10) {
        0..4 => append(scene, rng, id, model, name).await?,
        4..6 => {
            let on = DEVICES[rng.usize(0..2)];
            let moved = scene.ack(name, on, id, somewhere).await;
            let kept = model.acked.entry((name, on)).or_default();
            *kept = if somewhere <= last { somewhere.max(*kept) } else { *kept };
            agree("moved", &moved.as_ref().is_ok(), &(somewhere <= last))?;
            format!("{name} acknowledges {somewhere} on the {on}")
        }
        6..8 => {
            let moved = scene.store.read(user(name), id, Seq(somewhere)).await;
            agree("moved", &moved.is_ok(), &(somewhere <= last))?;
            let kept = model.read.entry(name).or_default();
            *kept = if somewhere <= last { somewhere.max(*kept) } else { *kept };
            format!("{name} reads {somewhere}")
        }
        _ => {
            let count = rng.usize(1..8);
            let page = scene.since(name, id, somewhere, count).await?;
            let expected: Vec<u64> = (somewhere + 1..=last).take(count).collect();
            agree("page", &seqs(&page), &expected)?;
            for message in &page.messages {
                let (sender, client_id, text) = &model.log[message.seq.0 as usize - 1];
                let actual = (message.sender.as_str(), message.client_id, text_of(message));
                agree("message", &actual, &(*sender, *client_id, text.as_str()))?;
            }
            format!("{name} reads {count} after {somewhere}")
        }
    };
    compare(scene, id, model, name).await?;
    Ok(told)
}

async fn append<S: Store>(
    scene: &Scene<S>,
    rng: &mut fastrand::Rng,
    id: ConversationId,
    model: &mut Model,
    name: &'static str,
) -> Result<String, Broken> {
    let own = model.log.iter().position(|(sender, ..)| *sender == name);
    if let (Some(at), true) = (own, rng.u8(0..4) == 0) {
        let (_, client_id, text) = model.log[at].clone();
        let again = scene.say_as(name, id, client_id, &text, 0).await.map_err(failed)?;
        agree("repeat", &(again.seq, again.duplicate), &(Seq(at as u64 + 1), true))?;
        return Ok(format!("{name} repeats {}", at + 1));
    }
    let (client_id, text) = (ClientId::fresh(), format!("text {}", rng.u32(..)));
    let appended = scene.say_as(name, id, client_id, &text, rng.u64(0..3)).await.map_err(failed)?;
    model.log.push((name, client_id, text));
    agree("append", &(appended.seq, appended.duplicate), &(Seq(model.log.len() as u64), false))?;
    Ok(format!("{name} writes {}", appended.seq))
}

async fn compare<S: Store>(
    scene: &Scene<S>,
    id: ConversationId,
    model: &Model,
    name: &'static str,
) -> Verdict {
    for on in DEVICES {
        let listed = scene.summaries(name, on).await?;
        let summary = listed.first().ok_or_else(|| Broken::because("the list is empty"))?;
        agree("conversation", &summary.conversation, &id)?;
        agree("last", &summary.last_seq.0, &(model.log.len() as u64))?;
        let acked = model.acked.get(&(name, on)).copied().unwrap_or_default();
        agree("delivered to this device", &summary.delivered_seq.0, &acked)?;
        let read = model.read.get(name).copied().unwrap_or_default();
        agree("read", &summary.read_seq.0, &read)?;
        agree("unread", &summary.unread, &model.unread(name))?;
    }
    let stranger = if USERS[..2].contains(&name) { "cy" } else { "ann" };
    let refused = scene.store.receipts(user(stranger), id).await;
    agree("stranger", &matches!(refused, Err(Error::NotFound { .. })), &true)
}

fn agree<T: PartialEq + std::fmt::Debug>(what: &str, actual: &T, expected: &T) -> Verdict {
    match actual == expected {
        true => Ok(()),
        false => Err(Broken::because(format!(
            "{what}: the model says {expected:?}, the store {actual:?}"
        ))),
    }
}
