//! A model of one queue, small enough to be seen to be right, and random histories against it.
//!
//! The model does not say *which* message must come, since an answer may choose; it says which
//! may, and that something must come if anything may.

use std::collections::{BTreeMap, BTreeSet};

use testkit::seed::Seed;
use testkit::shrink;

use super::*;
use crate::limits::{DEDUP_WINDOW_MS, seconds};
use crate::message::MessageId;

pub(super) fn promises<F: Fixture>() -> Vec<Promise<F>> {
    vec![
        promise!(
            F,
            a_standard_queue_agrees_with_the_model,
            "Every step of a random history is one the model allows."
        ),
        promise!(
            F,
            a_fifo_queue_agrees_with_the_model,
            "The same with groups, order and duplicates."
        ),
    ]
}

const STEPS: usize = 1_500;
const MAX_RECEIVES: u32 = 4;
const VISIBILITY_MS: u64 = seconds(30);

/// One thing that happens. Which receipt is meant is a number that is taken modulo those there are:
/// a history must make sense with any of its steps left out.
#[derive(Clone, Copy)]
enum Step {
    Send { group: u8, dedup_id: u8, delay_ms: u64 },
    Receive { max: usize },
    Delete { receipt: usize },
    Move { receipt: usize, ms: u64 },
    Pass { ms: u64 },
}

impl Step {
    fn random(rng: &mut fastrand::Rng) -> Self {
        match rng.u8(0..100) {
            0..30 => Self::Send {
                group: rng.u8(0..4),
                dedup_id: rng.u8(0..60),
                delay_ms: if rng.bool() { 0 } else { rng.u64(0..3) * 1_000 },
            },
            30..60 => Self::Receive { max: rng.usize(1..=10) },
            60..75 => Self::Delete { receipt: rng.usize(..) },
            75..85 => Self::Move { receipt: rng.usize(..), ms: [0, 1_000, 60_000][rng.usize(..3)] },
            _ => Self::Pass { ms: [1, 999, 5_000, 30_000, DEDUP_WINDOW_MS][rng.usize(..5)] },
        }
    }
}

struct Known {
    seq: u64,
    group: String,
    hidden_until_ms: u64,
    leased_until_ms: u64,
    receives: u32,
    last_receipt: Option<Receipt>,
}

struct Model {
    is_fifo: bool,
    live: BTreeMap<MessageId, Known>,
    dead: BTreeSet<MessageId>,
    accepted: BTreeMap<String, (MessageId, u64)>,
    sent: u64,
    history: Vec<String>,
}

impl Model {
    fn broken(&self, what: String) -> Broken {
        let last = self.history.len().saturating_sub(30);
        Broken::because(what).with_history(&self.history[last..])
    }

    /// Whether the message may be delivered now, other than as part of the batch `with`.
    fn may_come(
        &self,
        id: MessageId,
        now_ms: u64,
        with: &BTreeSet<MessageId>,
    ) -> Result<(), String> {
        let Some(known) = self.live.get(&id) else {
            return Err("it was never sent, or was deleted or given up".to_owned());
        };
        if known.hidden_until_ms > now_ms {
            return Err("its delay is not over".to_owned());
        }
        if known.leased_until_ms > now_ms && !with.contains(&id) {
            return Err("somebody holds it".to_owned());
        }
        if known.receives >= MAX_RECEIVES {
            return Err("it was received as often as allowed".to_owned());
        }
        if !self.is_fifo {
            return Ok(());
        }
        for (other, it) in self.live.iter().filter(|(_, it)| it.group == known.group) {
            if with.contains(other) {
                continue;
            }
            if it.leased_until_ms > now_ms {
                return Err("its group is blocked".to_owned());
            }
            if it.seq < known.seq && it.receives < MAX_RECEIVES {
                return Err("one before it in its group was skipped".to_owned());
            }
        }
        Ok(())
    }

