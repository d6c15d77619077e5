//! One server: what its connections and its REST routes share, and the two things it does in the
//! background: telling the other servers what was appended, and making good for servers that died
//! before they could.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rate_limiter::store::memory::{Memory as LimiterMemory, MemoryLimiter};
use rate_limiter::{AlgorithmName, Policy, Store as _};
use service::Clock;

use crate::bus::{Bus, Event, Signal};
use crate::chat::{Appended, Changed, Content, Error, Message, NewMessage, Store};
use crate::hub::{Handle, Hub};
use crate::ids::{ConversationId, Seq, UserId};
use crate::mailbox::SessionId;
use crate::password::Passwords;
use crate::protocol::ServerFrame;
use crate::token::Tokens;

/// How often what was published is noted in the store, all conversations at once.
const NOTE_EVERY: Duration = Duration::from_millis(200);
/// How often the store is asked for what nobody was told of. A message whose server died between
/// commit and publish waits at most two of these.
const RELAY_EVERY: Duration = Duration::from_millis(500);
/// Conversations made good for at once.
const RELAY_MAX: usize = 256;

/// What a node may be told to do differently.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Messages per second and user, sustained.
    pub sends_per_second: u32,
    /// Messages a user may send at once after a pause.
    pub send_burst: u32,
    /// Connections per minute and address; 0 for no limit (behind a proxy that limits).
    pub connects_per_minute: u32,
    /// How long a client may take nothing from its socket before it is closed as slow.
    pub slow_ms: u64,
    /// How long a client may say nothing before it is closed as silent.
    pub silence_ms: u64,
    /// Hash passwords with the least work: for tests and load generators.
    pub cheap_passwords: bool,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            sends_per_second: 100,
            send_burst: 500,
            connects_per_minute: 600,
            slow_ms: 15_000,
            silence_ms: crate::protocol::SILENCE_MS_MAX,
            cheap_passwords: false,
        }
    }
}

/// One server. Clones share it.
pub struct Node<S, B> {
    pub(crate) store: Arc<S>,
    pub(crate) bus: Arc<B>,
    pub(crate) hub: Arc<Hub<S>>,
    pub(crate) clock: Clock,
    pub(crate) tokens: Tokens,
    pub(crate) passwords: Passwords,
    pub(crate) sends: Arc<MemoryLimiter>,
    pub(crate) connects: Option<Arc<MemoryLimiter>>,
    pub(crate) settings: NodeSettings,
    /// What was published and not yet noted; one entry per active conversation.
    noted: Arc<Mutex<HashMap<ConversationId, Seq>>>,
}

impl<S, B> Clone for Node<S, B> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            bus: Arc::clone(&self.bus),
            hub: Arc::clone(&self.hub),
            clock: self.clock.clone(),
            tokens: self.tokens.clone(),
            passwords: self.passwords.clone(),
            sends: Arc::clone(&self.sends),
            connects: self.connects.clone(),
            settings: self.settings.clone(),
            noted: Arc::clone(&self.noted),
        }
    }
}

impl<S: Store, B: Bus> Node<S, B> {
    /// A server over `store` that listens to `bus`. Its background work ends with `closing`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the bus cannot be listened to.
    pub async fn start(
        store: Arc<S>,
        bus: Arc<B>,
        clock: Clock,
        settings: NodeSettings,
        closing: tokio_util::sync::CancellationToken,
    ) -> Result<Self, Error> {
        let hub = Arc::new(Hub::new(Arc::clone(&store)));
        let limiters = LimiterMemory::default();
        let limit = |name, rate: u32, per_ms, burst| {
            let policy =
                Policy::single(name, AlgorithmName::TokenBucket, rate, per_ms, Some(burst));
            policy.map(|policy| Arc::new(limiters.limiter(policy))).map_err(|error| {
                Error::Unavailable { what: "make a rate limit", source: Some(Box::new(error)) }
            })
        };
        let sends = limit("send", settings.sends_per_second, 1_000, settings.send_burst)?;
        let connects = match settings.connects_per_minute {
            0 => None,
            rate => Some(limit("connect", rate, 60_000, rate)?),
        };
        let tokens = Tokens::new(&store.identity().token_key);
        let passwords =
            if settings.cheap_passwords { Passwords::cheap() } else { Passwords::default() };
        let noted = Arc::default();
        let node =
            Self { store, bus, hub, clock, tokens, passwords, sends, connects, settings, noted };
        let listening = node.clone();
        let listener = move |signal| listening.hear(signal);
        node.bus.attach(Arc::new(listener)).await?;
        let relaying = node.clone();
        tokio::spawn(async move { closing.run_until_cancelled(relaying.relay()).await });
        Ok(node)
    }

    fn hear(&self, signal: Signal) {
        if let Signal::Event(Event::Roll { users }) = &signal {
            let here = self.hub.online(users);
            let bus = Arc::clone(&self.bus);
            tokio::spawn(async move {
                let there = here.into_iter().map(|user| Event::Presence { user, online: true });
                drop(bus.publish_all(there.collect()).await);
            });
            return;
        }
        self.hub.hear(signal);
    }

