//! The connections of this server, and who of them hears what.
//!
//! An event names a conversation. Its members come from a cache of member lists; each list has a
//! version, each event names the version it was made under, and a list that is older is read
//! again. So a list is read once per change and server, not once per message.
//!
//! Dispatching never waits: what the bus says is put into mailboxes, and the mailboxes are
//! bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::bus::{Event, Signal};
use crate::chat::{Members, Receipt, Store};
use crate::ids::{ConversationId, DeviceId, Seq, UserId};
use crate::mailbox::{Live, Mailbox, Notice, SessionId, Taken};
use crate::protocol::CloseCode;

/// Member lists kept. Above it some are dropped and read again when needed.
pub(crate) const MEMBER_LISTS_MAX: usize = 65_536;
/// Receipts and typing are told in conversations up to this size: in larger ones everybody would
/// hear everybody, which grows with the square.
pub(crate) const TALKATIVE_MEMBERS_MAX: usize = 64;
/// Events that wait for one member list to be read. Above it they become one `Moved`.
const WAITING_MAX: usize = 256;
/// Pause before a member list is asked for again when the store failed.
const RELOAD_PAUSE: Duration = Duration::from_millis(200);
/// Most connections of one user on this server.
pub(crate) const CONNECTIONS_PER_USER_MAX: usize = 16;

/// A connection, as the hub sees it.
pub(crate) struct Handle {
    pub(crate) id: SessionId,
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    mailbox: Mutex<Mailbox>,
    wake: Notify,
}

impl Handle {
    pub(crate) fn new(id: SessionId, user: UserId, device: DeviceId) -> Self {
        Self { id, user, device, mailbox: Mutex::default(), wake: Notify::new() }
    }

    /// Changes the mailbox, then wakes the connection.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Mailbox)) {
        change(&mut self.mailbox.lock());
        self.wake.notify_one();
    }

    /// Waits until there is something in the mailbox, and takes it.
    pub(crate) async fn take(&self) -> Taken {
        self.wake.notified().await;
        self.take_now()
    }

    /// Takes what is in the mailbox.
    pub(crate) fn take_now(&self) -> Taken {
        self.mailbox.lock().take()
    }
}

/// The connections of this server.
pub(crate) struct Hub<S> {
    store: Arc<S>,
    sessions: RwLock<HashMap<UserId, Vec<Arc<Handle>>>>,
    watchers: RwLock<HashMap<UserId, Vec<Arc<Handle>>>>,
    lists: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    known: HashMap<ConversationId, Members>,
    /// How far members are, as this server has told it. Receipts of one user come by several ways
    /// and overtake each other; without this a tick would go back.
    told: HashMap<ConversationId, HashMap<UserId, Receipt>>,
    /// Events that wait for a list that is being read.
    loading: HashMap<ConversationId, Vec<Event>>,
}

impl<S: Store> Hub<S> {
    pub(crate) fn new(store: Arc<S>) -> Self {
        let (sessions, watchers) = (RwLock::default(), RwLock::default());
        Self { store, sessions, watchers, lists: Mutex::default() }
    }

    /// Adds a connection; from here on it hears everything. True when it is the user's first here.
    pub(crate) fn add(&self, handle: &Arc<Handle>) -> bool {
        let mut sessions = self.sessions.write();
        let of_user = sessions.entry(handle.user.clone()).or_default();
        of_user.push(Arc::clone(handle));
        if of_user.len() > CONNECTIONS_PER_USER_MAX {
            of_user[0].tell(|mailbox| mailbox.close(CloseCode::Displaced));
        }
        of_user.len() == 1
    }

    /// Removes a connection.
    pub(crate) fn remove(&self, handle: &Handle) {
        let mut sessions = self.sessions.write();
        if let Some(of_user) = sessions.get_mut(&handle.user) {
            of_user.retain(|other| other.id != handle.id);
            if of_user.is_empty() {
                sessions.remove(&handle.user);
            }
        }
    }

    pub(crate) fn is_online(&self, user: &UserId) -> bool {
        self.sessions.read().contains_key(user)
    }

    /// Those of `users` that are connected here.
    pub(crate) fn online(&self, users: &[UserId]) -> Vec<UserId> {
        let sessions = self.sessions.read();
        users.iter().filter(|user| sessions.contains_key(*user)).cloned().collect()
    }

    pub(crate) fn watch(&self, handle: &Arc<Handle>, users: &[UserId]) {
        let mut watchers = self.watchers.write();
        for user in users {
            let watching = watchers.entry(user.clone()).or_default();
            if watching.iter().all(|other| other.id != handle.id) {
                watching.push(Arc::clone(handle));
            }
        }
    }

    pub(crate) fn unwatch(&self, handle: &Handle, users: &[UserId]) {
        let mut watchers = self.watchers.write();
        for user in users {
            if let Some(watching) = watchers.get_mut(user) {
                watching.retain(|other| other.id != handle.id);
                if watching.is_empty() {
                    watchers.remove(user);
                }
            }
        }
    }

    /// Hears the bus. Never waits.
    pub(crate) fn hear(self: &Arc<Self>, signal: Signal) {
        match signal {
            Signal::Gap => self.resync(),
            Signal::Event(event) => self.dispatch(event),
        }
    }

    fn resync(&self) {
        self.lists.lock().known.clear();
        for handle in self.sessions.read().values().flatten() {
            handle.tell(Mailbox::resync);
        }
    }

