//! The service's routes and their documentation, nothing else.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use service::{ETag, IdempotencyKey, Json, Path, Preconditions, Problem, Readiness};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::audit::Audit;
use crate::inventory::{Error, Grant, Inventory, Item, Reservation, State as Standing};
use crate::order::{
    Key, LINES_MAX, Line, Lines, Order, ReservationId, Restock, Sku, TTL_MS_DEFAULT,
};

use crate::problems::{
    AnyRoute, Counts, LooksAgain, MakesItem, NeedsKey, NeedsVersion, OfHold, OfItem, OfReservation,
    Reserves, TakesJson,
};

/// Tells a client that its request was a repeat.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A SKU nobody can have; `/readyz` looks it up to see whether the store answers.
const PROBE: &str = "readyz-probe";

/// The routes of the inventory service, with the operator's endpoints.
pub fn router<I: Inventory>(inventory: Arc<I>, readiness: Readiness) -> Router {
    let (routes, mut openapi) = OpenApiRouter::new()
        .routes(routes!(create_item))
        .routes(routes!(get_item, put_item))
        .routes(routes!(restock))
        .routes(routes!(reserve))
        .routes(routes!(get_reservation))
        .routes(routes!(confirm))
        .routes(routes!(cancel))
        .routes(routes!(extend))
        .routes(routes!(audit))
        .with_state(Arc::clone(&inventory))
        .split_for_parts();
    openapi.info.title = "inventory-locking".to_owned();
    let store = move || {
        let inventory = Arc::clone(&inventory);
        async move {
            match inventory.item(&Sku::stored(PROBE)).await {
                Ok(_) | Err(Error::UnknownSku(_)) => Ok(()),
                Err(error) => Err(error),
            }
        }
    };
    routes.merge(service::operations(readiness.check("store", store), openapi))
}

type Service<I> = State<Arc<I>>;

/// Something to keep in stock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewItem {
    /// 1 to 64 of A-Z a-z 0-9 . _ -
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    sku: String,
    /// How many there are.
    #[schema(maximum = 1_000_000_000_000_u64)]
    on_hand: u64,
}

/// What was counted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Count {
    /// How many there are, those held included.
    #[schema(maximum = 1_000_000_000_000_u64)]
    on_hand: u64,
}

/// What arrived.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Delivery {
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_u64)]
    quantity: u64,
}

/// A cart to hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Cart {
    /// What is wanted; the same SKU twice counts as one line.
    #[schema(min_items = 1, max_items = 64)]
    lines: Vec<CartLine>,
    /// How long to hold it; ten minutes when left out, at most a day.
    #[serde(default = "ttl_ms_default")]
    #[schema(minimum = 1, maximum = 86_400_000)]
    ttl_ms: u64,
}

fn ttl_ms_default() -> u64 {
    TTL_MS_DEFAULT
}

/// One line of a cart.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CartLine {
    /// Which.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    sku: String,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000)]
    quantity: u64,
}

/// How much longer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Extension {
    /// From now on.
    #[schema(minimum = 1, maximum = 86_400_000)]
    ttl_ms: u64,
}

/// A reservation in JSON.
#[derive(Debug, Serialize, ToSchema)]
struct ReservationBody {
    /// Its name.
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// How it stands.
    state: Standing,
    /// What it holds, one line for each SKU.
    lines: Vec<CartLine>,
    /// When it was granted, in milliseconds since 1970.
    granted_at_ms: u64,
    /// From when on it cannot be confirmed.
    expires_at_ms: u64,
    /// The same, to be read.
    expires_at: String,
}

impl From<Reservation> for ReservationBody {
    fn from(reservation: Reservation) -> Self {
        let Reservation { id, state, order, granted_at_ms, expires_at_ms } = reservation;
        let line = |line: &Line| CartLine { sku: line.sku.to_string(), quantity: line.quantity };
        let lines = order.lines.iter().map(line).collect();
        let expires_at = i64::try_from(expires_at_ms)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .map(|time| time.to_string())
            .unwrap_or_default();
        Self { id: id.0, state, lines, granted_at_ms, expires_at_ms, expires_at }
    }
}

