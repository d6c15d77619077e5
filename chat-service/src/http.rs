//! The routes and their documentation, nothing else.

mod bodies;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderValue, LOCATION};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use rate_limiter::Key;
use service::problem::Place;
use service::{Connection, Json, Path, Problem, Query, Readiness};
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bus::{Bus, Event};
use crate::chat::{Account, Changed, Error, NewGroup, PageLimit, Receipt, SUMMARIES_MAX, Store};
use crate::gateway::{self, SOCKET_BUFFER_BYTES};
use crate::ids::{ConversationId, DeviceId, UserId};
use crate::node::Node;
use crate::protocol::FRAME_BYTES_MAX;
use crate::token::{Claims, TOKEN_MS};

use bodies::{
    BadBody, BadParameter, ConversationBody, DevicesBody, DirectRequest, GroupRequest,
    HistoryQuery, ListQuery, LoginRequest, MembersBody, MembersRequest, MessagesBody, NoToken,
    NotYours, RegisterRequest, SummariesBody, TokenBody, UserBody,
};

/// What a socket gathers before it writes without being asked to: fewer writes while much is sent.
/// Grows with what is sent, so an idle connection does not have it.
const WRITE_BATCH_BYTES: usize = 4 * 1024;
/// What a socket may gather before a write must succeed. Only a frame that does not fit at all is
/// refused, and the largest is a history page.
const WRITE_BUFFER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a client is asked to wait when the store does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The routes of one server, with the operator's endpoints.
pub fn router<S: Store, B: Bus>(node: Node<S, B>, readiness: Readiness) -> Router {
    let store = std::sync::Arc::clone(&node.store);
    let (routes, mut openapi) = OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(list_conversations, open_direct))
        .routes(routes!(create_group))
        .routes(routes!(list_messages))
        .routes(routes!(list_members, add_members))
        .routes(routes!(remove_member))
        .routes(routes!(list_devices))
        .routes(routes!(remove_device))
        .routes(routes!(socket))
        .with_state(node)
        .split_for_parts();
    openapi.info.title = "chat-service".to_owned();
    let ping = move || {
        let store = std::sync::Arc::clone(&store);
        async move { store.ping().await }
    };
    routes.merge(service::operations(readiness.check("store", ping), openapi))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (field, detail) = (error.field().unwrap_or_default(), error.to_string());
        let pointer = format!("/{field}");
        let of = |status, kind: &'static str, title: &'static str| {
            Self::of(status, kind, title)
                .detail(detail.clone())
                .field(pointer.clone(), detail.clone())
        };
        match error {
            Error::Invalid { reason, .. } => Self::invalid(pointer, reason),
            Error::NotFound { .. } => of(StatusCode::NOT_FOUND, "about:blank", "Not Found"),
            Error::Forbidden { .. } => of(StatusCode::FORBIDDEN, "about:blank", "Forbidden"),
            Error::Conflict { .. } => of(StatusCode::CONFLICT, "about:blank", "Conflict"),
            Error::Full { .. } => {
                of(StatusCode::CONFLICT, "urn:problem:bound-reached", "A bound was reached")
            }
            Error::Unavailable { .. } => {
                // The cause names a full disk or a lost server; the client is not told.
                tracing::warn!(?error, "the store did not answer");
                let detail = "the store did not answer; it may have been done: ask again";
                Self::unavailable(detail, RETRY_AFTER)
            }
        }
    }
}

/// Who asks, proved by a token of a device that was not removed.
struct Caller {
    user: UserId,
    device: DeviceId,
}

impl<S: Store, B: Bus> FromRequestParts<Node<S, B>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, node: &Node<S, B>) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        let token =
            token.ok_or_else(|| unauthorised("a `Bearer` token from /v1/login is needed"))?;
        let claims = node.tokens.check(token.trim(), node.clock.now_ms());
        let Claims { user, device, .. } =
            claims.map_err(|rejected| unauthorised(rejected.to_string()))?;
        let devices = node.store.devices(user.clone()).await?;
        if devices.iter().all(|known| known.device != device) {
            return Err(unauthorised("this device was removed; log in again"));
        }
        Ok(Self { user, device })
    }
}

fn unauthorised(detail: impl Into<String>) -> Problem {
    let detail = detail.into();
    Problem::new(StatusCode::UNAUTHORIZED)
        .at(Place::Header("Authorization".to_owned()), detail.clone())
        .detail(detail)
        .header(axum::http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// Create an account.
#[utoipa::path(post, path = "/v1/register", request_body = RegisterRequest, responses(
    (status = 201, description = "Created", body = UserBody),
    (status = 409, description = "The name is taken", body = Problem),
    (status = 503, description = "Too many at once", body = Problem),
    BadBody,
))]
async fn register<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    Json(request): Json<RegisterRequest>,
) -> Result<Response, Problem> {
    let user = UserId::new(&request.user)?;
    let password_hash = node.passwords.hash(&request.password).await?;
    node.store.create_account(Account { user: user.clone(), password_hash }).await?;
    Ok((StatusCode::CREATED, Json(UserBody { user: user.to_string() })).into_response())
}

