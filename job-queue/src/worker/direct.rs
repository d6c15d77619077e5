//! Jobs from a store in the same process: no socket, no protocol.

use std::collections::BTreeMap;

use super::source::{Depth, Incoming, Outgoing, Source, SourceError};
use crate::clock::Clock;
use crate::message::{Attribute, AttributeValue, Content, NewMessage, QueueId, Receipt};
use crate::queue::{Ask, Error, Queues};

/// Messages of one receive, and of one delete: with more, a transaction would hold its locks for
/// long enough that other workers notice.
const BATCH_MAX: usize = 250;

/// The queues of one region of a store.
#[derive(Clone, Debug)]
pub struct Direct<Q> {
    queues: Q,
    region: String,
    clock: Clock,
}

impl<Q> Direct<Q> {
    /// Queues of `region`; `clock` is the store's, for ages.
    pub fn new(queues: Q, region: &str, clock: Clock) -> Self {
        Self { queues, region: region.to_owned(), clock }
    }

    fn id(&self, queue: &str) -> QueueId {
        QueueId::new(&self.region, queue)
    }
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Stale | Error::Expired | Error::NotInFlight => Self::LeaseLost(text),
            Error::Unavailable { .. } | Error::Full { .. } | Error::TooManyInFlight => {
                Self::Unavailable(text)
            }
            _ => Self::Refused(text),
        }
    }
}

fn receipt(text: &str) -> Result<Receipt, SourceError> {
    text.parse().map_err(SourceError::from)
}

fn one(answers: Vec<Result<(), Error>>) -> Result<(), SourceError> {
    answers.into_iter().try_for_each(|answer| answer).map_err(SourceError::from)
}

impl<Q: Queues + Clone> Source for Direct<Q> {
    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    async fn send(&self, queue: &str, message: Outgoing) -> Result<String, SourceError> {
        let attributes = message.attributes.into_iter().map(|(name, text)| {
            let value = AttributeValue::Text(text);
            (name, Attribute { data_type: "String".to_owned(), value })
        });
        let content = Content {
            body: message.body,
            attributes: attributes.collect(),
            group: message.group.map(Into::into),
            dedup_id: message.dedup_id,
            ..Content::default()
        };
        let delay_ms = (message.delay_ms > 0).then_some(message.delay_ms);
        let new = NewMessage { delay_ms, ..NewMessage::new(content) };
        let mut sent = self.queues.send(&self.id(queue), vec![new]).await?;
        let sent = sent.pop().ok_or_else(|| SourceError::Unavailable("no answer".to_owned()))?;
        Ok(sent?.id.to_string())
    }

    async fn receive(
        &self,
        queue: &str,
        max: usize,
        visibility_ms: u64,
        wait_ms: u64,
    ) -> Result<Vec<Incoming>, SourceError> {
        let ask =
            Ask { max, visibility_ms: Some(visibility_ms), wait_ms: Some(wait_ms), attempt: None };
        let received = self.queues.receive(&self.id(queue), ask).await?;
        let incoming = received.into_iter().map(|it| Incoming {
            id: it.id.to_string(),
            receipt: it.receipt.to_string(),
            body: it.content.body.clone(),
            attributes: texts(&it.content.attributes),
            receives: it.receives,
            epoch: it.receipt.epoch.0,
            sent_at_ms: it.sent_at_ms,
            group: it.content.group.as_ref().map(ToString::to_string),
        });
        Ok(incoming.collect())
    }

    async fn delete_batch(&self, queue: &str, handles: &[String]) -> Vec<Result<(), SourceError>> {
        let receipts: Vec<_> = handles.iter().map(|handle| receipt(handle)).collect();
        let valid = receipts.iter().filter_map(|it| it.as_ref().ok().copied()).collect();
        let deleted = match self.queues.delete(&self.id(queue), valid).await {
            Ok(deleted) => deleted,
            Err(error) => return handles.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let mut deleted = deleted.into_iter();
        let answer = |receipt: Result<Receipt, SourceError>| {
            receipt?;
            let deleted = deleted.next().ok_or_else(|| Error::unanswered("delete"))?;
            deleted.map_err(SourceError::from)
        };
        receipts.into_iter().map(answer).collect()
    }

    async fn hide(&self, queue: &str, handle: &str, ms: u64) -> Result<(), SourceError> {
        let change = vec![(receipt(handle)?, ms)];
        one(self.queues.change_visibility(&self.id(queue), change).await?)
    }

    async fn depth(&self, queue: &str) -> Result<Depth, SourceError> {
        let counts = self.queues.counts(&self.id(queue)).await?;
        let now_ms = self.clock.now_ms();
        Ok(Depth {
            ready: counts.ready as u64,
            in_flight: counts.in_flight as u64,
            delayed: counts.delayed as u64,
            oldest_age_ms: Some(counts.oldest_sent_at_ms.map_or(0, |at| now_ms.saturating_sub(at))),
        })
    }
}

fn texts(attributes: &BTreeMap<String, Attribute>) -> BTreeMap<String, String> {
    let text = |(name, it): (&String, &Attribute)| match &it.value {
        AttributeValue::Text(text) => Some((name.clone(), text.clone())),
        AttributeValue::Bytes(_) => None,
    };
    attributes.iter().filter_map(text).collect()
}
