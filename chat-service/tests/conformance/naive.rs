//! The store as a candidate writes it: lists, and counting through them. Right when nothing is
//! switched on, and every mistake we have seen candidates and shipped products make, one switch
//! each. It shares no code with our answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use chat_service::chat::{
    Account, Appended, Changed, Content, DEVICES_PER_USER_MAX, Device, Error, Identity, Members,
    Message, Moved, NewGroup, NewMessage, Page, PageLimit, Receipt, Summaries, Summary,
};
use chat_service::{ClientId, ConversationId, DeviceId, Seq, Store, UserId};

mod bug;
mod group;

pub(crate) use bug::Bug;
use group::{Group, Member};

#[derive(Default)]
struct State {
    accounts: HashMap<UserId, Account>,
    devices: HashMap<UserId, Vec<Device>>,
    groups: Vec<Group>,
    last: u64,
}

pub(crate) struct Naive {
    identity: Identity,
    bug: Option<Bug>,
    state: Mutex<State>,
}

fn unknown() -> Error {
    Error::NotFound { field: "conversation" }
}

impl Naive {
    pub(crate) fn with(bug: Option<Bug>) -> Self {
        Self { identity: Identity::fresh(), bug, state: Mutex::default() }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    /// The conversation, for one who may know of it.
    fn group<'a>(
        &self,
        state: &'a mut State,
        id: ConversationId,
        user: &UserId,
    ) -> Result<&'a mut Group, Error> {
        let group =
            state.groups.iter_mut().find(|group| group.id == Some(id)).ok_or_else(unknown)?;
        match group.members.contains_key(user) {
            true => Ok(group),
            false if self.has(Bug::TellsStrangersFromUnknown) => {
                Err(Error::Forbidden { field: "conversation", reason: "is not yours" })
            }
            false => Err(unknown()),
        }
    }

    fn readable<'a>(
        &self,
        state: &'a mut State,
        id: ConversationId,
        user: &UserId,
    ) -> Result<(&'a Group, u64), Error> {
        let anybody = self.has(Bug::StrangersMayRead);
        let former = self.has(Bug::RemovedMembersKeepReading);
        if let Some(group) = state.groups.iter().position(|group| group.id == Some(id)) {
            let group = &state.groups[group];
            if anybody || (former && group.former.contains(user)) {
                let after = group.members.get(user).map_or(0, |member| member.visible_after);
                // The borrow checker wants the index; the lists are short.
                let at = state.groups.iter().position(|group| group.id == Some(id)).unwrap_or(0);
                return Ok((&state.groups[at], after));
            }
        }
        let after = self.group(state, id, user)?.members[user].visible_after;
        let hidden = if self.has(Bug::NewMembersSeeThePast) { 0 } else { after };
        let at = state.groups.iter().position(|group| group.id == Some(id)).unwrap_or(0);
        Ok((&state.groups[at], hidden))
    }

    async fn append_one(&self, new: NewMessage) -> Result<Appended, Error> {
        let refused = new.check();
        if refused.is_err() {
            if self.has(Bug::UsesASequenceForARefusedMessage) {
                let mut state = self.lock();
                self.group(&mut state, new.conversation, &new.sender)?.wasted += 1;
            }
            refused?;
        }
        if self.has(Bug::LooksForTheIdThenWrites) {
            if let Some(repeat) = self.repeat(&mut self.lock(), &new) {
                return repeat;
            }
            tokio::task::yield_now().await;
            std::thread::sleep(std::time::Duration::from_micros(200));
            return self.write(&mut self.lock(), new, None);
        }
        if self.has(Bug::ReadsTheSequenceThenWrites) {
            let next = {
                let mut state = self.lock();
                self.group(&mut state, new.conversation, &new.sender)?.last() + 1
            };
            tokio::task::yield_now().await;
            std::thread::sleep(std::time::Duration::from_micros(200));
            return self.write(&mut self.lock(), new, Some(next));
        }
        let mut state = self.lock();
        match self.repeat(&mut state, &new) {
            Some(repeat) => repeat,
            None => self.write(&mut state, new, None),
        }
    }

    fn repeat(&self, state: &mut State, new: &NewMessage) -> Option<Result<Appended, Error>> {
        if self.has(Bug::IgnoresClientIds) {
            return None;
        }
        let mut all =
            state.groups.iter().flat_map(|group| group.log.iter().map(move |m| (group, m)));
        let (group, there) =
            all.find(|(_, m)| m.sender == new.sender && m.client_id == new.client_id)?;
        if self.has(Bug::ForgetsClientIdsAfterTwoMinutes) && new.now_ms > there.at_ms + 120_000 {
            return None;
        }
        if self.has(Bug::RefusesARepeatInsteadOfAnswering) {
            return Some(Err(Error::Conflict { field: "client_id", reason: "is there already" }));
        }
        let same = matches!(&there.content, Content::Text(text) if *text == new.text);
        let same = same && there.conversation == new.conversation;
        if !same && !self.has(Bug::TakesAReusedIdForARepeat) {
            let reason = "was used for another message";
            return Some(Err(Error::Conflict { field: "client_id", reason }));
        }
        let (seq, at_ms, members_version) = (there.seq, there.at_ms, group.version);
        Some(Ok(Appended { seq, at_ms, duplicate: true, members_version }))
    }

    fn write(
        &self,
        state: &mut State,
        new: NewMessage,
        next: Option<u64>,
    ) -> Result<Appended, Error> {
        let shared = state.last + 1;
        let group = match self.has(Bug::StrangersMayWrite) {
            true => state
                .groups
                .iter_mut()
                .find(|g| g.id == Some(new.conversation))
                .ok_or_else(unknown)?,
            false => self.group(state, new.conversation, &new.sender)?,
        };
        let seq = match self.has(Bug::OneSequenceForAllConversations) {
            true => shared,
            false => next.unwrap_or(group.last() + 1 + std::mem::take(&mut group.wasted)),
        };
        group.push(new.sender, new.client_id, Content::Text(new.text), new.now_ms, seq);
        let members_version = group.version;
        state.last = shared;
        Ok(Appended { seq: Seq(seq), at_ms: new.now_ms, duplicate: false, members_version })
    }

    fn page<'a>(&self, messages: impl Iterator<Item = &'a Arc<Message>>, limit: PageLimit) -> Page {
        let (mut page, mut bytes) = (Page::default(), 0);
        for message in messages {
            bytes += message.content.bytes();
            let too_long = bytes > limit.bytes && !self.has(Bug::PagesCountMessagesOnly);
            if page.messages.len() == limit.messages || (too_long && !page.messages.is_empty()) {
                page.has_more = !self.has(Bug::NeverSaysThereIsMore);
                break;
            }
            page.messages.push(Arc::clone(message));
        }
        page
    }

    fn move_to(
        &self,
        user: &UserId,
        id: ConversationId,
        seq: Seq,
        moving: impl FnOnce(&mut Member),
    ) -> Result<Moved, Error> {
        let mut state = self.lock();
        let group = self.group(&mut state, id, user)?;
        if seq.0 > group.last() && !self.has(Bug::BelievesAnyCursor) {
            return Err(Error::invalid("seq", "is beyond the end"));
        }
        let before = group.receipt(user);
        moving(group.members.get_mut(user).expect("checked above"));
        let receipt = group.receipt(user);
        Ok(Moved { changed: receipt != before, receipt, members_version: group.version })
    }

    fn grown(&self, before: u64, seq: Seq) -> u64 {
        if self.has(Bug::LastWriteWinsForCursors) { seq.0 } else { before.max(seq.0) }
    }

    fn changed_members(&self, group: &mut Group) {
        if !self.has(Bug::MemberListsHaveNoVersion) {
            group.version += 1;
        }
    }

    fn add(&self, group: &mut Group, by: &UserId, users: Vec<UserId>, now_ms: u64) -> bool {
        let mut new: Vec<UserId> =
            users.into_iter().filter(|u| !group.members.contains_key(u)).collect();
        new.dedup();
        for user in &new {
            let last = group.last();
            let member =
                Member { visible_after: last, delivered: last, read: last, ..Member::default() };
            group.members.insert(user.clone(), member);
            group.former.retain(|former| former != user);
            group.push(
                by.clone(),
                ClientId::fresh(),
                Content::Joined(user.clone()),
                now_ms,
                last + 1,
            );
        }
        if !new.is_empty() {
            self.changed_members(group);
        }
        !new.is_empty()
    }
}

