//! Every error, in the words of both protocols.
//!
//! JSON clients read the shape's name from `__type`. Clients written before JSON look for the
//! older code, which JSON responses therefore repeat in `x-amzn-query-error`; without it a program
//! that matches on `AWS.SimpleQueueService.NonExistentQueue` stops working when its SDK is updated.

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::input::Protocol;
use super::output::{JSON, XML, request_id};
use super::xml;
use crate::queue::Error;

/// What went wrong, as both protocols know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// No such queue.
    QueueDoesNotExist,
    /// The queue exists with other attributes.
    QueueNameExists,
    /// A batch without entries.
    EmptyBatchRequest,
    /// More than ten entries.
    TooManyEntriesInBatchRequest,
    /// Two entries of one id.
    BatchEntryIdsNotDistinct,
    /// The entries together are too large.
    BatchRequestTooLong,
    /// An id with illegal characters.
    InvalidBatchEntryId,
    /// A body with illegal characters.
    InvalidMessageContents,
    /// A lease that does not exist is to be changed.
    MessageNotInflight,
    /// Two purges within a minute.
    PurgeQueueInProgress,
    /// Not a handle of this queue.
    ReceiptHandleIsInvalid,
    /// A documented quota is used up.
    OverLimit,
    /// No such attribute.
    InvalidAttributeName,
    /// An attribute cannot have this value.
    InvalidAttributeValue,
    /// No such task.
    ResourceNotFoundException,
    /// Not possible in this state.
    UnsupportedOperation,
    /// A parameter is wrong.
    InvalidParameterValue,
    /// A parameter is missing.
    MissingParameter,
    /// An address that is no queue's.
    InvalidAddress,
    /// No operation was named.
    MissingAction,
    /// No such operation.
    InvalidAction,
    /// Not JSON, or JSON of another shape.
    SerializationException,
    /// The store is full or down: try again.
    ServiceUnavailable,
}

impl Code {
    /// The shape's name in the JSON protocol.
    pub fn shape(self) -> String {
        match self {
            Self::InvalidParameterValue => "InvalidParameterValueException".to_owned(),
            Self::MissingParameter => "MissingRequiredParameterException".to_owned(),
            Self::InvalidAction => "UnknownOperationException".to_owned(),
            _ => format!("{self:?}"),
        }
    }

    /// The older code, in XML and in `x-amzn-query-error`.
    pub fn legacy(self) -> String {
        match self {
            Self::QueueDoesNotExist => "AWS.SimpleQueueService.NonExistentQueue".to_owned(),
            Self::QueueNameExists => "QueueAlreadyExists".to_owned(),
            Self::EmptyBatchRequest
            | Self::TooManyEntriesInBatchRequest
            | Self::BatchEntryIdsNotDistinct
            | Self::BatchRequestTooLong
            | Self::InvalidBatchEntryId
            | Self::MessageNotInflight
            | Self::PurgeQueueInProgress
            | Self::UnsupportedOperation => format!("AWS.SimpleQueueService.{self:?}"),
            _ => format!("{self:?}"),
        }
    }

    /// The HTTP status. The JSON protocol knows only 400 and 500s.
    fn status(self, protocol: Protocol) -> StatusCode {
        match (self, protocol) {
            (Self::ServiceUnavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
            (Self::OverLimit | Self::PurgeQueueInProgress, Protocol::Query) => {
                StatusCode::FORBIDDEN
            }
            (Self::ReceiptHandleIsInvalid | Self::InvalidAddress, Protocol::Query)
            | (Self::ResourceNotFoundException, Protocol::Query) => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether repeating the request unchanged is pointless.
    pub fn is_senders_fault(self) -> bool {
        self != Self::ServiceUnavailable
    }
}

/// An error on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Fault {
    /// A fault with its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// `parameter` has a wrong `value`, in the service's own wording.
    pub fn invalid(parameter: &str, value: impl std::fmt::Display, reason: &str) -> Self {
        let value: String = value.to_string().chars().take(100).collect();
        let message =
            format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}");
        Self::new(Code::InvalidParameterValue, message)
    }

    /// `parameter` is missing.
    pub fn missing(parameter: &str) -> Self {
        let message = format!("The request must contain the parameter {parameter}.");
        Self::new(Code::MissingParameter, message)
    }

    pub(super) fn into_response(self, protocol: Protocol) -> Response {
        let status = self.code.status(protocol);
        let side = if self.code.is_senders_fault() { "Sender" } else { "Receiver" };
        let id = request_id();
        match protocol {
            Protocol::Json => {
                let body = serde_json::json!({
                    "__type": format!("com.amazonaws.sqs#{}", self.code.shape()),
                    "message": self.message,
                });
                let legacy = format!("{};{side}", self.code.legacy());
                let legacy = HeaderValue::from_str(&legacy).expect("codes are plain ASCII");
                let headers = [JSON, ("x-amzn-query-error", legacy), ("x-amzn-requestid", id)];
                (status, headers, body.to_string()).into_response()
            }
            Protocol::Query => {
                let body = xml::error(side, &self.code.legacy(), &self.message, &id);
                (status, [XML, ("x-amzn-requestid", id)], body).into_response()
            }
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NoSuchQueue => {
                return Self::new(Code::QueueDoesNotExist, "The specified queue does not exist.");
            }
            Error::Invalid { field, reason } => {
                let message = format!("The parameter {field} is invalid. Reason: it {reason}.");
                return Self::new(Code::InvalidParameterValue, message);
            }
            Error::ReceiptInvalid => Code::ReceiptHandleIsInvalid,
            Error::Stale | Error::Expired => {
                let message = format!("The parameter ReceiptHandle is invalid. Reason: {error}.");
                return Self::new(Code::InvalidParameterValue, message);
            }
            Error::NotInFlight => Code::MessageNotInflight,
            Error::TooManyInFlight => Code::OverLimit,
            Error::PurgedRecently => Code::PurgeQueueInProgress,
            Error::Full { .. } => Code::ServiceUnavailable,
            Error::Unavailable { .. } => {
                // The cause names a full disk or a lost server; the client is not told.
                tracing::error!(error = ?error, "the store failed");
                let message = "The store did not answer; it may have been done. Try again.";
                return Self::new(Code::ServiceUnavailable, message);
            }
        };
        Self::new(code, error.to_string())
    }
}
