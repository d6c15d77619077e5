//! Who came, from where, when.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use serde::Serialize;
use service::{Json, Path, Problem};
use utoipa::ToSchema;

use super::Service;
use super::body::CodePath;
use super::problem::{ApiProblems, LinkProblems};
use crate::clicks::DayTally;
use crate::clicks::visit::Browser;
use crate::code::Code;
use crate::link::Owner;
use crate::store::Store;

/// What is known about the clicks of a link.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatsBody {
    /// Clicks by people.
    total: u64,
    /// About how many people, over all days.
    unique: u64,
    /// Clicks by programs, which are in none of the other numbers.
    bots: u64,
    /// By day, in UTC, oldest first.
    days: Vec<DayBody>,
    /// By referring host; the most frequent, and the rest as "(other)".
    referrers: BTreeMap<String, u64>,
    /// By browser.
    browsers: BTreeMap<&'static str, u64>,
}

/// One day.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DayBody {
    /// Which.
    date: String,
    /// Clicks by people.
    clicks: u64,
    /// About how many people.
    unique: u64,
    /// Clicks by programs.
    bots: u64,
}

/// The clicks of a link. Those of the last tenth of a second may be missing.
#[utoipa::path(get, path = "/v1/links/{code}/stats", params(CodePath),
    security(("api_key" = [])), responses(
    ApiProblems, LinkProblems,
    (status = 200, description = "The clicks", body = StatsBody),
))]
pub(super) async fn stats<S: Store>(
    State(api): Service<S>,
    Extension(owner): Extension<Owner>,
    Path(CodePath { code }): Path<CodePath>,
) -> Result<Json<StatsBody>, Problem> {
    let days = api.shortener.clicks(&owner, &Code::parse(&code)?).await?;
    let mut sum = DayTally::default();
    days.iter().for_each(|(_, day)| sum.merge(day));
    let day = |(day, tally): &(crate::clicks::Day, DayTally)| DayBody {
        date: day.date(),
        clicks: tally.clicks,
        unique: tally.visitors.estimate(),
        bots: tally.bots,
    };
    let mut referrers: BTreeMap<String, u64> =
        sum.referrers.iter().map(|(host, clicks)| (host.to_string(), *clicks)).collect();
    if sum.other_referrers > 0 {
        *referrers.entry("(other)".to_owned()).or_default() += sum.other_referrers;
    }
    Ok(Json(StatsBody {
        total: sum.clicks,
        unique: sum.visitors.estimate(),
        bots: sum.bots,
        days: days.iter().map(day).collect(),
        referrers,
        browsers: Browser::ALL.iter().map(|b| (b.name(), sum.browsers[*b as usize])).collect(),
    }))
}