    fn received(&mut self, leases: &[Delivery], max: usize, now_ms: u64) -> Verdict {
        if leases.len() > max {
            return Err(self.broken(format!("{max} were asked for, {} came", leases.len())));
        }
        let mut batch = BTreeSet::new();
        for lease in leases {
            if let Err(why) = self.may_come(lease.id, now_ms, &batch) {
                let body = &lease.content.body;
                return Err(self.broken(format!("{body} was delivered although {why}")));
            }
            batch.insert(lease.id);
            let known = self.live.get_mut(&lease.id).expect("it may come, so it is known");
            known.receives += 1;
            known.leased_until_ms = now_ms + VISIBILITY_MS;
            known.last_receipt = Some(lease.receipt);
            if known.receives != lease.receives {
                let (body, said, is) = (&lease.content.body, lease.receives, known.receives);
                return Err(self.broken(format!("{body}: receive {is} is said to be {said}")));
            }
        }
        // Those before what came, or everything if too little came, must not have been receivable.
        self.bury(now_ms);
        if leases.len() < max {
            let left =
                self.live.keys().find(|id| self.may_come(**id, now_ms, &BTreeSet::new()).is_ok());
            if let Some(left) = left {
                let seq = self.live[left].seq;
                return Err(self.broken(format!(
                    "{} of {max} came although message {seq} was receivable",
                    leases.len()
                )));
            }
        }
        Ok(())
    }

    /// Messages received as often as allowed and free again are given up by the next receive. If
    /// the answer has not got to one yet it may still be counted: the model takes either.
    fn bury(&mut self, now_ms: u64) {
        let over: Vec<_> = self
            .live
            .iter()
            .filter(|(_, it)| it.receives >= MAX_RECEIVES && it.leased_until_ms <= now_ms)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.live.remove(&id);
            self.dead.insert(id);
        }
    }
}

async fn a_standard_queue_agrees_with_the_model<F: Fixture>(it: Arc<F>) -> Verdict {
    agrees(it, Settings::standard()).await
}

async fn a_fifo_queue_agrees_with_the_model<F: Fixture>(it: Arc<F>) -> Verdict {
    agrees(it, Settings::fifo()).await
}

async fn agrees<F: Fixture>(it: Arc<F>, settings: Settings) -> Verdict {
    let mut rng = Seed::from_env_or_fresh().rng();
    let steps = (0..STEPS).map(|_| Step::random(&mut rng)).collect();
    let it = &*it;
    shrink::played(steps, |steps, time| play(it, settings.clone(), steps, time)).await
}

/// Plays a history on queues that no earlier one has used.
async fn play<F: Fixture>(it: &F, settings: Settings, steps: Vec<Step>, time: usize) -> Verdict {
    let is_fifo = settings.fifo.is_some();
    let called = format!("model-{time}");
    let (work, dead) = called_with_dead_letters(it, &called, settings, MAX_RECEIVES).await?;
    let mut model = Model {
        is_fifo,
        live: BTreeMap::new(),
        dead: BTreeSet::new(),
        accepted: BTreeMap::new(),
        sent: 0,
        history: vec![],
    };
    let mut receipts: Vec<(MessageId, Receipt)> = Vec::new();
    for step in steps {
        let now_ms = it.clock().now_ms();
        let some = |number: usize, receipts: &[(MessageId, Receipt)]| {
            (!receipts.is_empty()).then(|| receipts[number % receipts.len()])
        };
        match step {
            Step::Send { group, dedup_id, delay_ms } => {
                send_one(it, &work, &mut model, (group, dedup_id, delay_ms)).await?;
            }
            Step::Receive { max } => {
                let leases = receive(it, &work, max).await?;
                model.history.push(format!("{now_ms}: receive {max} -> {:?}", bodies(&leases)));
                model.received(&leases, max, now_ms)?;
                receipts.extend(leases.iter().map(|lease| (lease.id, lease.receipt)));
            }
            Step::Delete { receipt } => {
                let Some((id, receipt)) = some(receipt, &receipts) else { continue };
                delete_one(it, &work, &mut model, id, receipt).await?;
            }
            Step::Move { receipt, ms } => {
                let Some(held) = some(receipt, &receipts) else { continue };
                move_one(it, &work, &mut model, held, ms).await?;
            }
            Step::Pass { ms } => {
                it.clock().advance_ms(ms);
                model.history.push(format!("{now_ms}: {ms} ms pass"));
            }
        }
    }
    finish(it, &work, &dead, &mut model).await
}

