//! Links in JSON, and the rules for what clients may say about them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::code::Code;
use crate::link::{Change, Error, Redirect, TAG_BYTES_MAX, TAGS_MAX, Terms};
use crate::shortener::Wish;
use crate::target_url::{TargetUrl, UrlPolicy};

/// Which link a path is about.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct CodePath {
    /// The code.
    #[param(min_length = 1, max_length = 32, pattern = "^[0-9A-Za-z_-]+$")]
    pub(super) code: String,
}

/// A link to be created.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLinkBody {
    /// Where it leads: an absolute http or https URL without user name.
    #[schema(max_length = 8192, pattern = "^https?://", example = "https://example.com/a/page")]
    url: String,
    /// The code, if it must be this one; drawn when left out.
    #[schema(min_length = 1, max_length = 32, pattern = "^[0-9A-Za-z_-]+$")]
    alias: Option<String>,
    /// From when on it answers 410.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// How many visits it admits.
    #[schema(minimum = 1, maximum = 4294967295u32, format = Int64)]
    max_visits: Option<u32>,
    /// The status it answers with; 302 when left out.
    #[serde(default)]
    #[schema(value_type = RedirectStatus)]
    redirect: Redirect,
    /// For you to find it by.
    #[serde(default)]
    #[schema(value_type = Vec<Tag>, max_items = 16)]
    tags: Vec<String>,
    /// Whether its code must be too long to guess.
    #[serde(default)]
    unlisted: bool,
}

/// What to change; a field left out stays, null clears it.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ChangeBody {
    /// Where it leads.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = String, max_length = 8192, pattern = "^https?://",
             example = "https://example.com/another/page")]
    url: Option<String>,
    /// From when on it answers 410.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<Timestamp>>,
    /// How many visits it admits, those already made included.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 4294967295u32, format = Int64)]
    max_visits: Option<Option<u32>>,
    /// The status it answers with.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = RedirectStatus)]
    redirect: Option<Redirect>,
    /// All its tags.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Vec<Tag>, max_items = 16)]
    tags: Option<Vec<String>>,
    /// Whether it redirects at all.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = bool)]
    enabled: Option<bool>,
}

/// Up to 64 bytes without control characters.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 64)]
pub(super) struct Tag(#[expect(dead_code, reason = "only its schema is used")] String);

/// 301 and 308 are permanent, 307 and 308 keep the method.
pub(super) struct RedirectStatus;

impl ToSchema for RedirectStatus {}

impl PartialSchema for RedirectStatus {
    fn schema() -> RefOr<Schema> {
        let statuses = Redirect::ALL.map(Redirect::status);
        ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some(statuses)).into()
    }
}

/// A field that is there: null is `Some(None)`, or an error where a link cannot do without the
/// field; serde would make it the same as absent.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl NewLinkBody {
    /// Checks every rule that needs no store.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub(super) fn check(self, policy: &UrlPolicy, now_ms: u64) -> Result<Wish, Error> {
        Ok(Wish {
            target: TargetUrl::parse(&self.url, policy)?,
            alias: self.alias.as_deref().map(Code::alias).transpose()?,
            expires_at_ms: self.expires_at.map(|at| in_future(at, now_ms)).transpose()?,
            max_visits: self.max_visits.map(at_least_one).transpose()?,
            redirect: self.redirect,
            tags: plain_tags(self.tags)?,
            unlisted: self.unlisted,
        })
    }
}

impl ChangeBody {
    /// Like [`NewLinkBody::check`].
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub(super) fn check(self, policy: &UrlPolicy, now_ms: u64) -> Result<Change, Error> {
        let expires_at = |at: Option<Timestamp>| at.map(|at| in_future(at, now_ms)).transpose();
        Ok(Change {
            target: self.url.map(|url| TargetUrl::parse(&url, policy)).transpose()?,
            expires_at_ms: self.expires_at.map(expires_at).transpose()?,
            max_visits: self.max_visits.map(|n| n.map(at_least_one).transpose()).transpose()?,
            redirect: self.redirect,
            tags: self.tags.map(plain_tags).transpose()?,
            enabled: self.enabled,
        })
    }
}

fn in_future(at: Timestamp, now_ms: u64) -> Result<u64, Error> {
    match u64::try_from(at.as_millisecond()) {
        Ok(at_ms) if at_ms > now_ms => Ok(at_ms),
        _ => Err(Error::invalid("expires_at", "is not in the future")),
    }
}

fn at_least_one(visits: u32) -> Result<u32, Error> {
    match visits {
        0 => Err(Error::invalid("max_visits", "must be at least 1")),
        _ => Ok(visits),
    }
}

fn plain_tags(tags: Vec<String>) -> Result<Vec<String>, Error> {
    if tags.len() > TAGS_MAX {
        return Err(Error::invalid("tags", format!("holds more than {TAGS_MAX}")));
    }
    for (at, tag) in tags.iter().enumerate() {
        if tag.is_empty() || tag.len() > TAG_BYTES_MAX || tag.chars().any(char::is_control) {
            let rule = format!("must be 1 to {TAG_BYTES_MAX} bytes without control characters");
            return Err(Error::invalid(format!("tags/{at}"), rule));
        }
    }
    // Saying a tag twice says no more than once.
    let mut seen = BTreeSet::new();
    Ok(tags.iter().filter(|tag| seen.insert(tag.as_str())).cloned().collect())
}

/// A link.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LinkBody<'a> {
    /// The path of the short URL.
    code: &'a str,
    /// The short URL.
    short_url: String,
    /// Where it leads, as it will be sent.
    url: &'a str,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// From when on it answers 410.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// How many visits it admits.
    max_visits: Option<u32>,
    /// The status it answers with.
    redirect: u16,
    /// Its tags.
    tags: &'a [String],
    /// Whether its code is too long to guess.
    unlisted: bool,
    /// Whether it redirects.
    enabled: bool,
}

impl<'a> LinkBody<'a> {
    pub(super) fn new(terms: &'a Terms, enabled: bool, short_url: String) -> Self {
        Self {
            code: terms.code.as_str(),
            short_url,
            url: terms.target.as_str(),
            created_at: timestamp(terms.created_at_ms),
            expires_at: terms.expires_at_ms.map(timestamp),
            max_visits: terms.max_visits,
            redirect: terms.redirect.status(),
            tags: &terms.tags,
            unlisted: terms.unlisted,
            enabled,
        }
    }
}

fn timestamp(at_ms: u64) -> Timestamp {
    i64::try_from(at_ms)
        .ok()
        .and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok())
        .unwrap_or(Timestamp::MAX)
}