fn all_known(state: &State, users: &[UserId], field: &'static str) -> Result<(), Error> {
    match users.iter().all(|user| state.accounts.contains_key(user)) {
        true => Ok(()),
        false => Err(Error::NotFound { field }),
    }
}

impl Store for Naive {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn create_account(&self, account: Account) -> Result<(), Error> {
        let mut state = self.lock();
        if state.accounts.contains_key(&account.user) {
            return Err(Error::Conflict { field: "user", reason: "is taken" });
        }
        state.accounts.insert(account.user.clone(), account);
        Ok(())
    }

    async fn account(&self, user: UserId) -> Result<Option<Account>, Error> {
        Ok(self.lock().accounts.get(&user).cloned())
    }

    async fn put_device(&self, user: UserId, device: DeviceId, now_ms: u64) -> Result<(), Error> {
        let mut state = self.lock();
        all_known(&state, std::slice::from_ref(&user), "user")?;
        let devices = state.devices.entry(user).or_default();
        if devices.iter().any(|known| known.device == device) {
            return Ok(());
        }
        if devices.len() == DEVICES_PER_USER_MAX {
            return Err(Error::Full { field: "devices", bound: DEVICES_PER_USER_MAX });
        }
        devices.push(Device { device, added_ms: now_ms });
        Ok(())
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, Error> {
        Ok(self.lock().devices.get(&user).cloned().unwrap_or_default())
    }

    async fn remove_device(&self, user: UserId, device: DeviceId) -> Result<(), Error> {
        let mut state = self.lock();
        let devices = state.devices.entry(user.clone()).or_default();
        let at = devices.iter().position(|known| known.device == device);
        devices.remove(at.ok_or(Error::NotFound { field: "device" })?);
        for member in state.groups.iter_mut().filter_map(|group| group.members.get_mut(&user)) {
            member.acked.remove(&device);
        }
        Ok(())
    }

    async fn open_direct(&self, by: UserId, with: UserId) -> Result<Changed, Error> {
        if by == with {
            return Err(Error::invalid("with", "must be somebody else"));
        }
        let mut state = self.lock();
        all_known(&state, std::slice::from_ref(&with), "with")?;
        let one_way = self.has(Bug::OneDirectionPerPair);
        let there = state.groups.iter().find(|group| {
            let both = group.members.contains_key(&by) && group.members.contains_key(&with);
            group.admin.is_none()
                && both
                && (!one_way || group.title.as_deref() == Some(by.as_str()))
        });
        if let Some(there) = there {
            return Ok(there.changed(false));
        }
        let title = one_way.then(|| by.to_string());
        let members = [by, with].map(|user| (user, Member::default())).into();
        let id = Some(ConversationId::fresh());
        state.groups.push(Group { id, title, members, version: 1, ..Group::default() });
        Ok(state.groups[state.groups.len() - 1].changed(true))
    }

    async fn create_group(&self, group: NewGroup) -> Result<Changed, Error> {
        group.check()?;
        let mut state = self.lock();
        if let Some(there) = state.groups.iter().find(|there| there.id == Some(group.conversation))
        {
            return match there.admin == Some(group.by) {
                true => Ok(there.changed(false)),
                false => Err(Error::Conflict { field: "conversation", reason: "is another's" }),
            };
        }
        all_known(&state, &group.members, "members")?;
        let members = [(group.by.clone(), Member::default())].into();
        let (id, title) = (Some(group.conversation), Some(group.title));
        let admin = Some(group.by.clone());
        let mut new = Group { id, title, admin, members, version: 1, ..Group::default() };
        self.add(&mut new, &group.by, group.members, group.now_ms);
        let changed = new.changed(true);
        state.groups.push(new);
        Ok(changed)
    }

    async fn add_members(
        &self,
        by: UserId,
        conversation: ConversationId,
        members: Vec<UserId>,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        let mut state = self.lock();
        let group = self.group(&mut state, conversation, &by)?;
        if group.admin.as_ref() != Some(&by) && !self.has(Bug::EverybodyIsAdmin) {
            return Err(Error::Forbidden { field: "members", reason: "are not yours to add" });
        }
        all_known(&state, &members, "members")?;
        let group = self.group(&mut state, conversation, &by)?;
        let changed = self.add(group, &by, members, now_ms);
        Ok(group.changed(changed))
    }

    async fn remove_member(
        &self,
        by: UserId,
        conversation: ConversationId,
        member: UserId,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        let mut state = self.lock();
        let group = self.group(&mut state, conversation, &by)?;
        let may = group.admin.as_ref() == Some(&by) || (by == member && group.admin.is_some());
        if !may && !self.has(Bug::EverybodyIsAdmin) {
            return Err(Error::Forbidden { field: "member", reason: "is not yours to remove" });
        }
        if !group.members.contains_key(&member) {
            return Err(Error::NotFound { field: "member" });
        }
        let next = group.last() + 1;
        group.push(by, ClientId::fresh(), Content::Left(member.clone()), now_ms, next);
        group.members.remove(&member);
        group.former.push(member);
        self.changed_members(group);
        Ok(group.changed(true))
    }

    async fn members(&self, conversation: ConversationId) -> Result<Members, Error> {
        let state = self.lock();
        let group = state.groups.iter().find(|group| group.id == Some(conversation));
        let users: Option<Arc<[UserId]>> =
            group.map(|group| group.members.keys().cloned().collect());
        let version = group.map_or(0, |group| group.version);
        Ok(Members { version, users: users.unwrap_or_else(|| Arc::new([])) })
    }

    async fn append(&self, messages: Vec<NewMessage>) -> Vec<Result<Appended, Error>> {
        if self.has(Bug::OneBadMessageFailsTheBatch) && messages.iter().any(|m| m.check().is_err())
        {
            let failed = |_: NewMessage| Err(Error::invalid("text", "somewhere in the batch"));
            return messages.into_iter().map(failed).collect();
        }
        let mut results = Vec::new();
        for message in messages {
            results.push(self.append_one(message).await);
        }
        results
    }

    async fn since(
        &self,
        reader: UserId,
        conversation: ConversationId,
        after: Seq,
        limit: PageLimit,
    ) -> Result<Page, Error> {
        let mut state = self.lock();
        let (group, visible_after) = self.readable(&mut state, conversation, &reader)?;
        let after = after.0.max(visible_after);
        let by_time = self.has(Bug::PagesByTimestamp);
        let at = group.log.iter().find(|m| m.seq.0 == after).map_or(-1, |m| m.at_ms as i64);
        let inclusive = u64::from(self.has(Bug::SinceIncludesTheCursor) && after > visible_after);
        let follows = |m: &&Arc<Message>| match by_time {
            true => m.at_ms as i64 > at,
            false => m.seq.0 + inclusive > after,
        };
        Ok(self.page(group.log.iter().filter(follows), limit))
    }

    async fn before(
        &self,
        reader: UserId,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: PageLimit,
    ) -> Result<Page, Error> {
        let mut state = self.lock();
        let (group, visible_after) = self.readable(&mut state, conversation, &reader)?;
        let end = before.map_or(u64::MAX, |seq| seq.0);
        let older = group.log.iter().rev().filter(|m| m.seq.0 < end && m.seq.0 > visible_after);
        let mut page = self.page(older, limit);
        page.messages.reverse();
        Ok(page)
    }

    async fn acknowledge(
        &self,
        user: UserId,
        device: DeviceId,
        cursors: Vec<(ConversationId, Seq)>,
    ) -> Vec<Result<Moved, Error>> {
        let device = if self.has(Bug::OneCursorForAllDevices) {
            DeviceId::new("any").expect("a legal name")
        } else {
            device
        };
        let one = |(id, seq): (ConversationId, Seq)| {
            self.move_to(&user, id, seq, |member| {
                let acked = member.acked.get(&device).copied().unwrap_or_default();
                member.acked.insert(device.clone(), self.grown(acked, seq));
                member.delivered = self.grown(member.delivered, seq);
            })
        };
        cursors.into_iter().map(one).collect()
    }

    async fn read(
        &self,
        user: UserId,
        conversation: ConversationId,
        seq: Seq,
    ) -> Result<Moved, Error> {
        self.move_to(&user, conversation, seq, |member| {
            member.read = self.grown(member.read, seq);
            member.counted_up = 0;
            if !self.has(Bug::ReadingIsNotDelivery) {
                member.delivered = member.delivered.max(member.read);
            }
        })
    }

    async fn receipts(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Vec<Receipt>, Error> {
        let mut state = self.lock();
        let group = self.group(&mut state, conversation, &user)?;
        let mut receipts: Vec<_> = group.members.keys().map(|user| group.receipt(user)).collect();
        receipts.sort_by(|a, b| a.user.cmp(&b.user));
        Ok(receipts)
    }

    async fn summaries(
        &self,
        user: UserId,
        device: DeviceId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Summaries, Error> {
        let device = if self.has(Bug::OneCursorForAllDevices) {
            DeviceId::new("any").expect("a legal name")
        } else {
            device
        };
        let state = self.lock();
        let mut mine: Vec<&Group> =
            state.groups.iter().filter(|g| g.members.contains_key(&user) && g.id > after).collect();
        mine.sort_by_key(|group| group.id);
        let has_more = mine.len() > limit;
        let summary = |group: &&Group| {
            let member = &group.members[&user];
            let after_read = group.log.iter().filter(|m| m.seq.0 > member.read);
            let unread = match self.bug {
                Some(Bug::CountsUnreadUp) => member.counted_up,
                Some(Bug::CountsOwnMessagesAsUnread) => after_read.count() as u64,
                _ => after_read.filter(|m| m.sender != user).count() as u64,
            };
            let acked = member.acked.get(&device).copied().unwrap_or_default();
            Summary {
                conversation: group.id.expect("set when created"),
                title: group.title.clone(),
                with: match group.admin {
                    None => group.members.keys().find(|other| **other != user).cloned(),
                    Some(_) => None,
                },
                members: group.members.len() as u64,
                last_seq: Seq(group.last()),
                read_seq: Seq(member.read),
                delivered_seq: Seq(acked.max(member.visible_after)),
                unread,
                newest: group.log.last().filter(|m| m.seq.0 > member.visible_after).cloned(),
            }
        };
        Ok(Summaries { items: mine.iter().take(limit).map(summary).collect(), has_more })
    }

    async fn published(&self, cursors: Vec<(ConversationId, Seq)>) -> Result<(), Error> {
        let mut state = self.lock();
        for (id, seq) in cursors {
            for group in state.groups.iter_mut().filter(|group| group.id == Some(id)) {
                group.published = group.published.max(seq.0);
            }
        }
        Ok(())
    }

    async fn unpublished(&self, limit: usize) -> Result<Vec<Changed>, Error> {
        if self.has(Bug::ForgetsTheOutbox) {
            return Ok(Vec::new());
        }
        let state = self.lock();
        let owed = state.groups.iter().filter(|group| group.published < group.last());
        Ok(owed.take(limit).map(|group| group.changed(true)).collect())
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }
}
