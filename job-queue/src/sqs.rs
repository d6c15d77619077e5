//! The front that clients speak to: Amazon SQS, so that every AWS SDK is a client of ours.
//!
//! Two protocols carry the same 23 operations: JSON 1.0 (what SDKs send since 2023) and the older
//! query protocol (a form in, XML out; by POST or GET). Both end in the same typed request, and
//! from there on nothing knows which one it was. One file for each family of operations.
//!
//! What a request says about its sender is believed: the region comes out of the signature's
//! scope, the signature itself is not verified. Put this behind something that does.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use axum::routing::any;

use crate::queue::Queues;

mod errors;
mod caller;
mod input;
mod query;
mod output;
mod xml;
mod md5;
mod checks;
mod attributes;

mod create;
mod configure;
mod permissions;
mod send;
mod receive;
mod acknowledge;
mod moves;

pub use caller::{ACCOUNT_DEFAULT, Caller, REGION_DEFAULT};
pub use errors::{Code, Fault};
use input::Input;
pub use md5::{md5_of_attributes, md5_of_text};
use moves::MoveTasks;
use output::Output;

/// Largest request: a message of the largest size, with every byte escaped as JSON allows.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The SQS service over one store.
#[derive(Debug)]
pub struct Sqs<Q> {
    queues: Q,
    account: Arc<str>,
    moves: MoveTasks,
}

impl<Q: Queues + Clone> Sqs<Q> {
    /// A service for the queues of `account` (12 digits).
    pub fn new(queues: Q, account: &str) -> Self {
        Self { queues, account: account.into(), moves: MoveTasks::default() }
    }

    /// `/` and `/{account}/{queue}`, both protocols on both.
    pub fn router(self) -> Router {
        let front = any(answer::<Q>);
        Router::new()
            .route("/", front.clone())
            .route("/{account}/{queue}", front.clone())
            .route("/{account}/{queue}/", front)
            .with_state(Arc::new(self))
    }
}

async fn answer<Q: Queues + Clone>(
    State(sqs): State<Arc<Sqs<Q>>>,
    OriginalUri(original): OriginalUri,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let caller = Caller::of(&headers, &original, &uri, &sqs.account);
    let input = Input::of(&method, &uri, &headers, body);
    let (protocol, action) = (input.protocol(), input.action().unwrap_or_default().to_owned());
    match sqs.dispatch(&caller, &action, input).await {
        Ok(output) => output.into_response(protocol, &action),
        Err(fault) => fault.into_response(protocol),
    }
}

impl<Q: Queues + Clone> Sqs<Q> {
    async fn dispatch(&self, caller: &Caller, action: &str, input: Input) -> Result<Output, Fault> {
        match action {
            "SendMessage" => Output::of(&self.send_message(caller, input.read()?).await?),
            "SendMessageBatch" => Output::of(&self.send_batch(caller, input.read()?).await?),
            "ReceiveMessage" => Output::of(&self.receive_message(caller, input.read()?).await?),
            "DeleteMessage" => Output::of(&self.delete_message(caller, input.read()?).await?),
            "DeleteMessageBatch" => Output::of(&self.delete_batch(caller, input.read()?).await?),
            "ChangeMessageVisibility" => {
                Output::of(&self.change_visibility(caller, input.read()?).await?)
            }
            "ChangeMessageVisibilityBatch" => {
                Output::of(&self.change_visibility_batch(caller, input.read()?).await?)
            }
            _ => self.dispatch_to_administration(caller, action, input).await,
        }
    }

    async fn dispatch_to_administration(
        &self,
        caller: &Caller,
        action: &str,
        input: Input,
    ) -> Result<Output, Fault> {
        match action {
            "CreateQueue" => Output::of(&self.create_queue(caller, input.read()?).await?),
            "DeleteQueue" => Output::of(&self.delete_queue(caller, input.read()?).await?),
            "ListQueues" => Output::of(&self.list_queues(caller, input.read()?).await?),
            "GetQueueUrl" => Output::of(&self.get_queue_url(caller, input.read()?).await?),
            "GetQueueAttributes" => Output::of(&self.get_attributes(caller, input.read()?).await?),
            "SetQueueAttributes" => Output::of(&self.set_attributes(caller, input.read()?).await?),
            "PurgeQueue" => Output::of(&self.purge_queue(caller, input.read()?).await?),
            "TagQueue" => Output::of(&self.tag_queue(caller, input.read()?).await?),
            "UntagQueue" => Output::of(&self.untag_queue(caller, input.read()?).await?),
            "ListQueueTags" => Output::of(&self.list_tags(caller, input.read()?).await?),
            "AddPermission" => Output::of(&self.add_permission(caller, input.read()?).await?),
            "RemovePermission" => Output::of(&self.remove_permission(caller, input.read()?).await?),
            "ListDeadLetterSourceQueues" => {
                Output::of(&self.list_sources(caller, input.read()?).await?)
            }
            "StartMessageMoveTask" => Output::of(&self.start_move(caller, input.read()?).await?),
            "ListMessageMoveTasks" => Output::of(&self.list_moves(caller, input.read()?)?),
            "CancelMessageMoveTask" => Output::of(&self.cancel_move(input.read()?)?),
            "" => Err(Fault::new(Code::MissingAction, "The request must contain the action.")),
            _ => {
                let what = format!("The action {action} is not valid for this endpoint.");
                Err(Fault::new(Code::InvalidAction, what))
            }
        }
    }
}
