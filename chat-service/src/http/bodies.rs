//! The bodies and parameters of the routes.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use service::Problem;
use service::problem::Place;
use utoipa::{IntoParams, IntoResponses, ToSchema};

use crate::chat::{Changed, Device, MEMBERS_PER_REQUEST_MAX, Message, Receipt, Summary};
use crate::ids::{Seq, UserId};

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterRequest {
    /// 1 to 32 of a-z, 0-9, '.', '_' and '-'.
    #[schema(min_length = 1, max_length = 32, pattern = "^[a-z0-9._-]+$")]
    pub(super) user: String,
    /// 8 to 128 bytes.
    #[schema(min_length = 8, max_length = 128)]
    pub(super) password: String,
}

/// Who logs in, and from where.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginRequest {
    /// The name.
    pub(super) user: String,
    /// The password.
    pub(super) password: String,
    /// A name for this device: 1 to 64 of a-z, 0-9, '.', '_' and '-'.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9._-]+$")]
    pub(super) device: String,
}

/// An account.
#[derive(Serialize, ToSchema)]
pub(super) struct UserBody {
    /// Its name.
    pub(super) user: String,
}

/// A token.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenBody {
    /// For `Authorization: Bearer` and the hello frame.
    pub(super) token: String,
    /// Not valid from here on.
    pub(super) expires_ms: u64,
}

/// Who to talk to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DirectRequest {
    /// The other one.
    pub(super) with: String,
}

/// A new group.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupRequest {
    /// 1 to 128 bytes.
    #[schema(min_length = 1, max_length = 128)]
    pub(super) title: String,
    /// The others; at most 512 at once.
    #[serde(default)]
    pub(super) members: Vec<String>,
}

/// More members.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MembersRequest {
    /// At most 512 at once.
    pub(super) members: Vec<String>,
}

/// A conversation.
#[derive(Serialize, ToSchema)]
pub(super) struct ConversationBody {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    conversation: crate::ids::ConversationId,
    /// The end of its log.
    #[schema(value_type = u64)]
    last_seq: Seq,
}

impl From<Changed> for ConversationBody {
    fn from(changed: Changed) -> Self {
        Self { conversation: changed.conversation, last_seq: changed.last_seq }
    }
}

/// Conversations.
#[derive(Serialize, ToSchema)]
pub(super) struct SummariesBody {
    /// A page of them.
    #[schema(value_type = Vec<Object>)]
    pub(super) items: Vec<Summary>,
    /// Whether there are more: ask with `after` the last one's id.
    pub(super) has_more: bool,
}

/// Messages, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct MessagesBody {
    /// A page of them.
    #[schema(value_type = Vec<Object>)]
    pub(super) messages: Vec<Arc<Message>>,
    /// Whether there are more in this direction.
    pub(super) has_more: bool,
}

/// Members.
#[derive(Serialize, ToSchema)]
pub(super) struct MembersBody {
    /// Each with the cursors.
    #[schema(value_type = Vec<Object>)]
    pub(super) members: Vec<Receipt>,
}

/// Devices.
#[derive(Serialize, ToSchema)]
pub(super) struct DevicesBody {
    /// All of them.
    #[schema(value_type = Vec<Object>)]
    pub(super) devices: Vec<Device>,
}

/// Which conversations.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// After this one.
    #[param(value_type = Option<String>, format = "uuid")]
    pub(super) after: Option<uuid::Uuid>,
    /// At most this many, 1 to 100.
    pub(super) limit: Option<usize>,
}

/// Which messages.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// The newest before this place.
    #[param(value_type = Option<u64>)]
    pub(super) before: Option<Seq>,
    /// The oldest after this place.
    #[param(value_type = Option<u64>)]
    pub(super) after: Option<Seq>,
    /// At most this many, 1 to 500; 100 when left out.
    pub(super) limit: Option<usize>,
}

/// The limit asked for, refused when it is not one.
pub(super) fn limit(asked: Option<usize>, default: usize, max: usize) -> Result<usize, Problem> {
    match asked.unwrap_or(default) {
        0 => Err(query("limit", "must be at least 1")),
        limit if limit > max => Err(query("limit", &format!("must be at most {max}"))),
        limit => Ok(limit),
    }
}

pub(super) fn query(name: &str, detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST)
        .detail(format!("query parameter `{name}` {detail}"))
        .at(Place::Query(name.to_owned()), detail)
}

/// The names as users; a bad one is named by its place.
pub(super) fn users(names: &[String]) -> Result<Vec<UserId>, Problem> {
    if names.len() > MEMBERS_PER_REQUEST_MAX {
        let detail = format!("names {}; at most {MEMBERS_PER_REQUEST_MAX} at once", names.len());
        return Err(Problem::invalid("/members", detail));
    }
    let user = |(at, name): (usize, &String)| {
        UserId::new(name)
            .map_err(|error| Problem::invalid(format!("/members/{at}"), error.to_string()))
    };
    names.iter().enumerate().map(user).collect()
}

// What many routes may answer alike, for the documentation; the answers themselves come from the
// extractors and from the store's errors.

/// A body that cannot be used.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "documentation only")]
pub(super) enum BadBody {
    #[response(
        status = 400,
        description = "The body is not JSON, or the id no UUID",
        content_type = "application/problem+json"
    )]
    Malformed(Problem),
    #[response(
        status = 415,
        description = "The body is not JSON by its content type",
        content_type = "application/problem+json"
    )]
    NotJson(Problem),
    #[response(
        status = 422,
        description = "A field is wrong; errors[] names it",
        content_type = "application/problem+json"
    )]
    Field(Problem),
}

/// A parameter that cannot be used.
#[derive(IntoResponses)]
#[response(
    status = 400,
    description = "A parameter is wrong; errors[] names it",
    content_type = "application/problem+json"
)]
#[allow(dead_code, reason = "documentation only")]
pub(super) struct BadParameter(Problem);

/// A caller who is nobody.
#[derive(IntoResponses)]
#[response(status = 401, description = "No valid token", content_type = "application/problem+json")]
#[allow(dead_code, reason = "documentation only")]
pub(super) struct NoToken(Problem);

/// A conversation the caller is not in, whether it exists or not.
#[derive(IntoResponses)]
#[response(
    status = 404,
    description = "No such conversation of yours",
    content_type = "application/problem+json"
)]
#[allow(dead_code, reason = "documentation only")]
pub(super) struct NotYours(Problem);
