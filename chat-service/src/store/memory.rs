//! In memory: the smallest correct answer, for one server and for as long as it runs.
//!
//! One lock around everything. An append holds it for about a microsecond, which is far less than
//! the socket it came by costs; what this answer lacks is not speed but durability.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::chat::{
    Account, Appended, CLIENT_ID_REUSED, Changed, Content, DEVICES_PER_USER_MAX, Device, Error,
    Identity, Members, Moved, NO_CONVERSATION, NewGroup, NewMessage, Page, PageLimit, Receipt,
    Store, Summaries, Summary, check_named,
};
use crate::conversation::{Conversation, check_room};
use crate::ids::{ClientId, ConversationId, DeviceId, Seq, UserId};

/// Most bytes of messages kept unless told otherwise. At the bound, appends are refused with
/// [`Error::Full`] and everything kept stays readable.
pub const BYTES_MAX_DEFAULT: usize = 2 * 1024 * 1024 * 1024;
/// What a message weighs beside its text.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// The in-memory store.
pub struct Memory {
    identity: Identity,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    accounts: HashMap<UserId, Account>,
    devices: HashMap<UserId, BTreeMap<DeviceId, Device>>,
    conversations: HashMap<ConversationId, Conversation>,
    of_user: HashMap<UserId, BTreeSet<ConversationId>>,
    directs: HashMap<(UserId, UserId), ConversationId>,
    /// Which message a client id became. Kept as long as the message: a phone that was off for a
    /// week retries what it sent before.
    by_client_id: HashMap<(UserId, ClientId), (ConversationId, Seq)>,
    unpublished: BTreeSet<ConversationId>,
    bytes: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(BYTES_MAX_DEFAULT)
    }
}

impl Memory {
    /// An empty store that keeps at most `bytes_max` of messages.
    pub fn new(bytes_max: usize) -> Self {
        Self { identity: Identity::fresh(), bytes_max, state: Mutex::default() }
    }
}

impl State {
    fn conversation(&mut self, id: ConversationId) -> Result<&mut Conversation, Error> {
        self.conversations.get_mut(&id).ok_or(NO_CONVERSATION)
    }

    fn append(&mut self, new: NewMessage, bytes_max: usize) -> Result<Appended, Error> {
        new.check()?;
        let key = (new.sender.clone(), new.client_id);
        if let Some(&(conversation, seq)) = self.by_client_id.get(&key) {
            return self.original(&new, conversation, seq);
        }
        let bytes = new.text.len() + MESSAGE_OVERHEAD_BYTES;
        if self.bytes + bytes > bytes_max {
            return Err(Error::Full { field: "bytes", bound: bytes_max });
        }
        let id = new.conversation;
        let appended = self.conversation(id)?.append(new)?;
        self.bytes += bytes;
        self.by_client_id.insert(key, (id, appended.seq));
        self.unpublished.insert(id);
        Ok(appended)
    }

    /// The place a repeated message has had since the first attempt.
    fn original(
        &self,
        new: &NewMessage,
        conversation: ConversationId,
        seq: Seq,
    ) -> Result<Appended, Error> {
        let kept = &self.conversations[&conversation];
        let message = kept.at(seq);
        let same = matches!(&message.content, Content::Text(text) if *text == new.text);
        if conversation != new.conversation || !same {
            return Err(CLIENT_ID_REUSED);
        }
        let members_version = kept.changed(false).members_version;
        Ok(Appended { seq, at_ms: message.at_ms, duplicate: true, members_version })
    }

    fn known(&self, user: &UserId, field: &'static str) -> Result<(), Error> {
        self.accounts.contains_key(user).then_some(()).ok_or(Error::NotFound { field })
    }

    fn has_room(&self, user: &UserId) -> Result<(), Error> {
        check_room(self.of_user.get(user).map_or(0, BTreeSet::len))
    }

    /// Checks that these accounts exist and may join one more conversation.
    fn may_join(&self, users: &[UserId]) -> Result<(), Error> {
        users.iter().try_for_each(|user| self.known(user, "members").and(self.has_room(user)))
    }

    fn list_for(&mut self, users: &[UserId], id: ConversationId) {
        for user in users {
            self.of_user.entry(user.clone()).or_default().insert(id);
        }
    }