/// Get a token for a device of yours; the device is added when it is new.
#[utoipa::path(post, path = "/v1/login", request_body = LoginRequest, responses(
    (status = 200, description = "A token", body = TokenBody),
    (status = 401, description = "No such user with this password", body = Problem),
    (status = 409, description = "Too many devices; remove one", body = Problem),
    (status = 503, description = "Too many at once", body = Problem),
    BadBody,
))]
async fn login<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    Json(request): Json<LoginRequest>,
) -> Result<Json<TokenBody>, Problem> {
    let (user, device) = (UserId::new(&request.user)?, DeviceId::new(&request.device)?);
    let account = node.store.account(user.clone()).await?;
    let hash = account.map(|account| account.password_hash);
    if !node.passwords.verify(&request.password, hash).await? {
        // The same for an unknown user, and as slow: names cannot be tried out.
        return Err(
            Problem::new(StatusCode::UNAUTHORIZED).detail("no such user with this password")
        );
    }
    let now_ms = node.clock.now_ms();
    node.store.put_device(user.clone(), device.clone(), now_ms).await?;
    let claims = Claims { user, device, expires_ms: now_ms + TOKEN_MS };
    let token = node.tokens.sign(&claims);
    Ok(Json(TokenBody { token, expires_ms: claims.expires_ms }))
}

/// Your conversations, with what is unread.
#[utoipa::path(get, path = "/v1/conversations", params(ListQuery), responses(
    (status = 200, description = "A page, ordered by id", body = SummariesBody),
    NoToken, BadParameter,
))]
async fn list_conversations<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<SummariesBody>, Problem> {
    let after = query.after.map(ConversationId);
    let limit = bodies::limit(query.limit, SUMMARIES_MAX, SUMMARIES_MAX)?;
    let page = node.store.summaries(caller.user, caller.device, after, limit).await?;
    Ok(Json(SummariesBody { items: page.items, has_more: page.has_more }))
}

/// The conversation with somebody; created if there is none.
#[utoipa::path(post, path = "/v1/conversations", request_body = DirectRequest, responses(
    (status = 200, description = "It was there", body = ConversationBody),
    (status = 201, description = "Created", body = ConversationBody),
    (status = 404, description = "No such user", body = Problem),
    (status = 409, description = "One of you is in too many conversations", body = Problem),
    BadBody, NoToken,
))]
async fn open_direct<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    caller: Caller,
    Json(request): Json<DirectRequest>,
) -> Result<Response, Problem> {
    let with = UserId::new(&request.with).map_err(|error| renamed(error, "with"))?;
    Ok(created(node.store.open_direct(caller.user, with).await?))
}

/// Create a group under an id of your own, so that repeating the request is no harm.
#[utoipa::path(put, path = "/v1/conversations/{conversation}", request_body = GroupRequest,
    params(("conversation" = String, Path, format = "uuid")), responses(
    (status = 200, description = "It was there", body = ConversationBody),
    (status = 201, description = "Created", body = ConversationBody),
    (status = 404, description = "A member does not exist", body = Problem),
    (status = 409, description = "The id is another's, or somebody is in too many", body = Problem),
    BadBody, NoToken,
))]
async fn create_group<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    caller: Caller,
    Path(conversation): Path<ConversationId>,
    Json(request): Json<GroupRequest>,
) -> Result<Response, Problem> {
    let members = bodies::users(&request.members)?;
    let (title, now_ms) = (request.title, node.clock.now_ms());
    let group = NewGroup { conversation, by: caller.user, title, members, now_ms };
    let changed = node.store.create_group(group).await?;
    node.publish_change(changed, None).await;
    Ok(created(changed))
}

/// 201 when it is new, 200 when it was there.
fn created(changed: Changed) -> Response {
    let body = Json(ConversationBody::from(changed));
    if !changed.changed {
        return body.into_response();
    }
    let location = format!("/v1/conversations/{}/messages", changed.conversation);
    (StatusCode::CREATED, [(LOCATION, location)], body).into_response()
}

/// A page of history, oldest first: the newest messages before `before`, or with `after` the
/// oldest after it.
#[utoipa::path(get, path = "/v1/conversations/{conversation}/messages", params(
    ("conversation" = String, Path, format = "uuid"), HistoryQuery), responses(
    (status = 200, description = "A page", body = MessagesBody),
    NoToken, NotYours, BadParameter,
))]
async fn list_messages<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    caller: Caller,
    Path(conversation): Path<ConversationId>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<MessagesBody>, Problem> {
    let limit =
        PageLimit::messages(bodies::limit(query.limit, 100, crate::chat::PAGE_MESSAGES_MAX)?);
    let page = match (query.before, query.after) {
        (Some(_), Some(_)) => return Err(bodies::query("after", "excludes `before`")),
        (before, None) => node.store.before(caller.user, conversation, before, limit).await?,
        (None, Some(after)) => node.store.since(caller.user, conversation, after, limit).await?,
    };
    Ok(Json(MessagesBody { messages: page.messages, has_more: page.has_more }))
}

