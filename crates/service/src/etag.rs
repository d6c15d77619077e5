//! Optimistic concurrency over HTTP: the row's version as a strong ETag, `If-Match` on writes,
//! `If-None-Match` on reads and creates (RFC 9110, section 13).
//!
//! The check here is the polite half. Between it and the write another write may come in, so the
//! write itself must say `WHERE version = ...` with [`Preconditions::expected_version`].

use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};

use crate::problem::{Place, Problem};

/// Most tags in one header; a longer list is refused, for nobody holds that many versions.
pub const TAGS_MAX: usize = 64;

/// A strong ETag made of a version number, such as `"7"`. Put it in a response tuple:
/// `(ETag(row.version), Json(row))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag(pub u64);

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl IntoResponseParts for ETag {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        let value = HeaderValue::try_from(self.to_string());
        parts.headers_mut().insert(ETAG, value.expect("digits in quotes are a header value"));
        Ok(parts)
    }
}

/// `*`, or a list of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    List(Vec<Tag>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    opaque: String, // without its quotes
}

impl Tag {
    fn is(&self, etag: ETag) -> bool {
        self.opaque == etag.0.to_string()
    }
}

impl Tags {
    /// `If-Match` compares strongly: a weak tag never matches, for it does not promise the same
    /// bytes.
    fn matches_strongly(&self, current: Option<ETag>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::List(tags), Some(etag)) => tags.iter().any(|tag| !tag.weak && tag.is(etag)),
        }
    }

    /// `If-None-Match` compares weakly.
    fn matches_weakly(&self, current: Option<ETag>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::List(tags), Some(etag)) => tags.iter().any(|tag| tag.is(etag)),
        }
    }
}

/// What the request says about the version it expects; an extractor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

impl Preconditions {
    /// The conditions among the headers.
    ///
    /// # Errors
    /// 400 naming the header when it is not `*` or a list of quoted tags.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            if_match: parse_header(headers, &IF_MATCH)?,
            if_none_match: parse_header(headers, &IF_NONE_MATCH)?,
        })
    }

    /// For a write: may it go ahead on this version (`None`: nothing is there)?
    ///
    /// # Errors
    /// 412 when it may not, with the current version as `ETag`, so that the client can look again.
    pub fn check(&self, current: Option<ETag>) -> Result<(), Problem> {
        let expected = self.if_match.as_ref().is_none_or(|tags| tags.matches_strongly(current));
        let excluded = self.if_none_match.as_ref().is_some_and(|tags| tags.matches_weakly(current));
        match (expected, excluded) {
            (true, false) => Ok(()),
            (false, _) => Err(failed(&IF_MATCH, current)),
            (true, true) => Err(failed(&IF_NONE_MATCH, current)),
        }
    }

    /// For a write that must not be blind.
    ///
    /// # Errors
    /// 428 when the request has no `If-Match`.
    pub fn require_if_match(&self) -> Result<(), Problem> {
        match self.if_match {
            Some(_) => Ok(()),
            None => Err(Problem::new(StatusCode::PRECONDITION_REQUIRED)
                .detail("send If-Match with the ETag you last read, or `*` for any version")
                .at(Place::Header("If-Match".to_owned()), "is required here")),
        }
    }

    /// The one version `If-Match` names, for the write's `WHERE version = ...`; `None` when it
    /// names none (absent or `*`) or several: then check under a lock.
    pub fn expected_version(&self) -> Option<u64> {
        match &self.if_match {
            Some(Tags::List(tags)) => match tags.as_slice() {
                [tag] if !tag.weak => tag.opaque.parse().ok(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the request says `If-None-Match: *`: create, never replace.
    pub fn create_only(&self) -> bool {
        self.if_none_match == Some(Tags::Any)
    }

    /// For a read: the 304 when the client already has this version.
    pub fn not_modified(&self, current: ETag) -> Option<Response> {
        let has_it = self.if_none_match.as_ref()?.matches_weakly(Some(current));
        has_it.then(|| (StatusCode::NOT_MODIFIED, current, ()).into_response())
    }
}

fn failed(header: &HeaderName, current: Option<ETag>) -> Problem {
    let (detail, etag) = match current {
        Some(etag) => (format!("the current version is {etag}"), Some(etag)),
        None => ("nothing is there".to_owned(), None),
    };
    let problem = Problem::new(StatusCode::PRECONDITION_FAILED)
        .detail(detail)
        .at(Place::Header(display_name(header).to_owned()), "does not hold");
    match etag.and_then(|etag| HeaderValue::try_from(etag.to_string()).ok()) {
        Some(value) => problem.header(ETAG, value),
        None => problem,
    }
}

fn display_name(header: &HeaderName) -> &'static str {
    if *header == IF_MATCH { "If-Match" } else { "If-None-Match" }
}

fn parse_header(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
    let wrong = |what: &str| {
        let header = display_name(name);
        Problem::bad_request(format!("{header} {what}")).at(Place::Header(header.to_owned()), what)
    };
    let mut tags = Vec::new();
    let mut any = false;
    for line in headers.get_all(name) {
        let line = line.to_str().map_err(|_| wrong("is not ASCII"))?.trim();
        if line == "*" {
            any = true;
        } else {
            parse_list(line, &mut tags).ok_or_else(|| wrong("is not `*` or a list of \"tags\""))?;
        }
        if tags.len() > TAGS_MAX {
            return Err(wrong("has too many tags"));
        }
    }
    match (any, tags.is_empty()) {
        (true, true) => Ok(Some(Tags::Any)),
        (true, false) => Err(wrong("mixes `*` with tags")),
        (false, false) => Ok(Some(Tags::List(tags))),
        (false, true) if headers.contains_key(name) => Err(wrong("is empty")),
        (false, true) => Ok(None),
    }
}

/// `"1", W/"2"`. A comma may stand inside the quotes, so this is no `split(',')`.
fn parse_list(line: &str, tags: &mut Vec<Tag>) -> Option<()> {
    let mut rest = line;
    while !rest.is_empty() {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
        tags.push(Tag { weak, opaque: opaque.to_owned() });
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(())
}

impl<S: Sync> FromRequestParts<S> for Preconditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.headers)
    }
}