    fn open_direct(&mut self, by: UserId, with: UserId) -> Result<Changed, Error> {
        if by == with {
            return Err(Error::invalid("with", "must be somebody else"));
        }
        self.known(&by, "by")?;
        self.known(&with, "with")?;
        let pair = if by < with { (by, with) } else { (with, by) };
        if let Some(id) = self.directs.get(&pair) {
            return Ok(self.conversations[id].changed(false));
        }
        let users = [pair.0.clone(), pair.1.clone()];
        users.iter().try_for_each(|user| self.has_room(user))?;
        let conversation =
            Conversation::new(ConversationId::fresh(), None, None, users.iter().cloned());
        let (id, changed) = (conversation.id, conversation.changed(true));
        self.conversations.insert(id, conversation);
        self.list_for(&users, id);
        self.directs.insert(pair, id);
        Ok(changed)
    }

    fn create_group(&mut self, group: NewGroup) -> Result<Changed, Error> {
        group.check()?;
        if let Some(there) = self.conversations.get(&group.conversation) {
            return match &there.admin {
                Some(admin) if *admin == group.by => Ok(there.changed(false)),
                _ => Err(Error::Conflict { field: "conversation", reason: "is another's" }),
            };
        }
        self.known(&group.by, "by").and(self.has_room(&group.by))?;
        self.may_join(&group.members)?;
        let (id, by) = (group.conversation, group.by);
        let mut conversation =
            Conversation::new(id, Some(group.title), Some(by.clone()), [by.clone()]);
        conversation.join(&by, &group.members, group.now_ms)?;
        let changed = conversation.changed(true);
        self.conversations.insert(id, conversation);
        self.list_for(&group.members, id);
        self.list_for(&[by], id);
        self.unpublished.insert(id);
        Ok(changed)
    }

    fn add_members(
        &mut self,
        by: &UserId,
        id: ConversationId,
        users: &[UserId],
        now_ms: u64,
    ) -> Result<Changed, Error> {
        check_named(users)?;
        if !self.conversation(id)?.administered_by(by)? {
            return Err(Error::Forbidden { field: "members", reason: "are the admin's to add" });
        }
        let conversation = &self.conversations[&id];
        let new: Vec<UserId> =
            users.iter().filter(|user| !conversation.has(user)).cloned().collect();
        self.may_join(&new)?;
        let changed = self.conversation(id)?.join(by, &new, now_ms)?;
        self.list_for(&new, id);
        self.unpublished.insert(id);
        Ok(changed)
    }

    fn remove_member(
        &mut self,
        by: &UserId,
        id: ConversationId,
        member: &UserId,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        let conversation = self.conversation(id)?;
        if !conversation.administered_by(by)? && by != member {
            return Err(Error::Forbidden { field: "member", reason: "is the admin's to remove" });
        }
        let changed = conversation.leave(by, member, now_ms)?;
        if let Some(listed) = self.of_user.get_mut(member) {
            listed.remove(&id);
        }
        self.unpublished.insert(id);
        Ok(changed)
    }

    fn summary(&self, user: &UserId, device: &DeviceId, id: ConversationId) -> Summary {
        let conversation = &self.conversations[&id];
        let is_direct = conversation.admin.is_none();
        Summary {
            conversation: id,
            title: conversation.title.clone(),
            with: is_direct.then(|| conversation.other(user)).flatten(),
            members: conversation.member_count() as u64,
            last_seq: conversation.last_seq(),
            read_seq: conversation.read_seq(user),
            delivered_seq: conversation.delivered_seq(user, device),
            unread: conversation.unread(user),
            newest: conversation.newest_for(user),
        }
    }
}