impl Cart {
    fn order(self, key: &IdempotencyKey) -> Result<Order, Error> {
        // Refused before the lines are looked at, so that a huge cart costs nothing.
        if self.lines.len() > LINES_MAX {
            let reason = format!("holds more than {LINES_MAX} lines");
            return Err(Error::invalid("lines", reason));
        }
        let lines = self.lines.into_iter().enumerate().map(|(index, line)| {
            let sku = Sku::new(&line.sku, &format!("lines/{index}/sku"))?;
            Ok(Line { sku, quantity: line.quantity })
        });
        let lines = Lines::new(lines.collect::<Result<Vec<_>, Error>>()?)?;
        Order::new(Some(Key::new(key.as_str())?), lines, self.ttl_ms)
    }
}

fn item_body(item: Item) -> Response {
    (ETag(item.version), Json(item)).into_response()
}

/// Keep stock of a new SKU.
#[utoipa::path(post, path = "/v1/items", request_body = NewItem, responses(
    (status = 201, description = "Created, with its ETag and Location", body = Item),
    MakesItem, TakesJson, AnyRoute,
))]
async fn create_item<I: Inventory>(
    State(inventory): Service<I>,
    Json(new): Json<NewItem>,
) -> Result<Response, Problem> {
    let item = inventory.create(Sku::new(&new.sku, "sku")?, new.on_hand).await?;
    let location = format!("/v1/items/{}", item.sku);
    Ok((StatusCode::CREATED, [(LOCATION, location)], item_body(item)).into_response())
}

/// The stock of a SKU now. Its ETag is what If-Match wants.
#[utoipa::path(get, path = "/v1/items/{sku}",
    params(("sku" = String, Path), ("If-None-Match" = Option<String>, Header, pattern = r#"^(\*|"[0-9]+")$"#)), responses(
    (status = 200, description = "The stock, with its ETag", body = Item),
    (status = 304, description = "Still the version named by If-None-Match"),
    OfItem, LooksAgain, AnyRoute,
))]
async fn get_item<I: Inventory>(
    State(inventory): Service<I>,
    Path(sku): Path<String>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let item = inventory.item(&path_sku(&sku)?).await?;
    Ok(preconditions.not_modified(ETag(item.version)).unwrap_or_else(|| item_body(item)))
}

/// Set what was counted. If-Match carries the optimistic lock through to the person who counts:
/// whoever looked at an older version is told, and changes nothing.
#[utoipa::path(put, path = "/v1/items/{sku}",
    params(("sku" = String, Path), ("If-Match" = String, Header, pattern = r#"^(\*|"[0-9]+")$"#)),
    request_body = Count, responses(
    (status = 200, description = "Set, with the new ETag", body = Item),
    OfItem, Counts, TakesJson, NeedsVersion, AnyRoute,
))]
async fn put_item<I: Inventory>(
    State(inventory): Service<I>,
    Path(sku): Path<String>,
    preconditions: Preconditions,
    Json(count): Json<Count>,
) -> Result<Response, Problem> {
    let sku = path_sku(&sku)?;
    preconditions.require_if_match()?;
    let expected = match preconditions.expected_version() {
        Some(version) => Some(version),
        // `*`, a list, or a tag that is no version: look which version it means, if any, and
        // hold the write to that one.
        None => {
            let current = inventory.item(&sku).await?.version;
            preconditions.check(Some(ETag(current)))?;
            Some(current)
        }
    };
    Ok(item_body(inventory.set_on_hand(&sku, count.on_hand, expected).await?))
}

/// Book a delivery, once for each Idempotency-Key.
#[utoipa::path(post, path = "/v1/items/{sku}/restock",
    params(("sku" = String, Path), ("Idempotency-Key" = String, Header, min_length = 1, max_length = 128, pattern = "^[!-~]+$")),
    request_body = Delivery, responses(
    (status = 200, description = "The stock after it", body = Item),
    OfItem, TakesJson, NeedsKey, AnyRoute,
))]
async fn restock<I: Inventory>(
    State(inventory): Service<I>,
    Path(sku): Path<String>,
    key: IdempotencyKey,
    Json(delivery): Json<Delivery>,
) -> Result<Response, Problem> {
    let key = Some(Key::new(key.as_str())?);
    let restock = Restock { key, quantity: delivery.quantity };
    Ok(item_body(inventory.restock(&path_sku(&sku)?, restock).await?))
}

