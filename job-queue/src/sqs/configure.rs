//! GetQueueAttributes, SetQueueAttributes, PurgeQueue, and tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::create::OfQueue;
use super::errors::{Code, Fault};
use super::output::Nothing;
use super::{Sqs, attributes};
use crate::limits::TAGS_MAX;
use crate::message::QueueId;
use crate::queue::{Error, Queues};
use crate::settings::Settings;

/// Longest key and value of a tag.
const TAG_KEY_MAX: usize = 128;
const TAG_VALUE_MAX: usize = 256;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct GetAttributes {
    queue_url: Option<String>,
    attribute_names: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attributes {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<&'static str, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SetAttributes {
    queue_url: Option<String>,
    attributes: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct TagQueue {
    queue_url: Option<String>,
    tags: BTreeMap<String, String>,
    tag_keys: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tags {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

impl<Q: Queues + Clone> Sqs<Q> {
    pub(super) async fn get_attributes(
        &self,
        caller: &Caller,
        input: GetAttributes,
    ) -> Result<Attributes, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        let wanted = input.attribute_names;
        for name in &wanted {
            if name != "All" && !attributes::NAMES.contains(&name.as_str()) {
                let what = format!("Unknown Attribute {name}.");
                return Err(Fault::new(Code::InvalidAttributeName, what));
            }
        }
        let settings = self.queues.settings(&queue).await?;
        let counts = self.queues.counts(&queue).await?;
        let mut attributes = attributes::describe(&queue, &settings, &counts, caller);
        if !wanted.iter().any(|name| name == "All") {
            attributes.retain(|name, _| wanted.iter().any(|wanted| wanted == name));
        }
        Ok(Attributes { attributes })
    }

    pub(super) async fn set_attributes(
        &self,
        caller: &Caller,
        input: SetAttributes,
    ) -> Result<Nothing, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        if input.attributes.is_empty() {
            return Err(Fault::missing("Attribute"));
        }
        if input.attributes.contains_key("FifoQueue") && !queue.is_fifo() {
            let what = "Unknown Attribute FifoQueue.";
            return Err(Fault::new(Code::InvalidAttributeName, what));
        }
        let as_caller = caller.clone();
        self.change(&queue, move |settings| {
            attributes::apply(settings, &input.attributes, &as_caller)
        })
        .await
    }

    /// Changes settings with a function that may refuse in the protocol's own words.
    pub(super) async fn change(
        &self,
        queue: &QueueId,
        change: impl FnOnce(&mut Settings) -> Result<(), Fault> + Send + 'static,
    ) -> Result<Nothing, Fault> {
        let refusal = Arc::new(Mutex::new(None));
        let refused = Arc::clone(&refusal);
        let changed = self.queues.configure(queue, move |settings| {
            change(settings).map_err(|fault| {
                *refused.lock() = Some(fault);
                Error::invalid("Attributes", "were refused")
            })
        });
        let changed = changed.await;
        match refusal.lock().take() {
            Some(fault) => Err(fault),
            None => Ok(changed.map(|()| Nothing {})?),
        }
    }

    pub(super) async fn purge_queue(
        &self,
        caller: &Caller,
        input: OfQueue,
    ) -> Result<Nothing, Fault> {
        self.queues.purge(&caller.queue(input.queue_url.as_deref())?).await?;
        Ok(Nothing {})
    }

    pub(super) async fn tag_queue(
        &self,
        caller: &Caller,
        input: TagQueue,
    ) -> Result<Nothing, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        if input.tags.is_empty() {
            return Err(Fault::missing("Tags"));
        }
        self.change(&queue, move |settings| {
            settings.tags.extend(input.tags);
            check_tags(&settings.tags)
        })
        .await
    }

    pub(super) async fn untag_queue(
        &self,
        caller: &Caller,
        input: TagQueue,
    ) -> Result<Nothing, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        if input.tag_keys.is_empty() {
            return Err(Fault::missing("TagKeys"));
        }
        self.change(&queue, move |settings| {
            settings.tags.retain(|key, _| !input.tag_keys.contains(key));
            Ok(())
        })
        .await
    }

    pub(super) async fn list_tags(&self, caller: &Caller, input: OfQueue) -> Result<Tags, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        Ok(Tags { tags: self.queues.settings(&queue).await?.tags })
    }
}

pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Fault> {
    if tags.len() > TAGS_MAX {
        let what = format!("Too many tags: a queue has at most {TAGS_MAX}.");
        return Err(Fault::new(Code::InvalidParameterValue, what));
    }
    for (key, value) in tags {
        if key.is_empty() || key.len() > TAG_KEY_MAX {
            return Err(Fault::invalid("Tag.Key", key, "Must be 1 to 128 bytes long."));
        }
        if value.len() > TAG_VALUE_MAX {
            return Err(Fault::invalid("Tag.Value", value, "Must be at most 256 bytes long."));
        }
    }
    Ok(())
}
