//! DeleteMessage and ChangeMessageVisibility, alone and in batches.

use serde::{Deserialize, Serialize};

use super::Sqs;
use super::caller::Caller;
use super::checks;
use super::errors::{Code, Fault};
use super::output::Nothing;
use super::send::{BatchResult, lost_answer};
use crate::limits::VISIBILITY_MAX_MS;
use crate::message::{QueueId, Receipt};
use crate::queue::{Error, Queues};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct OfMessage {
    queue_url: Option<String>,
    receipt_handle: Option<String>,
    visibility_timeout: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct OfMessages {
    queue_url: Option<String>,
    entries: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Entry {
    id: String,
    receipt_handle: Option<String>,
    visibility_timeout: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Done {
    id: String,
}

impl<Q: Queues + Clone> Sqs<Q> {
    pub(super) async fn delete_message(
        &self,
        caller: &Caller,
        input: OfMessage,
    ) -> Result<Nothing, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        let receipt = receipt(input.receipt_handle)?;
        let mut deleted = self.queues.delete(&queue, vec![receipt]).await?;
        deleted_or_stale(&queue, deleted.pop().ok_or_else(lost_answer)?)?;
        Ok(Nothing {})
    }

    pub(super) async fn delete_batch(
        &self,
        caller: &Caller,
        input: OfMessages,
    ) -> Result<BatchResult<Done>, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        checks::batch(input.entries.iter().map(|entry| entry.id.as_str()))?;
        let mut result = BatchResult::new();
        let (mut ids, mut receipts) = (vec![], vec![]);
        for entry in input.entries {
            match receipt(entry.receipt_handle) {
                Ok(receipt) => {
                    ids.push(entry.id);
                    receipts.push(receipt);
                }
                Err(fault) => result.add(entry.id, Err(fault)),
            }
        }
        let deleted = self.queues.delete(&queue, receipts).await?;
        for (id, deleted) in ids.into_iter().zip(deleted) {
            let done = deleted_or_stale(&queue, deleted).map(|()| Done { id: id.clone() });
            result.add(id, done.map_err(Fault::from));
        }
        Ok(result)
    }

    pub(super) async fn change_visibility(
        &self,
        caller: &Caller,
        input: OfMessage,
    ) -> Result<Nothing, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        let change = change(input.receipt_handle, input.visibility_timeout)?;
        let mut changed = self.queues.change_visibility(&queue, vec![change]).await?;
        changed.pop().ok_or_else(lost_answer)?.map_err(visibility_fault)?;
        Ok(Nothing {})
    }

    pub(super) async fn change_visibility_batch(
        &self,
        caller: &Caller,
        input: OfMessages,
    ) -> Result<BatchResult<Done>, Fault> {
        let queue = caller.queue(input.queue_url.as_deref())?;
        checks::batch(input.entries.iter().map(|entry| entry.id.as_str()))?;
        let mut result = BatchResult::new();
        let (mut ids, mut changes) = (vec![], vec![]);
        for entry in input.entries {
            match change(entry.receipt_handle, entry.visibility_timeout) {
                Ok(change) => {
                    ids.push(entry.id);
                    changes.push(change);
                }
                Err(fault) => result.add(entry.id, Err(fault)),
            }
        }
        let changed = self.queues.change_visibility(&queue, changes).await?;
        for (id, changed) in ids.into_iter().zip(changed) {
            let done = changed.map(|()| Done { id: id.clone() });
            result.add(id, done.map_err(visibility_fault));
        }
        Ok(result)
    }
}

fn receipt(handle: Option<String>) -> Result<Receipt, Fault> {
    let handle = handle.ok_or_else(|| Fault::missing("ReceiptHandle"))?;
    handle.parse().map_err(|_| {
        let handle: String = handle.chars().take(100).collect();
        let what = format!("The input receipt handle \"{handle}\" is not a valid receipt handle.");
        Fault::new(Code::ReceiptHandleIsInvalid, what)
    })
}

fn change(handle: Option<String>, timeout_s: Option<i64>) -> Result<(Receipt, u64), Fault> {
    let receipt = receipt(handle)?;
    let visibility_ms = checks::duration("VisibilityTimeout", timeout_s, VISIBILITY_MAX_MS)?;
    Ok((receipt, visibility_ms.ok_or_else(|| Fault::missing("VisibilityTimeout"))?))
}

/// Trap: on a standard queue SQS answers 200 to a stale receipt and deletes nothing. A worker that
/// must know whether it was still the owner reads the lease epoch, or uses a FIFO queue.
fn deleted_or_stale(queue: &QueueId, deleted: Result<(), Error>) -> Result<(), Error> {
    match deleted {
        Err(Error::Stale) if !queue.is_fifo() => Ok(()),
        other => other,
    }
}

/// To SQS a lease that somebody else holds now is simply not in flight for this receipt.
fn visibility_fault(error: Error) -> Fault {
    match error {
        Error::Stale | Error::NotInFlight => {
            let what = "The message referred to is not in flight under this receipt handle.";
            Fault::new(Code::MessageNotInflight, what)
        }
        other => other.into(),
    }
}