/// Hold a cart, all of it or nothing. A repeat with the same Idempotency-Key gets the same answer
/// and takes nothing.
#[utoipa::path(post, path = "/v1/reservations",
    params(("Idempotency-Key" = String, Header, min_length = 1, max_length = 128, pattern = "^[!-~]+$")), request_body = Cart, responses(
    (status = 201, description = "Held; Idempotency-Replayed says whether it is a repeat", body = ReservationBody),
    OfItem, Reserves, TakesJson, NeedsKey, AnyRoute,
))]
async fn reserve<I: Inventory>(
    State(inventory): Service<I>,
    key: IdempotencyKey,
    Json(cart): Json<Cart>,
) -> Result<Response, Problem> {
    let Grant { reservation, replayed } = inventory.reserve(cart.order(&key)?).await?;
    let location = format!("/v1/reservations/{}", reservation.id);
    let body = Json(ReservationBody::from(reservation));
    let mut response = (StatusCode::CREATED, [(LOCATION, location)], body).into_response();
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A reservation now.
#[utoipa::path(get, path = "/v1/reservations/{id}", params(("id" = String, Path, format = "uuid")), responses(
    (status = 200, description = "How it stands", body = ReservationBody),
    OfReservation, AnyRoute,
))]
async fn get_reservation<I: Inventory>(
    State(inventory): Service<I>,
    Path(id): Path<Uuid>,
) -> Result<Json<ReservationBody>, Problem> {
    Ok(Json(inventory.reservation(ReservationId(id)).await?.into()))
}

/// Sell what is held. A repeat gets the same answer.
#[utoipa::path(post, path = "/v1/reservations/{id}/confirm", params(("id" = String, Path, format = "uuid")), responses(
    (status = 200, description = "Sold", body = ReservationBody),
    OfReservation, OfHold, AnyRoute,
))]
async fn confirm<I: Inventory>(
    State(inventory): Service<I>,
    Path(id): Path<Uuid>,
) -> Result<Json<ReservationBody>, Problem> {
    Ok(Json(inventory.confirm(ReservationId(id)).await?.into()))
}

/// Give back what is held. A repeat gets the same answer.
#[utoipa::path(post, path = "/v1/reservations/{id}/cancel", params(("id" = String, Path, format = "uuid")), responses(
    (status = 200, description = "Given back", body = ReservationBody),
    OfReservation, OfHold, AnyRoute,
))]
async fn cancel<I: Inventory>(
    State(inventory): Service<I>,
    Path(id): Path<Uuid>,
) -> Result<Json<ReservationBody>, Problem> {
    Ok(Json(inventory.cancel(ReservationId(id)).await?.into()))
}

/// Hold it for this long from now on.
#[utoipa::path(post, path = "/v1/reservations/{id}/extend", params(("id" = String, Path, format = "uuid")),
    request_body = Extension, responses(
    (status = 200, description = "Held until the new deadline", body = ReservationBody),
    OfReservation, OfHold, TakesJson, AnyRoute,
))]
async fn extend<I: Inventory>(
    State(inventory): Service<I>,
    Path(id): Path<Uuid>,
    Json(extension): Json<Extension>,
) -> Result<Json<ReservationBody>, Problem> {
    Ok(Json(inventory.extend(ReservationId(id), extension.ttl_ms).await?.into()))
}

/// Recompute every invariant from one snapshot.
#[utoipa::path(get, path = "/v1/audit", responses(
    (status = 200, description = "What was added up, and what does not agree", body = Audit),
    AnyRoute,
))]
async fn audit<I: Inventory>(State(inventory): Service<I>) -> Result<Json<Audit>, Problem> {
    Ok(Json(inventory.audit().await?))
}

/// A path that cannot name an item names none.
fn path_sku(text: &str) -> Result<Sku, Problem> {
    Sku::new(text, "sku").map_err(|_| Problem::not_found("no item has a name like that"))
}
