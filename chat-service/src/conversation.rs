//! The pure core: one conversation, its log, its members and their cursors.
//!
//! No clock, no lock, no I/O. The memory answer keeps these in a map; the SQL answers state the
//! same rules in SQL; the suite holds them to one another.
//!
//! Invariant: `log[i].seq == i + 1`. There is nothing to scan: every read is a slice.

use std::collections::HashMap;
use std::sync::Arc;

use crate::chat::{
    Appended, CONVERSATIONS_PER_USER_MAX, Changed, Content, Error, MEMBERS_MAX, Members, Message,
    Moved, NO_CONVERSATION, NewMessage, Page, PageLimit, Receipt, beyond_the_log,
};
use crate::ids::{ClientId, ConversationId, DeviceId, Seq, UserId};

/// A conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) id: ConversationId,
    pub(crate) title: Option<String>,
    /// Who administers it; between two people nobody does.
    pub(crate) admin: Option<UserId>,
    log: Vec<Arc<Message>>,
    members: HashMap<UserId, Member>,
    members_version: u64,
    /// The users in `members`, kept for as long as the version stands.
    listed: Option<Arc<[UserId]>>,
    pub(crate) published: Seq,
}

/// How one member stands.
#[derive(Debug, Default)]
struct Member {
    /// They see what follows.
    visible_after: Seq,
    devices: HashMap<DeviceId, Seq>,
    delivered: Seq,
    read: Seq,
    /// How many messages are their own, how many of those are up to `read`, and the last one.
    /// With these, unread is a subtraction.
    sent: u64,
    sent_up_to_read: u64,
    last_own: Seq,
}

impl Conversation {
    /// One with these members, none of whom has missed anything.
    pub(crate) fn new(
        id: ConversationId,
        title: Option<String>,
        admin: Option<UserId>,
        members: impl IntoIterator<Item = UserId>,
    ) -> Self {
        let members = members.into_iter().map(|user| (user, Member::default())).collect();
        let (log, published) = (Vec::new(), Seq(0));
        Self { id, title, admin, log, members, members_version: 1, listed: None, published }
    }

    pub(crate) fn last_seq(&self) -> Seq {
        Seq(self.log.len() as u64)
    }