impl Store for Memory {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn create_account(&self, account: Account) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.accounts.contains_key(&account.user) {
            return Err(Error::Conflict { field: "user", reason: "is taken" });
        }
        state.accounts.insert(account.user.clone(), account);
        Ok(())
    }

    async fn account(&self, user: UserId) -> Result<Option<Account>, Error> {
        Ok(self.state.lock().accounts.get(&user).cloned())
    }

    async fn put_device(&self, user: UserId, device: DeviceId, now_ms: u64) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.known(&user, "user")?;
        let devices = state.devices.entry(user).or_default();
        if !devices.contains_key(&device) && devices.len() >= DEVICES_PER_USER_MAX {
            return Err(Error::Full { field: "devices", bound: DEVICES_PER_USER_MAX });
        }
        devices.entry(device.clone()).or_insert(Device { device, added_ms: now_ms });
        Ok(())
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, Error> {
        let state = self.state.lock();
        Ok(state.devices.get(&user).map(|d| d.values().cloned().collect()).unwrap_or_default())
    }

    async fn remove_device(&self, user: UserId, device: DeviceId) -> Result<(), Error> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let removed = state.devices.get_mut(&user).and_then(|devices| devices.remove(&device));
        removed.ok_or(Error::NotFound { field: "device" })?;
        for id in state.of_user.get(&user).into_iter().flatten() {
            if let Some(conversation) = state.conversations.get_mut(id) {
                conversation.forget_device(&user, &device);
            }
        }
        Ok(())
    }

    async fn open_direct(&self, by: UserId, with: UserId) -> Result<Changed, Error> {
        self.state.lock().open_direct(by, with)
    }

    async fn create_group(&self, group: NewGroup) -> Result<Changed, Error> {
        self.state.lock().create_group(group)
    }

    async fn add_members(
        &self,
        by: UserId,
        conversation: ConversationId,
        members: Vec<UserId>,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        self.state.lock().add_members(&by, conversation, &members, now_ms)
    }

    async fn remove_member(
        &self,
        by: UserId,
        conversation: ConversationId,
        member: UserId,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        self.state.lock().remove_member(&by, conversation, &member, now_ms)
    }

    async fn members(&self, conversation: ConversationId) -> Result<Members, Error> {
        let mut state = self.state.lock();
        let members = state.conversations.get_mut(&conversation).map(Conversation::members);
        Ok(members.unwrap_or_else(|| Members { version: 0, users: Arc::new([]) }))
    }

    async fn append(&self, messages: Vec<NewMessage>) -> Vec<Result<Appended, Error>> {
        let mut state = self.state.lock();
        messages.into_iter().map(|message| state.append(message, self.bytes_max)).collect()
    }

    async fn since(
        &self,
        reader: UserId,
        conversation: ConversationId,
        after: Seq,
        limit: PageLimit,
    ) -> Result<Page, Error> {
        self.state.lock().conversation(conversation)?.since(&reader, after, limit)
    }

    async fn before(
        &self,
        reader: UserId,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: PageLimit,
    ) -> Result<Page, Error> {
        self.state.lock().conversation(conversation)?.before(&reader, before, limit)
    }

    async fn acknowledge(
        &self,
        user: UserId,
        device: DeviceId,
        cursors: Vec<(ConversationId, Seq)>,
    ) -> Vec<Result<Moved, Error>> {
        let mut state = self.state.lock();
        let mut acknowledge =
            |(id, seq)| state.conversation(id).and_then(|log| log.acknowledge(&user, &device, seq));
        cursors.into_iter().map(&mut acknowledge).collect()
    }

    async fn read(
        &self,
        user: UserId,
        conversation: ConversationId,
        seq: Seq,
    ) -> Result<Moved, Error> {
        self.state.lock().conversation(conversation)?.read(&user, seq)
    }

    async fn receipts(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Vec<Receipt>, Error> {
        self.state.lock().conversation(conversation)?.receipts(&user)
    }

    async fn summaries(
        &self,
        user: UserId,
        device: DeviceId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Summaries, Error> {
        use std::ops::Bound::{Excluded, Unbounded};
        let state = self.state.lock();
        let Some(listed) = state.of_user.get(&user) else { return Ok(Summaries::default()) };
        let mut ids = listed.range((after.map_or(Unbounded, Excluded), Unbounded));
        let items = ids.by_ref().take(limit).map(|id| state.summary(&user, &device, *id)).collect();
        Ok(Summaries { items, has_more: ids.next().is_some() })
    }

    async fn published(&self, cursors: Vec<(ConversationId, Seq)>) -> Result<(), Error> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for (id, seq) in cursors {
            let Some(conversation) = state.conversations.get_mut(&id) else { continue };
            conversation.published = seq.max(conversation.published);
            if conversation.published >= conversation.last_seq() {
                state.unpublished.remove(&id);
            }
        }
        Ok(())
    }

    async fn unpublished(&self, limit: usize) -> Result<Vec<Changed>, Error> {
        let state = self.state.lock();
        let listed = state.unpublished.iter().filter_map(|id| state.conversations.get(id));
        let behind = listed.filter(|conversation| conversation.published < conversation.last_seq());
        Ok(behind.take(limit).map(|conversation| conversation.changed(true)).collect())
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }
}
