//! One link at a time: create, read, change, delete; and the list of them.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LINK, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use service::extract::parse_json;
use service::{ETag, IdempotencyKey, Json, Path, Preconditions, Problem, Query, idempotency};
use utoipa::{IntoParams, ToSchema};

use super::body::{ChangeBody, CodePath, LinkBody, NewLinkBody};
use super::problem::{ApiProblems, BodyProblems, LinkProblems, TakenProblem, VersionProblems};
use super::{Api, Service};
use crate::code::Code;
use crate::link::{Error, Link, Listing, Owner, PAGE_LINKS_MAX, Version};
use crate::shortener::OnceKey;
use crate::store::Store;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The precondition of every write, for the document; [`Preconditions`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its documentation is used")]
struct IfMatch {
    /// The version you read, as its ETag said it; `*` for any.
    #[param(rename = "If-Match", pattern = r#"^(\*|"[0-9]+")$"#)]
    if_match: String,
}

/// Times a change is tried again when somebody else changes the same link.
const CHANGE_ATTEMPTS: u32 = 4;

impl<S: Store> Api<S> {
    fn link(&self, link: &Link) -> Response {
        let short_url = self.short_url(link.terms.code.as_str());
        let body = LinkBody::new(&link.terms, link.enabled, short_url);
        (ETag(link.version.0.into()), Json(body)).into_response()
    }
}

/// Create a link. With an `Idempotency-Key` a repeat gets the same bytes and makes no second link.
#[utoipa::path(post, path = "/v1/links", request_body = NewLinkBody,
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 128,
        pattern = "^[!-~]+$", description = "A repeat with the same key makes no second link")),
    security(("api_key" = [])), responses(
    ApiProblems, BodyProblems, TakenProblem,
    (status = 201, description = "Created, on disk", body = LinkBody<'_>, headers(
        ("Location" = String, description = "The link as a resource"),
        ("ETag" = String, description = "Its version")), links(
        ("read" = (operation_id = "get", parameters(("code" = "$response.body#/code")))),
        ("stats" = (operation_id = "stats", parameters(("code" = "$response.body#/code")))),
        ("follow" = (operation_id = "follow", parameters(("code" = "$response.body#/code")))),
        ("change" = (operation_id = "update", parameters(
            ("code" = "$response.body#/code"), ("If-Match" = "$response.header.ETag")))),
        ("delete" = (operation_id = "delete", parameters(
            ("code" = "$response.body#/code"), ("If-Match" = "$response.header.ETag")))))),
))]
pub(super) async fn create<S: Store>(
    State(api): Service<S>,
    Extension(owner): Extension<Owner>,
    key: Option<IdempotencyKey>,
    Json(raw): Json<Box<RawValue>>,
) -> Result<Response, Problem> {
    let body: NewLinkBody = parse_json(raw.get().as_bytes())?;
    let shortener = &api.shortener;
    let wish = body.check(shortener.policy(), shortener.now_ms())?;
    let once = match key {
        None => None,
        Some(key) => {
            let fingerprint = idempotency::fingerprint(&parse_json(raw.get().as_bytes())?);
            Some(OnceKey { key: key.as_str().to_owned(), fingerprint })
        }
    };
    let render = |terms: &crate::link::Terms| {
        let short_url = api.short_url(terms.code.as_str());
        serde_json::to_vec(&LinkBody::new(terms, true, short_url)).expect("a link is JSON")
    };
    let created = shortener.create(&owner, wish, once, render).await?;
    let location = api.short_url(&format!("v1/links/{}", created.code));
    let json = HeaderValue::from_static("application/json");
    let mut response = (
        StatusCode::CREATED,
        ETag(Version::FIRST.0.into()),
        [(LOCATION, location)],
        [(CONTENT_TYPE, json)],
        Bytes::from(created.reply),
    )
        .into_response();
    if created.replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// One link.
#[utoipa::path(get, path = "/v1/links/{code}", params(CodePath),
    security(("api_key" = [])), responses(
    ApiProblems, LinkProblems,
    (status = 200, description = "The link", body = LinkBody<'_>, headers(("ETag" = String))),
    (status = 304, description = "It is still at the version in If-None-Match"),
))]
pub(super) async fn get<S: Store>(
    State(api): Service<S>,
    Extension(owner): Extension<Owner>,
    Path(CodePath { code }): Path<CodePath>,
    conditions: Preconditions,
) -> Result<Response, Problem> {
    let link = api.shortener.get(&owner, &Code::parse(&code)?).await?;
    let unchanged = conditions.not_modified(ETag(link.version.0.into()));
    Ok(unchanged.unwrap_or_else(|| api.link(&link)))
}

