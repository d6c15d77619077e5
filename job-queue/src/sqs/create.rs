//! CreateQueue, DeleteQueue, GetQueueUrl, ListQueues.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::errors::{Code, Fault};
use super::output::Nothing;
use super::{Sqs, attributes, checks, configure};
use crate::message::QueueId;
use crate::queue::{Counts, Created, Queues};
use crate::settings::Settings;

/// Queues in one answer of a list.
pub(super) const LIST_MAX: usize = 1_000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CreateQueue {
    queue_name: Option<String>,
    attributes: BTreeMap<String, String>,
    #[serde(alias = "tags")]
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct QueueUrl {
    queue_url: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct OfQueue {
    pub(super) queue_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct GetQueueUrl {
    queue_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListQueues {
    queue_name_prefix: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct QueueUrls {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    queue_urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl<Q: Queues + Clone> Sqs<Q> {
    /// Creates a queue, or finds it if it has the same attributes already.
    pub(super) async fn create_queue(
        &self,
        caller: &Caller,
        input: CreateQueue,
    ) -> Result<QueueUrl, Fault> {
        let name = input.queue_name.ok_or_else(|| Fault::missing("QueueName"))?;
        let is_fifo = input.attributes.get("FifoQueue").is_some_and(|it| it == "true");
        checks::queue_name(&name, is_fifo)?;
        configure::check_tags(&input.tags)?;
        let queue = QueueId::new(&caller.region, &name);
        let mut settings = if is_fifo { Settings::fifo() } else { Settings::standard() };
        attributes::apply(&mut settings, &input.attributes, caller)?;
        settings.tags = input.tags;
        let wanted = settings.clone();
        if let Created::Existing(existing) = self.queues.create(&queue, settings).await? {
            let none = Counts::default();
            let existing = attributes::describe(&queue, &existing, &none, caller);
            let wanted = attributes::describe(&queue, &wanted, &none, caller);
            // Only what the caller asked for is compared: `create_queue(name)` finds any queue.
            for name in input.attributes.keys() {
                if existing.get(name.as_str()) != wanted.get(name.as_str()) {
                    let what = format!(
                        "A queue already exists with the same name and a different value for \
                         attribute {name}"
                    );
                    return Err(Fault::new(Code::QueueNameExists, what));
                }
            }
        }
        Ok(QueueUrl { queue_url: caller.url(&queue) })
    }

    pub(super) async fn delete_queue(
        &self,
        caller: &Caller,
        input: OfQueue,
    ) -> Result<Nothing, Fault> {
        self.queues.remove(&caller.queue(input.queue_url.as_deref())?).await?;
        Ok(Nothing {})
    }

    pub(super) async fn get_queue_url(
        &self,
        caller: &Caller,
        input: GetQueueUrl,
    ) -> Result<QueueUrl, Fault> {
        let name = input.queue_name.ok_or_else(|| Fault::missing("QueueName"))?;
        let queue = QueueId::new(&caller.region, &name);
        self.queues.settings(&queue).await?;
        Ok(QueueUrl { queue_url: caller.url(&queue) })
    }

    pub(super) async fn list_queues(
        &self,
        caller: &Caller,
        input: ListQueues,
    ) -> Result<QueueUrls, Fault> {
        let prefix = input.queue_name_prefix.unwrap_or_default();
        let limit = checks::count("MaxResults", input.max_results, LIST_MAX, LIST_MAX)?;
        let after = input.next_token.as_deref().map(read_token).transpose()?;
        let matches = |queue: &QueueId, _: &Settings| queue.name.starts_with(&*prefix);
        let (found, more) = self.matching(caller, after, limit, matches).await?;
        let next_token = more.then(|| found.last().map(|last| token(&last.name))).flatten();
        Ok(QueueUrls {
            queue_urls: found.iter().map(|queue| caller.url(queue)).collect(),
            // A token only for those who page, as SQS does.
            next_token: next_token.filter(|_| input.max_results.is_some()),
        })
    }

    /// Up to `limit` queues after `after` that match, and whether there are more.
    pub(super) async fn matching(
        &self,
        caller: &Caller,
        after: Option<String>,
        limit: usize,
        matches: impl Fn(&QueueId, &Settings) -> bool,
    ) -> Result<(Vec<QueueId>, bool), Fault> {
        let mut after = after;
        let mut found = Vec::new();
        loop {
            let page = self.queues.list(&caller.region, after.as_deref(), LIST_MAX).await?;
            let is_last = page.len() < LIST_MAX;
            after = page.last().map(|(queue, _)| queue.name.to_string());
            for (queue, settings) in page {
                if matches(&queue, &settings) {
                    if found.len() == limit {
                        return Ok((found, true));
                    }
                    found.push(queue);
                }
            }
            if is_last {
                return Ok((found, false));
            }
        }
    }
}

/// Where the next page begins: opaque to clients.
pub(super) fn token(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

pub(super) fn read_token(token: &str) -> Result<String, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Fault::invalid("NextToken", token, "Invalid or expired next token."))
}