    fn dispatch(self: &Arc<Self>, event: Event) {
        match event {
            Event::Message { ref message, members_version, .. } => {
                self.to_members(message.conversation, members_version, event);
            }
            Event::Moved { conversation, members_version, .. } => {
                self.to_members(conversation, members_version, event);
            }
            Event::Receipt { ref receipt, members_version } => {
                self.to_members(receipt.conversation, members_version, event);
            }
            Event::Typing { conversation, .. } => self.to_members(conversation, 0, event),
            Event::Presence { user, online } => {
                let notice = Notice::presence(user.clone(), online);
                for handle in self.watchers.read().get(&user).into_iter().flatten() {
                    handle.tell(|mailbox| mailbox.notice(notice.clone()));
                }
            }
            Event::Removed { conversation, user } => {
                self.to_user(&user, |handle| handle.tell(|m| m.removed(conversation)));
            }
            Event::Connected { user, device, session } => self.to_user(&user, |handle| {
                if handle.device == device && handle.id < session {
                    handle.tell(|mailbox| mailbox.close(CloseCode::Displaced));
                }
            }),
            Event::DeviceRemoved { user, device } => self.to_user(&user, |handle| {
                if handle.device == device {
                    handle.tell(|mailbox| mailbox.close(CloseCode::Unauthorised));
                }
            }),
            Event::Roll { .. } => {} // answered by the node, which can publish
        }
    }

    fn to_user(&self, user: &UserId, tell: impl Fn(&Handle)) {
        for handle in self.sessions.read().get(user).into_iter().flatten() {
            tell(handle);
        }
    }

    /// Delivers to the members, reading their list first where the one known is too old.
    fn to_members(self: &Arc<Self>, id: ConversationId, version: u64, event: Event) {
        let mut lists = self.lists.lock();
        if let Some(waiting) = lists.loading.get_mut(&id) {
            return wait_in_line(waiting, id, event);
        }
        match lists.known.get(&id) {
            Some(members) if members.version >= version => {
                let users = Arc::clone(&members.users);
                match event {
                    // Under the lock, so that what is told only grows.
                    Event::Receipt { receipt, .. } => {
                        self.tell_receipt(&mut lists, &users, receipt)
                    }
                    event => {
                        drop(lists);
                        self.deliver(&users, &event);
                    }
                }
            }
            _ => {
                lists.loading.insert(id, vec![event]);
                drop(lists);
                tokio::spawn(Arc::clone(self).load(id));
            }
        }
    }

    async fn load(self: Arc<Self>, id: ConversationId) {
        let members = loop {
            match self.store.members(id).await {
                Ok(members) => break members,
                Err(error) => {
                    tracing::warn!(%error, conversation = %id, "member list not read; trying again");
                    tokio::time::sleep(RELOAD_PAUSE).await;
                }
            }
        };
        let users = Arc::clone(&members.users);
        let mut lists = self.lists.lock();
        if lists.known.len() >= MEMBER_LISTS_MAX {
            let some: Vec<_> = lists.known.keys().take(MEMBER_LISTS_MAX / 16).copied().collect();
            for id in &some {
                lists.known.remove(id);
                lists.told.remove(id);
            }
        }
        lists.known.insert(id, members);
        let waiting = lists.loading.remove(&id).unwrap_or_default();
        // Still under the lock, or an event that comes now would overtake those that waited.
        for event in waiting {
            match event {
                Event::Receipt { receipt, .. } => self.tell_receipt(&mut lists, &users, receipt),
                event => self.deliver(&users, &event),
            }
        }
    }

    fn tell_receipt(&self, lists: &mut Lists, users: &[UserId], receipt: Receipt) {
        if users.len() > TALKATIVE_MEMBERS_MAX {
            return;
        }
        let told = lists.told.entry(receipt.conversation).or_default();
        let kept = told.entry(receipt.user.clone()).or_insert_with(|| receipt.clone());
        kept.delivered = receipt.delivered.max(kept.delivered);
        kept.read = receipt.read.max(kept.read);
        let kept = kept.clone();
        told.retain(|user, _| users.contains(user));
        self.to_each(users, |handle| handle.tell(|mailbox| mailbox.receipt(&kept)));
    }

    fn deliver(&self, users: &[UserId], event: &Event) {
        match event {
            Event::Message { message, origin, .. } => {
                let live = Live::new(Arc::clone(message), *origin);
                self.to_each(users, |handle| handle.tell(|mailbox| mailbox.message(&live)));
            }
            Event::Moved { conversation, last_seq, .. } => {
                self.to_each(users, |h| h.tell(|mailbox| mailbox.moved(*conversation, *last_seq)));
            }
            Event::Typing { conversation, user } if users.len() <= TALKATIVE_MEMBERS_MAX => {
                let notice = Notice::typing(*conversation, user.clone());
                self.to_each(users, |handle| {
                    if handle.user != *user {
                        handle.tell(|mailbox| mailbox.notice(notice.clone()));
                    }
                });
            }
            _ => {}
        }
    }

    fn to_each(&self, users: &[UserId], tell: impl Fn(&Handle)) {
        let sessions = self.sessions.read();
        for handle in users.iter().filter_map(|user| sessions.get(user)).flatten() {
            tell(handle);
        }
    }
}

/// Bounded: above the bound the events become a single note of how far the log reaches.
fn wait_in_line(waiting: &mut Vec<Event>, conversation: ConversationId, event: Event) {
    if waiting.len() < WAITING_MAX {
        return waiting.push(event);
    }
    let (seq, version) = match &event {
        Event::Message { message, members_version, .. } => (message.seq, *members_version),
        Event::Moved { last_seq, members_version, .. } => (*last_seq, *members_version),
        _ => return,
    };
    let far = |event: &Event| match event {
        Event::Moved { last_seq, .. } => *last_seq,
        _ => Seq(0),
    };
    let last_seq = waiting.last().map_or(seq, |last| far(last).max(seq));
    if matches!(waiting.last(), Some(Event::Moved { .. })) {
        waiting.pop();
    }
    waiting.push(Event::Moved { conversation, last_seq, members_version: version });
}