/// The members and how far each of them is: what ticks are derived from.
#[utoipa::path(get, path = "/v1/conversations/{conversation}/members",
    params(("conversation" = String, Path, format = "uuid")), responses(
    (status = 200, description = "The members", body = MembersBody),
    NoToken, NotYours, BadParameter,
))]
async fn list_members<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    caller: Caller,
    Path(conversation): Path<ConversationId>,
) -> Result<Json<MembersBody>, Problem> {
    let members: Vec<Receipt> = node.store.receipts(caller.user, conversation).await?;
    Ok(Json(MembersBody { members }))
}

/// Add members to a group you administer.
#[utoipa::path(post, path = "/v1/conversations/{conversation}/members",
    request_body = MembersRequest,
    params(("conversation" = String, Path, format = "uuid")), responses(
    (status = 200, description = "They are members", body = ConversationBody),
    (status = 403, description = "You do not administer it", body = Problem),
    (status = 404, description = "No such conversation of yours, or no such user", body = Problem),
    (status = 409, description = "Too many members, or somebody is in too many", body = Problem),
    BadBody, NoToken,
))]
async fn add_members<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    caller: Caller,
    Path(conversation): Path<ConversationId>,
    Json(request): Json<MembersRequest>,
) -> Result<Json<ConversationBody>, Problem> {
    let members = bodies::users(&request.members)?;
    let now_ms = node.clock.now_ms();
    let changed = node.store.add_members(caller.user, conversation, members, now_ms).await?;
    node.publish_change(changed, None).await;
    Ok(Json(ConversationBody::from(changed)))
}

/// Remove a member from a group you administer, or leave it yourself.
#[utoipa::path(delete, path = "/v1/conversations/{conversation}/members/{user}", params(
    ("conversation" = String, Path, format = "uuid"), ("user" = String, Path)), responses(
    (status = 204, description = "Removed"),
    (status = 403, description = "You do not administer it", body = Problem),
    (status = 404, description = "No such conversation of yours, or no such member", body = Problem),
    NoToken, BadParameter,
))]
async fn remove_member<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    caller: Caller,
    Path((conversation, member)): Path<(ConversationId, UserId)>,
) -> Result<StatusCode, Problem> {
    let now_ms = node.clock.now_ms();
    let removing = node.store.remove_member(caller.user, conversation, member.clone(), now_ms);
    node.publish_change(removing.await?, Some(member)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Your devices.
#[utoipa::path(get, path = "/v1/devices", responses(
    (status = 200, description = "The devices", body = DevicesBody),
    NoToken,
))]
async fn list_devices<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    caller: Caller,
) -> Result<Json<DevicesBody>, Problem> {
    Ok(Json(DevicesBody { devices: node.store.devices(caller.user).await? }))
}

/// Remove a device of yours: its connections are closed and its tokens no longer work.
#[utoipa::path(delete, path = "/v1/devices/{device}", params(("device" = String, Path)), responses(
    (status = 204, description = "Removed"),
    (status = 400, description = "Not a device name", body = Problem),
    (status = 404, description = "No such device", body = Problem),
    NoToken,
))]
async fn remove_device<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    caller: Caller,
    Path(device): Path<DeviceId>,
) -> Result<StatusCode, Problem> {
    node.store.remove_device(caller.user.clone(), device.clone()).await?;
    node.publish_lossy(Event::DeviceRemoved { user: caller.user, device }).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The WebSocket; PROTOCOL.md says what is spoken on it.
#[utoipa::path(get, path = "/v1/socket", responses(
    (status = 101, description = "Speak the protocol"),
    (status = 400, description = "Not a WebSocket upgrade", body = Problem),
    (status = 426, description = "Not a WebSocket upgrade", body = Problem),
    (status = 429, description = "Too many connections from this address", body = Problem),
))]
async fn socket<S: Store, B: Bus>(
    State(node): State<Node<S, B>>,
    connection: Connection,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    admit(&node, &connection)?;
    let closing = connection.closing();
    let upgrade = upgrade
        .read_buffer_size(SOCKET_BUFFER_BYTES)
        .write_buffer_size(WRITE_BATCH_BYTES)
        // Without this a client that does not read would have us buffer without end.
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX);
    // Boxed: every wrapper around a future holds it twice, and that for each idle connection.
    let serving = move |socket| connection.track(Box::pin(gateway::serve(node, socket, closing)));
    Ok(upgrade.on_upgrade(serving))
}

fn admit<S: Store, B: Bus>(node: &Node<S, B>, connection: &Connection) -> Result<(), Problem> {
    let (Some(connects), Some(peer)) = (&node.connects, connection.peer()) else { return Ok(()) };
    let address = peer.to_string();
    let decision = Key::new(&address).and_then(|key| connects.check_now(key, 1));
    match decision.ok().and_then(|decision| decision.retry_after()) {
        Some(wait) => Err(Problem::new(StatusCode::TOO_MANY_REQUESTS)
            .detail("too many connections from this address")
            .retry_after(wait)),
        None => Ok(()),
    }
}

fn renamed(error: Error, field: &'static str) -> Error {
    match error {
        Error::Invalid { reason, .. } => Error::Invalid { field, reason },
        other => other,
    }
}
