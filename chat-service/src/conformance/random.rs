//! A random history against the plainest model there is: a list of messages, and counting.

use std::collections::HashMap;
use std::sync::Arc;

use testkit::conformance::{Broken, Verdict};
use testkit::seed::Seed;
use testkit::shrink;

use super::scene::{Scene, text_of, user};
use super::{failed, seqs};
use crate::chat::{Error, Store};
use crate::ids::{ClientId, ConversationId, Seq};

/// Ann talks to Bob, Cy to Dee.
const USERS: [&str; 4] = ["ann", "bob", "cy", "dee"];
const DEVICES: [&str; 2] = ["phone", "laptop"];
const STEPS: usize = 250;

/// What somebody does.
#[derive(Clone, Copy)]
struct Step {
    /// By their place in [`USERS`].
    who: usize,
    does: Does,
}

/// A place in the log is a number that is taken modulo the places there are, and one beyond: a
/// history must make sense with any of its steps left out.
#[derive(Clone, Copy)]
enum Does {
    Write {
        text: u32,
        now_ms: u64,
    },
    /// The first message of their own, if there is one.
    Repeat,
    Acknowledge {
        device: usize,
        place: u64,
    },
    Read {
        place: u64,
    },
    Page {
        place: u64,
        count: usize,
    },
}

impl Step {
    fn random(rng: &mut fastrand::Rng) -> Self {
        let does = match rng.u8(0..10) {
            0..4 if rng.u8(0..4) == 0 => Does::Repeat,
            0..4 => Does::Write { text: rng.u32(..), now_ms: rng.u64(0..3) },
            4..6 => Does::Acknowledge { device: rng.usize(0..2), place: rng.u64(..) },
            6..8 => Does::Read { place: rng.u64(..) },
            _ => Does::Page { place: rng.u64(..), count: rng.usize(1..8) },
        };
        Self { who: rng.usize(0..4), does }
    }
}

/// What was appended to a conversation, and the marks in it.
struct Model {
    id: ConversationId,
    log: Vec<(usize, ClientId, String)>,
    acked: HashMap<(usize, usize), u64>,
    read: HashMap<usize, u64>,
}

impl Model {
    fn new(id: ConversationId) -> Self {
        Self { id, log: Vec::new(), acked: HashMap::new(), read: HashMap::new() }
    }

    fn unread(&self, who: usize) -> u64 {
        let read = self.read.get(&who).copied().unwrap_or_default() as usize;
        self.log[read..].iter().filter(|(sender, ..)| *sender != who).count() as u64
    }

    /// A place that may be one beyond the last.
    fn place(&self, number: u64) -> u64 {
        number % (self.log.len() as u64 + 2)
    }
}

pub(super) async fn agrees<S: Store>(store: Arc<S>) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    let steps = (0..STEPS).map(|_| Step::random(&mut rng)).collect();
    shrink::played(steps, |steps, time| play(Arc::clone(&store), steps, time)).await
}

/// The people of one playing, whom no earlier one has used.
struct People<S> {
    scene: Scene<S>,
    names: [String; 4],
}

async fn play<S: Store>(store: Arc<S>, steps: Vec<Step>, time: usize) -> Verdict {
    let names = USERS.map(|name| format!("{name}{time}"));
    let scene = Scene::new(store, &names.each_ref().map(String::as_str)).await?;
    let mut models = [
        Model::new(scene.direct(&names[0], &names[1]).await?),
        Model::new(scene.direct(&names[2], &names[3]).await?),
    ];
    let people = People { scene, names };
    let mut history = Vec::new();
    for step in steps {
        match people.step(&mut models[step.who / 2], step).await {
            Ok(what) => history.push(what),
            Err(broken) => {
                let recent = history.split_off(history.len().saturating_sub(10));
                return Err(Broken::because(broken.what().to_owned()).with_history(recent));
            }
        }
    }
    Ok(())
}