/// Change a link (JSON Merge Patch: null clears a field). `If-Match` says which version you read.
#[utoipa::path(patch, path = "/v1/links/{code}", request_body = ChangeBody,
    params(CodePath, IfMatch), security(("api_key" = [])), responses(
    ApiProblems, LinkProblems, BodyProblems, VersionProblems,
    (status = 200, description = "The link, changed", body = LinkBody<'_>, headers(("ETag" = String))),
))]
pub(super) async fn update<S: Store>(
    State(api): Service<S>,
    Extension(owner): Extension<Owner>,
    Path(CodePath { code }): Path<CodePath>,
    conditions: Preconditions,
    Json(body): Json<ChangeBody>,
) -> Result<Response, Problem> {
    conditions.require_if_match()?;
    let shortener = &api.shortener;
    let change = body.check(shortener.policy(), shortener.now_ms())?;
    let code = Code::parse(&code)?;
    for _ in 0..CHANGE_ATTEMPTS {
        let expected = api.expected(&owner, &code, &conditions).await?;
        match shortener.update(&owner, &code, Some(expected), change.clone()).await {
            Ok(link) => return Ok(api.link(&link)),
            Err(Error::VersionMismatch { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy())
}

/// Delete a link. Its code is never given out again.
#[utoipa::path(delete, path = "/v1/links/{code}",
    params(CodePath, IfMatch), security(("api_key" = [])), responses(
    ApiProblems, LinkProblems, VersionProblems,
    (status = 204, description = "Deleted"),
))]
pub(super) async fn delete<S: Store>(
    State(api): Service<S>,
    Extension(owner): Extension<Owner>,
    Path(CodePath { code }): Path<CodePath>,
    conditions: Preconditions,
) -> Result<StatusCode, Problem> {
    conditions.require_if_match()?;
    let code = Code::parse(&code)?;
    for _ in 0..CHANGE_ATTEMPTS {
        let expected = api.expected(&owner, &code, &conditions).await?;
        match api.shortener.delete(&owner, &code, Some(expected)).await {
            Ok(()) => return Ok(StatusCode::NO_CONTENT),
            Err(Error::VersionMismatch { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy())
}

impl<S: Store> Api<S> {
    /// The version a conditional write goes for. The write itself checks it again: whoever comes
    /// between makes it start over, with the conditions held against the new version.
    async fn expected(
        &self,
        owner: &Owner,
        code: &Code,
        conditions: &Preconditions,
    ) -> Result<Version, Problem> {
        let link = self.shortener.get(owner, code).await?;
        conditions.check(Some(ETag(link.version.0.into())))?;
        Ok(link.version)
    }
}

fn busy() -> Problem {
    let wait = std::time::Duration::from_secs(1);
    Problem::unavailable("others keep changing this link; nothing was written", wait)
}

/// Which links to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Where the page before ended.
    #[param(pattern = "^[0-9A-Za-z]{6}$")]
    cursor: Option<String>,
    /// Links on a page, 1 to 200; 50 when left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// Only links with this tag.
    tag: Option<String>,
    /// Only links whose code or target contains this.
    q: Option<String>,
}

const PAGE_DEFAULT: u32 = 50;

/// A page of links.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PageBody<'a> {
    /// The links, newest first.
    links: Vec<LinkBody<'a>>,
    /// What to send as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Your links, newest first.
#[utoipa::path(get, path = "/v1/links", params(ListQuery), security(("api_key" = [])), responses(
    ApiProblems,
    (status = 200, description = "A page", body = PageBody<'_>, headers(
        ("Link" = Option<String>, description = "rel=\"next\""))),
))]
pub(super) async fn list<S: Store>(
    State(api): Service<S>,
    Extension(owner): Extension<Owner>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_LINKS_MAX).contains(&limit) {
        let rule = format!("must be 1 to {PAGE_LINKS_MAX}");
        let place = service::problem::Place::Query("limit".to_owned());
        return Err(Problem::bad_request(format!("limit {rule}")).at(place, rule));
    }
    let before = query.cursor.as_deref().map(|cursor| api.shortener.cursor_end(cursor));
    // One more than asked for tells whether there is another page.
    let mut links = api
        .shortener
        .list(
            &owner,
            &Listing {
                before: before.transpose()?,
                limit: limit + 1,
                tag: query.tag,
                search: query.q,
            },
        )
        .await?;
    let more = links.len() > limit as usize;
    links.truncate(limit as usize);
    let next = links.last().filter(|_| more).map(|last| api.shortener.cursor(last.id));
    let bodies = links.iter().map(|link| {
        LinkBody::new(&link.terms, link.enabled, api.short_url(link.terms.code.as_str()))
    });
    let mut headers = HeaderMap::new();
    if let Some(cursor) = &next {
        // Only what is certainly plain goes into the header; the filters are the client's own.
        let url = api.short_url(&format!("v1/links?cursor={cursor}&limit={limit}"));
        let value = HeaderValue::try_from(format!("<{url}>; rel=\"next\""));
        headers.insert(LINK, value.expect("a base URL and base-62 digits"));
    }
    Ok((headers, Json(PageBody { links: bodies.collect(), next })).into_response())
}
