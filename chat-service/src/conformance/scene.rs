//! The words the promises are told in.

use std::sync::Arc;

use testkit::conformance::{Broken, Verdict};
use testkit::ensure;

use super::failed;
use crate::chat::{
    Account, Appended, Content, Error, Message, Moved, NewGroup, NewMessage, Page, PageLimit,
    Store, Summary,
};
use crate::ids::{ClientId, ConversationId, DeviceId, Seq, UserId};

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).expect("the suite's names are legal")
}

pub(super) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).expect("the suite's names are legal")
}

pub(super) fn account(name: &str, hash: &str) -> Account {
    Account { user: user(name), password_hash: hash.to_owned() }
}

pub(super) fn text_of(message: &Message) -> &str {
    match &message.content {
        Content::Text(text) => text,
        Content::Joined(_) => "(joined)",
        Content::Left(_) => "(left)",
    }
}

/// A store with people in it.
pub(super) struct Scene<S> {
    pub(super) store: Arc<S>,
}

impl<S: Store> Scene<S> {
    pub(super) async fn new(store: Arc<S>, users: &[&str]) -> Result<Self, Broken> {
        for name in users {
            store.create_account(account(name, "hash")).await.map_err(failed)?;
        }
        Ok(Self { store })
    }

    pub(super) async fn direct(&self, one: &str, other: &str) -> Result<ConversationId, Broken> {
        let opened = self.store.open_direct(user(one), user(other)).await;
        opened.map(|changed| changed.conversation).map_err(failed)
    }

    pub(super) async fn group(&self, by: &str, others: &[&str]) -> Result<ConversationId, Broken> {
        let group = NewGroup {
            conversation: ConversationId::fresh(),
            by: user(by),
            title: "group".to_owned(),
            members: others.iter().map(|name| user(name)).collect(),
            now_ms: 0,
        };
        let created = self.store.create_group(group).await;
        created.map(|changed| changed.conversation).map_err(failed)
    }

    pub(super) fn message(
        &self,
        sender: &str,
        conversation: ConversationId,
        client_id: ClientId,
        text: &str,
        now_ms: u64,
    ) -> NewMessage {
        NewMessage { conversation, sender: user(sender), client_id, text: Arc::from(text), now_ms }
    }

    pub(super) async fn say_as(
        &self,
        sender: &str,
        conversation: ConversationId,
        client_id: ClientId,
        text: &str,
        now_ms: u64,
    ) -> Result<Appended, Error> {
        let message = self.message(sender, conversation, client_id, text, now_ms);
        let mut results = self.store.append(vec![message]).await;
        results.pop().expect("one result per message")
    }

    pub(super) async fn say(
        &self,
        sender: &str,
        conversation: ConversationId,
        text: &str,
    ) -> Result<Appended, Broken> {
        // All at one time: what orders by the clock has nothing to order by.
        self.say_as(sender, conversation, ClientId::fresh(), text, 0).await.map_err(failed)
    }

    pub(super) async fn say_many(
        &self,
        sender: &str,
        conversation: ConversationId,
        count: usize,
    ) -> Verdict {
        let message =
            |at| self.message(sender, conversation, ClientId::fresh(), &format!("{at}"), 0);
        let messages: Vec<_> = (0..count).map(message).collect();
        for some in messages.chunks(crate::chat::APPEND_MAX) {
            let results = self.store.append(some.to_vec()).await;
            ensure!(results.len() == some.len(), "{} results for {}", results.len(), some.len());
            for result in results {
                result.map_err(failed)?;
            }
        }
        Ok(())
    }

    pub(super) async fn since(
        &self,
        reader: &str,
        conversation: ConversationId,
        after: u64,
        count: usize,
    ) -> Result<Page, Broken> {
        let limit = PageLimit::messages(count);
        self.store.since(user(reader), conversation, Seq(after), limit).await.map_err(failed)
    }

    pub(super) async fn before(
        &self,
        reader: &str,
        conversation: ConversationId,
        before: Option<Seq>,
        count: usize,
    ) -> Result<Page, Broken> {
        let limit = PageLimit::messages(count);
        self.store.before(user(reader), conversation, before, limit).await.map_err(failed)
    }

    pub(super) async fn ack(
        &self,
        name: &str,
        on: &str,
        conversation: ConversationId,
        seq: u64,
    ) -> Result<Moved, Error> {
        let cursors = vec![(conversation, Seq(seq))];
        let mut results = self.store.acknowledge(user(name), device(on), cursors).await;
        results.pop().expect("one result per cursor")
    }

    pub(super) async fn summaries(&self, name: &str, on: &str) -> Result<Vec<Summary>, Broken> {
        let page = self.store.summaries(user(name), device(on), None, 100).await;
        page.map(|page| page.items).map_err(failed)
    }

    /// Everything a stranger may try is answered as if there were no such conversation.
    pub(super) async fn is_stranger(&self, name: &str, id: ConversationId) -> Verdict {
        let limit = PageLimit::messages(10);
        let attempts = [
            ("write", self.say_as(name, id, ClientId::fresh(), "hi", 0).await.err()),
            ("read on", self.store.since(user(name), id, Seq(0), limit).await.err()),
            ("read back", self.store.before(user(name), id, None, limit).await.err()),
            ("acknowledge", self.ack(name, "phone", id, 0).await.err()),
            ("mark as read", self.store.read(user(name), id, Seq(0)).await.err()),
            ("see receipts", self.store.receipts(user(name), id).await.err()),
            (
                "add members",
                self.store.add_members(user(name), id, vec![user(name)], 0).await.err(),
            ),
            (
                "remove members",
                self.store.remove_member(user(name), id, user("ann"), 0).await.err(),
            ),
        ];
        for (what, error) in attempts {
            ensure!(
                matches!(error, Some(Error::NotFound { field: "conversation" })),
                "a stranger tried to {what} and got {error:?}"
            );
        }
        Ok(())
    }
}