    pub(crate) fn has(&self, user: &UserId) -> bool {
        self.members.contains_key(user)
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn members(&mut self) -> Members {
        let users = self.listed.get_or_insert_with(|| self.members.keys().cloned().collect());
        Members { version: self.members_version, users: Arc::clone(users) }
    }

    /// The other one of two.
    pub(crate) fn other(&self, user: &UserId) -> Option<UserId> {
        self.members.keys().find(|member| *member != user).cloned()
    }

    pub(crate) fn changed(&self, changed: bool) -> Changed {
        Changed {
            conversation: self.id,
            changed,
            last_seq: self.last_seq(),
            members_version: self.members_version,
        }
    }

    fn member(&self, user: &UserId) -> Result<&Member, Error> {
        self.members.get(user).ok_or(NO_CONVERSATION)
    }

    /// Appends; the caller has looked for the client id.
    pub(crate) fn append(&mut self, new: NewMessage) -> Result<Appended, Error> {
        self.member(&new.sender)?;
        let seq = self.push(new.sender, new.client_id, Content::Text(new.text), new.now_ms);
        let members_version = self.members_version;
        Ok(Appended { seq, at_ms: new.now_ms, duplicate: false, members_version })
    }

    fn push(&mut self, sender: UserId, client_id: ClientId, content: Content, at_ms: u64) -> Seq {
        let seq = self.last_seq().next();
        if let Some(member) = self.members.get_mut(&sender) {
            member.sent += 1;
            member.last_own = seq;
        }
        let conversation = self.id;
        self.log.push(Arc::new(Message { conversation, seq, sender, client_id, at_ms, content }));
        seq
    }

    /// The message at a place that exists.
    pub(crate) fn at(&self, seq: Seq) -> &Arc<Message> {
        &self.log[seq.0 as usize - 1]
    }

    pub(crate) fn newest_for(&self, user: &UserId) -> Option<Arc<Message>> {
        let visible_after = self.members.get(user)?.visible_after;
        self.log.last().filter(|message| message.seq > visible_after).cloned()
    }

    pub(crate) fn since(&self, user: &UserId, after: Seq, limit: PageLimit) -> Result<Page, Error> {
        let first = after.max(self.member(user)?.visible_after);
        let rest = self.log.get(first.0 as usize..).unwrap_or_default();
        Page::fill(limit, rest.iter().cloned().map(Ok))
    }

    pub(crate) fn before(
        &self,
        user: &UserId,
        before: Option<Seq>,
        limit: PageLimit,
    ) -> Result<Page, Error> {
        let first = self.member(user)?.visible_after.0 as usize;
        let end = before.map_or(self.log.len(), |seq| (seq.0.saturating_sub(1)) as usize);
        let older = self.log.get(first..end.min(self.log.len())).unwrap_or_default();
        let mut page = Page::fill(limit, older.iter().rev().cloned().map(Ok::<_, Error>))?;
        page.messages.reverse();
        Ok(page)
    }

    pub(crate) fn acknowledge(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        seq: Seq,
    ) -> Result<Moved, Error> {
        self.move_cursors(user, seq, |member| {
            let cursor = member.devices.entry(device.clone()).or_default();
            *cursor = seq.max(*cursor);
            member.delivered = seq.max(member.delivered);
        })
    }

    pub(crate) fn read(&mut self, user: &UserId, seq: Seq) -> Result<Moved, Error> {
        let read = self.member(user)?.read;
        let own = self.own_up_to(user, read, seq);
        self.move_cursors(user, seq, |member| {
            if seq > member.read {
                member.read = seq;
                member.sent_up_to_read = own;
            }
            member.delivered = seq.max(member.delivered);
        })
    }

    /// How many of the first `to` messages are the user's, given how many of the first `from` are.
    /// Only a cursor that stops short of an own message looks at the log at all.
    fn own_up_to(&self, user: &UserId, from: Seq, to: Seq) -> u64 {
        let Some(member) = self.members.get(user) else { return 0 };
        if to >= member.last_own {
            return member.sent;
        }
        let passed = self.log.get(from.0 as usize..to.0 as usize).unwrap_or_default();
        let own = passed.iter().filter(|m| m.sender == *user && m.seq > member.visible_after);
        member.sent_up_to_read + own.count() as u64
    }

    fn move_cursors(
        &mut self,
        user: &UserId,
        seq: Seq,
        moving: impl FnOnce(&mut Member),
    ) -> Result<Moved, Error> {
        let (last, members_version) = (self.last_seq(), self.members_version);
        let member = self.members.get_mut(user).ok_or(NO_CONVERSATION)?;
        if seq > last {
            return Err(beyond_the_log(last));
        }
        let before = (member.delivered, member.read);
        moving(member);
        let changed = before != (member.delivered, member.read);
        let receipt = receipt(self.id, user, &self.members[user]);
        Ok(Moved { receipt, changed, members_version })
    }

    /// `last - read - own after read`.
    pub(crate) fn unread(&self, user: &UserId) -> u64 {
        self.members.get(user).map_or(0, |member| {
            self.last_seq().0 - member.read.0 - (member.sent - member.sent_up_to_read)
        })
    }

    pub(crate) fn read_seq(&self, user: &UserId) -> Seq {
        self.members.get(user).map_or(Seq(0), |member| member.read)
    }

    /// Everything up to here needs no delivery to this device: acknowledged, or not visible.
    pub(crate) fn delivered_seq(&self, user: &UserId, device: &DeviceId) -> Seq {
        self.members.get(user).map_or(Seq(0), |member| {
            let acknowledged = member.devices.get(device).copied().unwrap_or_default();
            acknowledged.max(member.visible_after)
        })
    }

    pub(crate) fn forget_device(&mut self, user: &UserId, device: &DeviceId) {
        if let Some(member) = self.members.get_mut(user) {
            member.devices.remove(device);
        }
    }

    pub(crate) fn receipts(&self, user: &UserId) -> Result<Vec<Receipt>, Error> {
        self.member(user)?;
        let receipts = self.members.iter().map(|(user, member)| receipt(self.id, user, member));
        let mut receipts: Vec<_> = receipts.collect();
        receipts.sort_by(|a, b| a.user.cmp(&b.user));
        Ok(receipts)
    }

    /// Whether `by` may change this member list at all.
    pub(crate) fn administered_by(&self, by: &UserId) -> Result<bool, Error> {
        self.member(by)?;
        match &self.admin {
            Some(admin) => Ok(admin == by),
            None => Err(Error::Forbidden {
                field: "conversation",
                reason: "is between two people; its members do not change",
            }),
        }
    }

    /// Adds those who are not members yet. The caller has checked who asks and who exists.
    pub(crate) fn join(
        &mut self,
        by: &UserId,
        users: &[UserId],
        now_ms: u64,
    ) -> Result<Changed, Error> {
        let mut new: Vec<&UserId> = users.iter().filter(|user| !self.has(user)).collect();
        new.sort();
        new.dedup();
        if self.members.len() + new.len() > MEMBERS_MAX {
            return Err(Error::Full { field: "members", bound: MEMBERS_MAX });
        }
        for user in &new {
            let visible_after = self.last_seq();
            let member = Member {
                visible_after,
                delivered: visible_after,
                read: visible_after,
                ..Member::default()
            };
            self.members.insert((*user).clone(), member);
            self.push(by.clone(), ClientId::fresh(), Content::Joined((*user).clone()), now_ms);
        }
        self.note_change(!new.is_empty());
        Ok(self.changed(!new.is_empty()))
    }

    /// Removes a member. The caller has checked who asks.
    pub(crate) fn leave(
        &mut self,
        by: &UserId,
        member: &UserId,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        if !self.has(member) {
            return Err(Error::NotFound { field: "member" });
        }
        self.push(by.clone(), ClientId::fresh(), Content::Left(member.clone()), now_ms);
        self.members.remove(member);
        self.note_change(true);
        Ok(self.changed(true))
    }

    fn note_change(&mut self, changed: bool) {
        if changed {
            self.members_version += 1;
            self.listed = None;
        }
    }
}

fn receipt(conversation: ConversationId, user: &UserId, member: &Member) -> Receipt {
    Receipt { conversation, user: user.clone(), delivered: member.delivered, read: member.read }
}

/// [`Error::Full`] when a user is in too many conversations to join one more.
pub(crate) fn check_room(conversations: usize) -> Result<(), Error> {
    if conversations >= CONVERSATIONS_PER_USER_MAX {
        return Err(Error::Full { field: "conversations", bound: CONVERSATIONS_PER_USER_MAX });
    }
    Ok(())
}