    /// Appends, answers, then tells everybody. Run as a task of its own: a connection that ends in
    /// between must not keep a message that is in the log from being told. False when what became
    /// of some of it is not known; that is not answered.
    pub(crate) async fn append(self, from: Arc<Handle>, batch: Vec<NewMessage>) -> bool {
        let results = self.store.append(batch.clone()).await;
        let is_known =
            |result: &Result<_, Error>| !matches!(result, Err(Error::Unavailable { .. }));
        let all_known = results.iter().all(is_known);
        let known = batch.iter().zip(&results).filter(|(_, result)| is_known(result));
        let answers: Vec<_> = known.map(|(new, result)| answer(new, result)).collect();
        from.tell(|mailbox| answers.into_iter().for_each(|frame| mailbox.answer(frame)));
        let appended = batch.into_iter().zip(results).filter_map(|(new, result)| match result {
            // A duplicate was told by whoever appended it, or is by the relay.
            Ok(appended) if !appended.duplicate => Some((new, appended)),
            _ => None,
        });
        self.publish(from.id, appended.collect()).await;
        all_known
    }

    async fn publish(&self, origin: SessionId, appended: Vec<(NewMessage, Appended)>) {
        if appended.is_empty() {
            return;
        }
        let places: Vec<_> = appended.iter().map(|(new, at)| (new.conversation, at.seq)).collect();
        let events = appended.into_iter().map(|(new, appended)| Event::Message {
            message: Arc::new(logged(new, appended)),
            members_version: appended.members_version,
            origin: Some(origin),
        });
        match self.bus.publish_all(events.collect()).await {
            Ok(()) => places.into_iter().for_each(|(id, seq)| self.note(id, seq)),
            Err(error) => tracing::debug!(%error, "not published; the relay will"),
        }
    }

    /// Tells everybody that a conversation changed.
    pub(crate) async fn publish_change(&self, change: Changed, removed: Option<UserId>) {
        if !change.changed {
            return;
        }
        let Changed { conversation, last_seq, members_version, .. } = change;
        if let Some(user) = removed {
            self.publish_lossy(Event::Removed { conversation, user }).await;
        }
        let moved = self.bus.publish(Event::Moved { conversation, last_seq, members_version });
        match moved.await {
            Ok(()) => self.note(conversation, last_seq),
            Err(error) => tracing::warn!(%error, "not published; the relay will"),
        }
    }

    /// For what may be lost.
    pub(crate) async fn publish_lossy(&self, event: Event) {
        self.publish_all_lossy(vec![event]).await;
    }

    /// The same for several.
    pub(crate) async fn publish_all_lossy(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.bus.publish_all(events).await {
            tracing::debug!(%error, "a notice was not published");
        }
    }

    fn note(&self, conversation: ConversationId, seq: Seq) {
        let mut noted = self.noted.lock();
        let kept = noted.entry(conversation).or_default();
        *kept = seq.max(*kept);
    }

    async fn relay(self) {
        let mut note = tokio::time::interval(NOTE_EVERY);
        let mut relay = tokio::time::interval(RELAY_EVERY);
        let mut seen = HashMap::new();
        loop {
            let step = tokio::select! {
                _ = note.tick() => self.note_published().await,
                _ = relay.tick() => self.relay_unpublished(&mut seen).await,
            };
            if let Err(error) = step {
                tracing::debug!(%error, "the relay will try again");
            }
        }
    }

    async fn note_published(&self) -> Result<(), Error> {
        let noted = std::mem::take(&mut *self.noted.lock());
        if noted.is_empty() {
            return Ok(());
        }
        let outcome = self.store.published(noted.iter().map(|(id, seq)| (*id, *seq)).collect());
        let outcome = outcome.await;
        if outcome.is_err() {
            noted.into_iter().for_each(|(id, seq)| self.note(id, seq));
        }
        outcome
    }

    /// Publishes what stood unpublished, at the same place, also the last time: nobody is about to
    /// tell of it any more.
    async fn relay_unpublished(
        &self,
        seen: &mut HashMap<ConversationId, Seq>,
    ) -> Result<(), Error> {
        self.note_published().await?; // or what this server is busy with would crowd out the rest
        let unpublished = self.store.unpublished(RELAY_MAX).await?;
        let before = std::mem::take(seen);
        for change in unpublished {
            if before.get(&change.conversation) == Some(&change.last_seq) {
                self.publish_change(change, None).await;
            }
            seen.insert(change.conversation, change.last_seq);
        }
        Ok(())
    }
}

/// The message as it is in the log.
fn logged(new: NewMessage, appended: Appended) -> Message {
    Message {
        conversation: new.conversation,
        seq: appended.seq,
        sender: new.sender,
        client_id: new.client_id,
        at_ms: appended.at_ms,
        content: Content::Text(new.text),
    }
}

fn answer(new: &NewMessage, result: &Result<Appended, Error>) -> ServerFrame {
    let (client_id, conversation) = (new.client_id, new.conversation);
    match result {
        Ok(Appended { seq, at_ms, duplicate, .. }) => ServerFrame::Sent {
            client_id,
            conversation,
            seq: *seq,
            at_ms: *at_ms,
            duplicate: *duplicate,
        },
        Err(error) => ServerFrame::refusal(error, Some(client_id), None),
    }
}