async fn send_one<F: Fixture>(
    it: &F,
    work: &QueueId,
    model: &mut Model,
    (group, dedup_id, delay_ms): (u8, u8, u64),
) -> Verdict {
    let now_ms = it.clock().now_ms();
    let group = if model.is_fifo { format!("g{group}") } else { String::new() };
    let dedup_id = format!("d{dedup_id}");
    let delay_ms = if model.is_fifo { 0 } else { delay_ms };
    let mut content = Content::text(format!("#{}", model.sent));
    if model.is_fifo {
        (content.group, content.dedup_id) = (Some(group.as_str().into()), Some(dedup_id.clone()));
    }
    let new = NewMessage { delay_ms: Some(delay_ms), ..NewMessage::new(content) };
    let (id, body) = (new.id, new.content.body.clone());
    let sent = send(it, work, new).await?;
    model.history.push(format!("{now_ms}: send {body} {group} {dedup_id} +{delay_ms} ms"));
    let original =
        model.accepted.get(&dedup_id).filter(|(_, until_ms)| model.is_fifo && *until_ms > now_ms);
    let expected = original.map_or(id, |(original, _)| *original);
    if sent.id != expected {
        return Err(model.broken(format!("{body} was answered as {}, not {expected}", sent.id)));
    }
    if original.is_none() {
        model.accepted.insert(dedup_id, (id, now_ms + DEDUP_WINDOW_MS));
        let known = Known {
            seq: model.sent,
            group,
            hidden_until_ms: now_ms + delay_ms,
            leased_until_ms: 0,
            receives: 0,
            last_receipt: None,
        };
        model.live.insert(id, known);
    }
    model.sent += 1;
    Ok(())
}

async fn delete_one<F: Fixture>(
    it: &F,
    work: &QueueId,
    model: &mut Model,
    id: MessageId,
    receipt: Receipt,
) -> Verdict {
    let now_ms = it.clock().now_ms();
    let deleted = delete(it, work, receipt).await?;
    model.history.push(format!("{now_ms}: delete {id} -> {deleted:?}"));
    let Some(known) = model.live.get(&id) else {
        // Gone, or about to be buried: deleting it now is deleting what nobody gets.
        return match deleted {
            Ok(()) => Ok(()),
            Err(Error::Stale | Error::Expired) if model.dead.contains(&id) => Ok(()),
            Err(error) => Err(model.broken(format!("deleting what is gone failed: {error}"))),
        };
    };
    let is_last = known.last_receipt == Some(receipt);
    let is_held = known.leased_until_ms > now_ms;
    let expected = is_last && (is_held || !model.is_fifo);
    if deleted.is_ok() != expected {
        let what = if expected { "a valid receipt" } else { "a stale or expired receipt" };
        return Err(model.broken(format!("deleting with {what} answered {deleted:?}")));
    }
    if expected {
        model.live.remove(&id);
    }
    Ok(())
}

async fn move_one<F: Fixture>(
    it: &F,
    work: &QueueId,
    model: &mut Model,
    (id, receipt): (MessageId, Receipt),
    ms: u64,
) -> Verdict {
    let now_ms = it.clock().now_ms();
    let moved = change(it, work, receipt, ms).await?;
    model.history.push(format!("{now_ms}: hide {id} for {ms} ms -> {moved:?}"));
    let known = model.live.get_mut(&id);
    let is_holder = known
        .as_ref()
        .is_some_and(|it| it.last_receipt == Some(receipt) && it.leased_until_ms > now_ms);
    if moved.is_ok() != is_holder {
        return Err(model.broken(format!("moving a lease {is_holder} held answered {moved:?}")));
    }
    if let Some(known) = known.filter(|_| is_holder) {
        known.leased_until_ms = now_ms + ms;
    }
    Ok(())
}

/// In the end everything that is left comes out, and nothing else.
async fn finish<F: Fixture>(it: &F, work: &QueueId, dead: &QueueId, model: &mut Model) -> Verdict {
    it.clock().advance_ms(seconds(100));
    loop {
        let now_ms = it.clock().now_ms();
        let leases = receive(it, work, 10).await?;
        model.history.push(format!("{now_ms}: drain -> {:?}", bodies(&leases)));
        model.received(&leases, 10, now_ms)?;
        if leases.is_empty() {
            break;
        }
        for lease in leases {
            delete(it, work, lease.receipt).await?.map_err(failed)?;
            model.live.remove(&lease.id);
        }
    }
    if !model.live.is_empty() {
        return Err(model.broken(format!("{} messages never came", model.live.len())));
    }
    loop {
        let letters = receive(it, dead, 10).await?;
        if letters.is_empty() {
            return Ok(());
        }
        for letter in letters {
            if letter.receives > 1 {
                continue;
            }
            if !model.dead.remove(&letter.id) && model.dead.is_empty() {
                let body = &letter.content.body;
                return Err(model.broken(format!("{body} became a dead letter without cause")));
            }
            delete(it, dead, letter.receipt).await?.map_err(failed)?;
        }
    }
}