impl<S: Store> People<S> {
    async fn step(&self, model: &mut Model, Step { who, does }: Step) -> Result<String, Broken> {
        let (name, last) = (self.names[who].as_str(), model.log.len() as u64);
        let told = match does {
            Does::Repeat => self.repeat(model, who).await?,
            Does::Write { text, now_ms } => self.write(model, who, text, now_ms).await?,
            Does::Acknowledge { device, place } => {
                let (place, on) = (model.place(place), DEVICES[device]);
                let moved = self.scene.ack(name, on, model.id, place).await;
                let kept = model.acked.entry((who, device)).or_default();
                *kept = if place <= last { place.max(*kept) } else { *kept };
                let told = format!("{name} acknowledges {place} on the {on}");
                agree(&told, &moved.is_ok(), &(place <= last))?;
                told
            }
            Does::Read { place } => {
                let place = model.place(place);
                let moved = self.scene.store.read(user(name), model.id, Seq(place)).await;
                let kept = model.read.entry(who).or_default();
                *kept = if place <= last { place.max(*kept) } else { *kept };
                let told = format!("{name} reads {place}");
                agree(&told, &moved.is_ok(), &(place <= last))?;
                told
            }
            Does::Page { place, count } => self.page(model, who, place, count).await?,
        };
        self.compare(model, who, &told).await?;
        Ok(told)
    }

    async fn page(
        &self,
        model: &Model,
        who: usize,
        place: u64,
        count: usize,
    ) -> Result<String, Broken> {
        let (name, place) = (self.names[who].as_str(), model.place(place));
        let told = format!("{name} gets {count} after {place}");
        let page = self.scene.since(name, model.id, place, count).await?;
        let expected: Vec<u64> = (place + 1..=model.log.len() as u64).take(count).collect();
        agree(&told, &seqs(&page), &expected)?;
        for message in &page.messages {
            let (sender, client_id, text) = &model.log[message.seq.0 as usize - 1];
            let actual = (message.sender.as_str(), message.client_id, text_of(message));
            agree(&told, &actual, &(self.names[*sender].as_str(), *client_id, text.as_str()))?;
        }
        Ok(told)
    }

    async fn repeat(&self, model: &Model, who: usize) -> Result<String, Broken> {
        let name = self.names[who].as_str();
        let Some(at) = model.log.iter().position(|(sender, ..)| *sender == who) else {
            return Ok(format!("{name} has nothing to repeat"));
        };
        let (_, client_id, text) = &model.log[at];
        let told = format!("{name} repeats {}", at + 1);
        let again = self.scene.say_as(name, model.id, *client_id, text, 0).await.map_err(failed)?;
        agree(&told, &(again.seq, again.duplicate), &(Seq(at as u64 + 1), true))?;
        Ok(told)
    }

    async fn write(
        &self,
        model: &mut Model,
        who: usize,
        text: u32,
        now_ms: u64,
    ) -> Result<String, Broken> {
        let (name, client_id) = (self.names[who].as_str(), ClientId::fresh());
        let text = format!("text {text}");
        let said = self.scene.say_as(name, model.id, client_id, &text, now_ms).await;
        let said = said.map_err(failed)?;
        model.log.push((who, client_id, text));
        let told = format!("{name} writes {}", model.log.len());
        agree(&told, &(said.seq, said.duplicate), &(Seq(model.log.len() as u64), false))?;
        Ok(told)
    }

    async fn compare(&self, model: &Model, who: usize, told: &str) -> Verdict {
        let name = self.names[who].as_str();
        for (device, on) in DEVICES.into_iter().enumerate() {
            let agree_on = |what: &str, actual: u64, expected: u64| {
                agree(&format!("{told}; then {what}"), &actual, &expected)
            };
            let listed = self.scene.summaries(name, on).await?;
            let summary = listed.first().ok_or_else(|| Broken::because("the list is empty"))?;
            agree("the conversation", &summary.conversation, &model.id)?;
            agree_on("the last message", summary.last_seq.0, model.log.len() as u64)?;
            let acked = model.acked.get(&(who, device)).copied().unwrap_or_default();
            agree_on(&format!("delivered to the {on}"), summary.delivered_seq.0, acked)?;
            let read = model.read.get(&who).copied().unwrap_or_default();
            agree_on("read", summary.read_seq.0, read)?;
            agree_on("unread", summary.unread, model.unread(who))?;
        }
        let stranger = &self.names[(who + 2) % 4];
        let refused = self.scene.store.receipts(user(stranger), model.id).await;
        agree("a stranger is refused", &matches!(refused, Err(Error::NotFound { .. })), &true)
    }
}

fn agree<T: PartialEq + std::fmt::Debug>(what: &str, actual: &T, expected: &T) -> Verdict {
    match actual == expected {
        true => Ok(()),
        false => Err(Broken::because(format!(
            "{what}: the model says {expected:?}, the store {actual:?}"
        ))),
    }
}
