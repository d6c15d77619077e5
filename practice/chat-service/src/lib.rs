//! Your message store: messages arrive, once and in order, also at whoever was offline.
//!
//! Start with `create_account`, `open_direct`, `append` and `since`; then cursors, and unread
//! counts that cannot drift. The contract is `chat-service/src/chat.rs`;
//! `cargo run --release -- grade chat-service` says how far you are.
#![allow(clippy::todo, missing_docs, unused_variables, reason = "the bodies are yours to fill in")]

use std::collections::HashMap;
use std::sync::Mutex;

use chat_service::chat::{
    Account, Appended, Changed, Device, Identity, Members, Moved, NewGroup, NewMessage, Page,
    PageLimit, Receipt, Summaries,
};
use chat_service::{ConversationId, DeviceId, Error, Seq, Store, UserId};

/// A store of conversations.
///
/// Ask yourself how live delivery, coming back after a week and scrolling up can be one operation.
pub struct MyStore {
    identity: Identity,
    logs: Mutex<HashMap<ConversationId, ()>>,
}

impl Default for MyStore {
    fn default() -> Self {
        Self { identity: Identity::fresh(), logs: Mutex::default() }
    }
}

impl Store for MyStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn create_account(&self, account: Account) -> Result<(), Error> {
        todo!("unless the name is taken")
    }

    async fn account(&self, user: UserId) -> Result<Option<Account>, Error> {
        todo!("the account, if there is one")
    }

    async fn put_device(&self, user: UserId, device: DeviceId, now_ms: u64) -> Result<(), Error> {
        todo!("a bounded number of them")
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, Error> {
        todo!("the user's devices")
    }

    async fn remove_device(&self, user: UserId, device: DeviceId) -> Result<(), Error> {
        todo!("with its cursors")
    }

    async fn open_direct(&self, by: UserId, with: UserId) -> Result<Changed, Error> {
        todo!("one conversation per pair, whoever asks first")
    }

    async fn create_group(&self, group: NewGroup) -> Result<Changed, Error> {
        todo!("once, however often it is asked for")
    }

    async fn add_members(
        &self,
        by: UserId,
        conversation: ConversationId,
        members: Vec<UserId>,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        todo!("membership is in the log: everybody sees it at the same place")
    }

    async fn remove_member(
        &self,
        by: UserId,
        conversation: ConversationId,
        member: UserId,
        now_ms: u64,
    ) -> Result<Changed, Error> {
        todo!("from here on a stranger")
    }

    async fn members(&self, conversation: ConversationId) -> Result<Members, Error> {
        todo!("who hears a message")
    }

    async fn append(&self, messages: Vec<NewMessage>) -> Vec<Result<Appended, Error>> {
        let logs = self.logs.lock();
        todo!("the next place in the log; a repeat returns the place of the first")
    }

    async fn since(
        &self,
        reader: UserId,
        conversation: ConversationId,
        after: Seq,
        limit: PageLimit,
    ) -> Result<Page, Error> {
        todo!("what follows, oldest first")
    }

    async fn before(
        &self,
        reader: UserId,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: PageLimit,
    ) -> Result<Page, Error> {
        todo!("the newest before this place, oldest first")
    }

    async fn acknowledge(
        &self,
        user: UserId,
        device: DeviceId,
        cursors: Vec<(ConversationId, Seq)>,
    ) -> Vec<Result<Moved, Error>> {
        todo!("never back, never beyond the end")
    }

    async fn read(
        &self,
        user: UserId,
        conversation: ConversationId,
        seq: Seq,
    ) -> Result<Moved, Error> {
        todo!("what is read is delivered")
    }

    async fn receipts(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Vec<Receipt>, Error> {
        todo!("how far every member is")
    }

    async fn summaries(
        &self,
        user: UserId,
        device: DeviceId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Summaries, Error> {
        todo!("unread is derived by subtraction")
    }

    async fn published(&self, cursors: Vec<(ConversationId, Seq)>) -> Result<(), Error> {
        todo!("the outbox is a cursor too")
    }

    async fn unpublished(&self, limit: usize) -> Result<Vec<Changed>, Error> {
        todo!("what a server that died left untold")
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }
}
