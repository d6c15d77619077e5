//! A conversation as the naive store keeps it: lists, and counting through them.

use std::collections::HashMap;
use std::sync::Arc;

use chat_service::chat::{Changed, Content, Message, Receipt};
use chat_service::{ClientId, ConversationId, DeviceId, Seq, UserId};

#[derive(Default)]
pub(super) struct Group {
    pub(super) id: Option<ConversationId>,
    pub(super) title: Option<String>,
    pub(super) admin: Option<UserId>,
    pub(super) members: HashMap<UserId, Member>,
    pub(super) former: Vec<UserId>,
    pub(super) version: u64,
    pub(super) log: Vec<Arc<Message>>,
    pub(super) published: u64,
    pub(super) wasted: u64,
}

#[derive(Default, Clone)]
pub(super) struct Member {
    pub(super) visible_after: u64,
    pub(super) acked: HashMap<DeviceId, u64>,
    pub(super) delivered: u64,
    pub(super) read: u64,
    pub(super) counted_up: u64,
}

impl Group {
    pub(super) fn last(&self) -> u64 {
        self.log.last().map_or(0, |message| message.seq.0)
    }

    pub(super) fn changed(&self, changed: bool) -> Changed {
        Changed {
            conversation: self.id.expect("set when created"),
            changed,
            last_seq: Seq(self.last()),
            members_version: self.version,
        }
    }

    pub(super) fn push(
        &mut self,
        sender: UserId,
        client_id: ClientId,
        content: Content,
        at_ms: u64,
        seq: u64,
    ) {
        let (conversation, seq) = (self.id.expect("set when created"), Seq(seq));
        for (user, member) in &mut self.members {
            member.counted_up += u64::from(*user != sender);
        }
        self.log.push(Arc::new(Message { conversation, seq, sender, client_id, at_ms, content }));
    }

    pub(super) fn receipt(&self, user: &UserId) -> Receipt {
        let member = &self.members[user];
        let (delivered, read) = (Seq(member.delivered), Seq(member.read));
        Receipt { conversation: self.id.expect("set"), user: user.clone(), delivered, read }
    }
}
