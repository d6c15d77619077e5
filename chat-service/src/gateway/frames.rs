//! What a client may say once it is connected.

use rate_limiter::{Key, Outcome};

use super::*;
use crate::chat::NO_CONVERSATION;
use crate::protocol::parse;

impl<S: Store, B: Bus> Connection<S, B> {
    /// Takes the frame that came and those that came with it, so that a burst is one append.
    pub(super) async fn frames(
        &mut self,
        first: Option<Result<WsMessage, axum::Error>>,
    ) -> Result<(), End> {
        let mut next = first;
        loop {
            match next {
                None => return Err(End::Gone),
                Some(Err(error)) => return Err(broken(error)),
                Some(Ok(frame)) => self.message(frame).await?,
            }
            if self.unsent.len() >= APPEND_MAX {
                return Ok(());
            }
            match self.socket.next().now_or_never() {
                Some(more) => next = more,
                None => return Ok(()),
            }
        }
    }

    async fn message(&mut self, message: WsMessage) -> Result<(), End> {
        self.heard = Instant::now();
        match message {
            WsMessage::Text(text) => match parse(&text) {
                Ok(frame) => self.frame(frame).await,
                Err(error) => self.refuse(&error, None, None).await,
            },
            WsMessage::Binary(_) => {
                let error = Error::invalid("frame", "must be text");
                self.refuse(&error, None, None).await
            }
            WsMessage::Ping(_) | WsMessage::Pong(_) => Ok(()),
            WsMessage::Close(_) => Err(End::Gone),
        }
    }

    /// Refuses a frame; one that keeps sending such frames is closed.
    async fn refuse(
        &mut self,
        error: &Error,
        client_id: Option<ClientId>,
        id: Option<u64>,
    ) -> Result<(), End> {
        self.errors += 1;
        if self.errors > ERRORS_MAX {
            return Err(End::Close(CloseCode::TooManyErrors));
        }
        self.tell(&ServerFrame::refusal(error, client_id, id)).await
    }

    async fn frame(&mut self, frame: ClientFrame) -> Result<(), End> {
        match frame {
            ClientFrame::Hello { .. } => Err(End::Close(CloseCode::BadHello)),
            ClientFrame::Send { client_id, conversation, text } => {
                self.send(client_id, conversation, text).await
            }
            ClientFrame::Ack { conversation, seq } => self.ack(conversation, seq).await,
            ClientFrame::Read { conversation, seq } => {
                self.read(conversation, seq);
                Ok(())
            }
            ClientFrame::Credit { messages } => {
                self.session.grant(messages);
                Ok(())
            }
            ClientFrame::History { id, conversation, before, limit } => {
                self.history(id, conversation, before, limit).await
            }
            ClientFrame::Typing { conversation } => {
                self.typing(conversation);
                Ok(())
            }
            ClientFrame::Watch { conversation } => {
                self.start_watch(conversation);
                Ok(())
            }
            ClientFrame::Ping { id } => self.tell(&ServerFrame::Pong { id }).await,
        }
    }

    async fn send(
        &mut self,
        client_id: ClientId,
        conversation: ConversationId,
        text: Arc<str>,
    ) -> Result<(), End> {
        let (sender, now_ms) = (self.handle.user.clone(), self.node.clock.now_ms());
        let new = NewMessage { conversation, sender, client_id, text, now_ms };
        if let Err(error) = new.check() {
            return self.refuse(&error, Some(client_id), None).await;
        }
        if let Some(retry_after) = self.over_the_rate() {
            let frame = ServerFrame::Error {
                code: "rate-limited".into(),
                field: None,
                detail: format!("send it again in {} ms", retry_after.as_millis()),
                client_id: Some(client_id),
                id: None,
            };
            return self.tell(&frame).await;
        }
        self.unsent.push(new);
        Ok(())
    }

    fn over_the_rate(&self) -> Option<Duration> {
        let key = Key::new(self.handle.user.as_str()).ok()?;
        // A limiter that is full of users being limited lets this one pass: it protects the store,
        // and those who misuse it are the ones it holds.
        match self.node.sends.check_now(key, 1).ok()?.outcome {
            Outcome::Denied { retry_after } => Some(retry_after),
            Outcome::Allowed | Outcome::TooLarge => None,
        }
    }

    async fn ack(&mut self, conversation: ConversationId, seq: Seq) -> Result<(), End> {
        if self.acks.len() >= ACKS_MAX && !self.acks.contains_key(&conversation) {
            let error = Error::Full { field: "acks waiting", bound: ACKS_MAX };
            return self.refuse(&error, None, None).await;
        }
        let kept = self.acks.entry(conversation).or_default();
        *kept = seq.max(*kept);
        Ok(())
    }

    fn read(&mut self, conversation: ConversationId, seq: Seq) {
        if self.doing.len() >= ACKS_MAX {
            return; // cumulative: the next one says it again
        }
        let (node, user) = (self.node.clone(), self.handle.user.clone());
        self.doing.push(Box::pin(async move {
            let results = [node.store.read(user, conversation, seq).await];
            tell_receipts(&node, &results).await;
            let [result] = results;
            match result {
                Ok(_) => Done::Told,
                Err(error) => Done::Refused(error),
            }
        }));
    }

    async fn history(
        &mut self,
        id: u64,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: Option<usize>,
    ) -> Result<(), End> {
        if self.histories >= HISTORY_MAX {
            let error = Error::Full { field: "history requests", bound: HISTORY_MAX };
            return self.refuse(&error, None, Some(id)).await;
        }
        self.histories += 1;
        let (store, user) = (Arc::clone(&self.node.store), self.handle.user.clone());
        let limit = PageLimit::messages(limit.unwrap_or(100));
        self.doing.push(Box::pin(async move {
            let page = store.before(user, conversation, before, limit).await;
            Done::History(id, conversation, page)
        }));
        Ok(())
    }

    /// Told to the members, if this user is one; the member list says so.
    fn typing(&mut self, conversation: ConversationId) {
        if self.doing.len() >= ACKS_MAX {
            return;
        }
        let (node, user) = (self.node.clone(), self.handle.user.clone());
        self.doing.push(Box::pin(async move {
            let members = node.store.members(conversation).await;
            if members.is_ok_and(|members| members.users.contains(&user)) {
                node.publish_lossy(Event::Typing { conversation, user }).await;
            }
            Done::Told
        }));
    }

    fn start_watch(&mut self, conversation: ConversationId) {
        if self.doing.len() >= ACKS_MAX {
            return;
        }
        let (store, user) = (Arc::clone(&self.node.store), self.handle.user.clone());
        self.doing.push(Box::pin(async move {
            match store.members(conversation).await {
                Ok(members) if members.users.contains(&user) => {
                    Done::Members(members.users.iter().filter(|m| **m != user).cloned().collect())
                }
                Ok(_) => Done::Refused(NO_CONVERSATION),
                Err(error) => Done::Refused(error),
            }
        }));
    }
}

/// A broken socket, or a frame that is too large for it.
pub(super) fn broken(error: axum::Error) -> End {
    let inner = error.into_inner();
    match inner.to_string().contains("too long") || inner.to_string().contains("too big") {
        true => End::Close(CloseCode::TooLarge),
        false => End::Gone,
    }
}
