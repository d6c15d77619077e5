//! Many links in one request, as lines of JSON in both directions.
//!
//! Rows are read, checked and committed as they come: neither side holds the whole list. Each row
//! stands alone; the answer to row n is line n.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream::{BoxStream, StreamExt};
use serde::Serialize;
use service::Problem;
use service::problem::Place;
use utoipa::ToSchema;

use super::body::NewLinkBody;
use super::problem::{ApiProblems, BodyProblems};
use super::{Api, Service};
use crate::link::{BATCH_LINKS_MAX, Error, Owner};
use crate::shortener::{ROWS_PER_TURN, Wish};
use crate::store::Store;
use crate::turns::give_way;

/// The largest bulk body: about a million links. It is streamed, so this bounds the time one
/// request can take, not memory.
pub const BULK_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The longest line; one that goes on is an error, and the last answer.
const LINE_BYTES_MAX: usize = 32 * 1024;
/// Rows in one transaction.
const ROWS_PER_BATCH: usize = BATCH_LINKS_MAX;
/// Batches on their way at once: while one is on its way to the disk, the next is parsed.
const BATCHES_IN_FLIGHT: usize = 3;

/// The answer to one row.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RowBody {
    /// Which, from 1.
    row: usize,
    /// What a request for this link alone would have been answered with.
    status: u16,
    /// The code of the new link.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Its short URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    short_url: Option<String>,
    /// What is wrong with the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Create many links: one JSON object per line, as in the body of a single create. The answer has
/// a line for each, in order. Rows are independent: what failed can be sent again by itself.
#[utoipa::path(post, path = "/v1/links/bulk",
    request_body(content = Vec<NewLinkBody>, content_type = "application/x-ndjson"),
    security(("api_key" = [])), responses(
    ApiProblems, BodyProblems,
    (status = 200, description = "A line per row", body = Vec<RowBody>, content_type = "application/x-ndjson"),
))]
pub(super) async fn create_many<S: Store>(
    State(api): Service<S>,
    Extension(owner): Extension<Owner>,
    request: Request,
) -> Result<Response, Problem> {
    check_content_type(request.headers())?;
    let batches = batches(Lines::new(request.into_body()), Arc::clone(&api));
    let answers = batches
        .map(move |batch| commit(Arc::clone(&api), owner.clone(), batch))
        .buffered(BATCHES_IN_FLIGHT)
        .map(Ok::<_, std::convert::Infallible>);
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    Ok(([(CONTENT_TYPE, ndjson)], Body::from_stream(answers)).into_response())
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let sent = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = sent.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let known = ["application/x-ndjson", "application/ndjson", "application/jsonl"];
    match known.iter().any(|kind| essence.eq_ignore_ascii_case(kind.as_bytes())) {
        true => Ok(()),
        false => {
            let detail = "this route takes application/x-ndjson";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE)
                .detail(detail)
                .at(Place::Header("Content-Type".to_owned()), detail))
        }
    }
}

type Row = (usize, Result<Wish, Error>);

/// Checked rows, some hundred at a time.
fn batches<S: Store>(lines: Lines, api: Arc<Api<S>>) -> BoxStream<'static, Vec<Row>> {
    futures::stream::unfold(lines, move |mut lines| {
        let api = Arc::clone(&api);
        async move {
            let mut rows = Vec::with_capacity(ROWS_PER_BATCH);
            let now_ms = api.shortener.now_ms();
            while rows.len() < ROWS_PER_BATCH {
                give_way(rows.len(), ROWS_PER_TURN).await;
                let Some((row, line)) = lines.next().await else { break };
                let body = line.and_then(|line| parse(&line));
                rows.push((row, body.and_then(|body| body.check(api.shortener.policy(), now_ms))));
            }
            (!rows.is_empty()).then_some((rows, lines))
        }
    })
    .boxed()
}

fn parse(line: &[u8]) -> Result<NewLinkBody, Error> {
    // serde would take an array, too.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(Error::invalid("row", "is not a JSON object"));
    }
    serde_json::from_slice(line).map_err(|error| Error::invalid("row", error.to_string()))
}

async fn commit<S: Store>(api: Arc<Api<S>>, owner: Owner, rows: Vec<Row>) -> Bytes {
    let (mut numbers, mut wishes, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for (row, wish) in rows {
        match wish {
            Ok(wish) => {
                numbers.push(row);
                wishes.push(wish);
            }
            Err(error) => answers.push(refused(row, error)),
        }
    }
    match api.shortener.create_many(&owner, wishes).await {
        Ok(created) => {
            answers.extend(numbers.into_iter().zip(created).map(|(row, created)| match created {
                Err(error) => refused(row, error),
                Ok(link) => RowBody {
                    row,
                    status: 201,
                    short_url: Some(api.short_url(link.terms.code.as_str())),
                    code: Some(link.terms.code.to_string()),
                    detail: None,
                },
            }));
        }
        Err(error) => {
            let (status, detail) =
                (Problem::from(error).status().as_u16(), "the store did not answer");
            let all = numbers.into_iter().map(|row| RowBody {
                row,
                status,
                code: None,
                short_url: None,
                detail: Some(detail.to_owned()),
            });
            answers.extend(all);
        }
    }
    answers.sort_unstable_by_key(|answer| answer.row);
    let mut lines = Vec::with_capacity(answers.len() * 96);
    for (row, answer) in answers.into_iter().enumerate() {
        give_way(row, ROWS_PER_TURN).await;
        serde_json::to_writer(&mut lines, &answer).expect("an answer is JSON");
        lines.push(b'\n');
    }
    lines.into()
}

fn refused(row: usize, error: Error) -> RowBody {
    let detail = Some(error.to_string());
    let status = Problem::from(error).status().as_u16();
    RowBody { row, status, code: None, short_url: None, detail }
}

/// The lines of a body that arrives in pieces.
struct Lines {
    body: BoxStream<'static, Result<Bytes, axum::Error>>,
    buffer: Vec<u8>,
    start: usize,
    row: usize,
    ended: bool,
}

impl Lines {
    fn new(body: Body) -> Self {
        let body = body.into_data_stream().boxed();
        Self { body, buffer: Vec::new(), start: 0, row: 0, ended: false }
    }

    /// The next line that is not blank, with its number; after an error, nothing more.
    async fn next(&mut self) -> Option<(usize, Result<Vec<u8>, Error>)> {
        loop {
            let line = match self.take_line() {
                Some(line) => line,
                None if self.ended => return None,
                None => match self.fill().await {
                    Ok(()) => continue,
                    Err(error) => {
                        self.ended = true;
                        self.buffer.clear();
                        self.start = 0;
                        return Some((self.row + 1, Err(error)));
                    }
                },
            };
            self.row += 1;
            if !line.trim_ascii().is_empty() {
                return Some((self.row, Ok(line)));
            }
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let rest = &self.buffer[self.start..];
        if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
            let line = rest[..length].to_vec();
            self.start += length + 1;
            return Some(line);
        }
        if self.ended && !rest.is_empty() {
            let line = rest.to_vec();
            self.start = self.buffer.len();
            return Some(line);
        }
        None
    }

    async fn fill(&mut self) -> Result<(), Error> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(Error::invalid("row", format!("is longer than {LINE_BYTES_MAX} bytes")));
        }
        match self.body.next().await {
            Some(Ok(piece)) => self.buffer.extend_from_slice(&piece),
            Some(Err(_)) => return Err(Error::invalid("row", "the body broke off here")),
            None => self.ended = true,
        }
        Ok(())
    }
}
