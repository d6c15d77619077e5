//! The one hot route of a service, answered before there is a request.
//!
//! A redirect is a look into memory. Building a request for it, its header maps, the router and
//! the layers around cost several times as much. So as long as a connection asks for nothing else
//! it is served by the loop in this file: a head is read into a buffer and split in place by
//! `httparse` (as in hyper), and the answer is written with one call.
//!
//! What HTTP means stays hyper's to judge. A head that is not surely a plain `GET` or `HEAD` (a
//! body, an older or newer protocol, `Connection: close`, an `Expect`, a query, anything that does
//! not parse or does not fit), and every path that [`First`] does not answer, go to hyper: with the
//! connection, and with every byte that was read. There the connection stays; hyper's requests are
//! shown to [`First`] as well, so only the faster parser is lost.

use std::cell::Cell;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::harden::header_bytes;
use crate::metrics::RouteMetrics;
use crate::request_id::{RequestId, X_REQUEST_ID};

/// Bytes a connection may have read and not answered; a head above it is hyper's to read. Browsers
/// send less than one.
const READ_BYTES_MAX: usize = 4 * 1024;
/// Fields of a head; one with more is hyper's, too.
const FIELDS_MAX: usize = 48;
/// Answers to pipelined requests are sent when they are this many bytes, at the latest: a client
/// that sends without reading must not make this grow.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The head of a request, as hyper or the loop of this file has read it.
pub trait Head {
    /// The method.
    fn method(&self) -> &Method;
    /// The path, without a query.
    fn path(&self) -> &str;
    /// The values of a field, in order.
    fn fields<'a>(&'a self, name: &'a HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]>;

    /// The first value of a field, when it is text.
    fn text<'a>(&'a self, name: &'a HeaderName) -> Option<&'a str> {
        let value = self.fields(name).next()?;
        let is_text = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        std::str::from_utf8(value).ok().filter(|_| is_text)
    }
}

impl<B> Head for Request<B> {
    fn method(&self) -> &Method {
        Request::method(self)
    }

    fn path(&self) -> &str {
        self.uri().path()
    }

    fn fields<'a>(&'a self, name: &'a HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.headers().get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

/// Answers the one hot route of a service beside its router; see
/// [`serve_first`](crate::serve_first).
///
/// Trap: of what [`harden`](fn@crate::harden) does only the request id and the metrics happen for
/// such a request. `answer` must not wait, must not panic, and must answer only what it surely can.
pub trait First: Send + Sync + 'static {
    /// The route's pattern, for the metrics.
    const ROUTE: &'static str;
    /// The fields of an answer. Its body is empty.
    type Fields: IntoIterator<Item = (HeaderName, HeaderValue)>;

    /// The answer, or `None` when the router is to be asked.
    fn answer(&self, head: &impl Head, peer: IpAddr) -> Option<(StatusCode, Self::Fields)>;
}

/// Of a service that has no such route. There is no value of it.
pub(crate) enum Nobody {}

impl First for Nobody {
    const ROUTE: &'static str = "";
    type Fields = [(HeaderName, HeaderValue); 0];

    fn answer(&self, _: &impl Head, _: IpAddr) -> Option<(StatusCode, Self::Fields)> {
        match *self {}
    }
}

/// A hot route with what every answer takes: a request id, and being counted.
pub(crate) struct Hot<F> {
    first: F,
    metrics: RouteMetrics,
}

impl<F: First> Hot<F> {
    pub(crate) fn new(first: F) -> Self {
        Self { first, metrics: RouteMetrics::default() }
    }

    fn answer(
        &self,
        head: &impl Head,
        peer: IpAddr,
    ) -> Option<(StatusCode, F::Fields, HeaderValue)> {
        let started = Instant::now();
        let (status, fields) = self.first.answer(head, peer)?;
        let id = RequestId::of_field(head.fields(&X_REQUEST_ID).next()).header();
        self.metrics.record(F::ROUTE, head.method(), status, started.elapsed());
        Some((status, fields, id))
    }

    /// The answer to a request that hyper has read.
    pub(crate) fn respond<B>(&self, request: &Request<B>, peer: IpAddr) -> Option<Response<Body>> {
        if header_bytes(request.headers()) > READ_BYTES_MAX {
            return None; // it may be more than the router takes, which is for the router to say
        }
        let (status, fields, id) = self.answer(request, peer)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response.headers_mut().extend(fields);
        response.headers_mut().insert(X_REQUEST_ID, id);
        // hyper tells no length in answer to a HEAD by itself.
        response.headers_mut().insert(CONTENT_LENGTH, const { HeaderValue::from_static("0") });
        Some(response)
    }

    /// Serves a connection until it ends (`None`), or asks for something else: then what was read
    /// and not answered.
    pub(crate) async fn serve(
        &self,
        stream: &mut TcpStream,
        peer: IpAddr,
        closing: &CancellationToken,
        head_time: Duration,
    ) -> Option<Vec<u8>> {
        let mut read = Vec::with_capacity(READ_BYTES_MAX);
        let mut answers = Vec::with_capacity(512);
        let closed = closing.cancelled();
        tokio::pin!(closed);
        // Setting a timer anew for every request would cost more than to look, when it fires,
        // how long it really was.
        let mut waiting_since = tokio::time::Instant::now();
        let overdue = tokio::time::sleep_until(waiting_since + head_time);
        tokio::pin!(overdue);
        loop {
            tokio::select! {
                biased;
                // hyper tells the client that this was the last answer.
                () = &mut closed => return Some(read).filter(|read| !read.is_empty()),
                got = stream.read_buf(&mut read) => match got {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                },
                () = overdue.as_mut() => {
                    if waiting_since.elapsed() >= head_time {
                        return None;
                    }
                    overdue.as_mut().reset(waiting_since + head_time);
                    continue;
                }
            }
            let went = self.answer_all(&mut read, &mut answers, stream, peer).await;
            match went {
                Went::Closed => return None,
                Went::ToHyper => return Some(read),
                Went::Waiting { answered: true } => waiting_since = tokio::time::Instant::now(),
                Went::Waiting { answered: false } => {}
            }
        }
    }

    /// Answers the whole heads in `read`, in order, and takes them out.
    async fn answer_all(
        &self,
        read: &mut Vec<u8>,
        answers: &mut Vec<u8>,
        stream: &mut TcpStream,
        peer: IpAddr,
    ) -> Went {
        let mut done = 0;
        let stopped = loop {
            match self.answer_next(&read[done..], answers, peer) {
                Next::Answered { bytes } => done += bytes,
                next => break next,
            }
            if done == read.len() {
                break Next::Partial;
            }
            if answers.len() > ANSWER_BYTES_MAX {
                if stream.write_all(answers).await.is_err() {
                    return Went::Closed;
                }
                answers.clear();
            }
        };
        if !answers.is_empty() && stream.write_all(answers).await.is_err() {
            return Went::Closed;
        }
        answers.clear();
        read.drain(..done);
        match stopped {
            Next::Partial if read.len() < READ_BYTES_MAX => Went::Waiting { answered: done > 0 },
            _ => Went::ToHyper,
        }
    }

    fn answer_next(&self, read: &[u8], answers: &mut Vec<u8>, peer: IpAddr) -> Next {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        let bytes = match request.parse(read) {
            Ok(httparse::Status::Complete(bytes)) => bytes,
            Ok(httparse::Status::Partial) => return Next::Partial,
            Err(_) => return Next::NotPlain,
        };
        let Some(head) = PlainHead::of(&request) else { return Next::NotPlain };
        let Some((status, fields, id)) = self.answer(&head, peer) else { return Next::NotPlain };
        write_answer(answers, status, fields, &id);
        Next::Answered { bytes }
    }
}

enum Went {
    Waiting { answered: bool },
    ToHyper,
    Closed,
}

enum Next {
    Answered { bytes: usize },
    Partial,
    NotPlain,
}

/// A head that says nothing but where and who: no body, no change of protocol, no last request.
struct PlainHead<'a> {
    method: Method,
    path: &'a str,
    fields: &'a [httparse::Header<'a>],
}

impl<'a> PlainHead<'a> {
    fn of(request: &'a httparse::Request<'a, 'a>) -> Option<Self> {
        let method = match request.method? {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            _ => return None,
        };
        // Whatever has to be parsed, decoded or refused is not here.
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
        let path = request.path.filter(|path| path.starts_with('/') && path.bytes().all(harmless));
        let plain = request.version == Some(1) && request.headers.iter().all(is_plain);
        plain.then_some(Self { method, path: path?, fields: request.headers })
    }
}

fn is_plain(field: &httparse::Header<'_>) -> bool {
    let is = |name: HeaderName| field.name.eq_ignore_ascii_case(name.as_str());
    // By length first: most fields are none of these.
    match field.name.len() {
        6 => !is(EXPECT),
        7 => !is(UPGRADE),
        10 => !is(CONNECTION) || field.value.eq_ignore_ascii_case(b"keep-alive"),
        14 => !is(CONTENT_LENGTH),
        17 => !is(TRANSFER_ENCODING),
        _ => true,
    }
}

impl Head for PlainHead<'_> {
    fn method(&self) -> &Method {
        &self.method
    }

    fn path(&self) -> &str {
        self.path
    }

    fn fields<'a>(&'a self, name: &'a HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let named = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name.as_str());
        self.fields.iter().filter(named).map(|field| field.value)
    }
}

/// Writes what hyper would have written, in its order.
fn write_answer(
    answers: &mut Vec<u8>,
    status: StatusCode,
    fields: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
    id: &HeaderValue,
) {
    let mut line =
        |parts: [&[u8]; 4]| parts.iter().for_each(|part| answers.extend_from_slice(part));
    let reason = status.canonical_reason().unwrap_or("<none>");
    line([b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason.as_bytes()]);
    for (name, value) in fields {
        line([b"\r\n", name.as_str().as_bytes(), b": ", value.as_bytes()]);
    }
    line([b"\r\n", X_REQUEST_ID.as_str().as_bytes(), b": ", id.as_bytes()]);
    line([b"\r\ncontent-length: 0", b"\r\ndate: ", &date_now(), b"\r\n\r\n"]);
}

/// The time as a `Date`, written anew once a second.
fn date_now() -> [u8; 29] {
    thread_local! {
        static WRITTEN: Cell<(u64, [u8; 29])> = const { Cell::new((u64::MAX, [b' '; 29])) };
    }
    let now = SystemTime::now();
    let now_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (written_s, mut text) = WRITTEN.get();
    if written_s != now_s {
        text.copy_from_slice(httpdate::fmt_http_date(now).as_bytes());
        WRITTEN.set((now_s, text));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_the_one_everybody_else_writes() {
        loop {
            let before = httpdate::fmt_http_date(SystemTime::now());
            let written = date_now();
            if before == httpdate::fmt_http_date(SystemTime::now()) {
                return assert_eq!(written, before.as_bytes());
            }
        }
    }

    #[test]
    fn only_what_says_nothing_more_is_plain() {
        let parsed = |head: &str| {
            let mut fields = [httparse::EMPTY_HEADER; 8];
            let mut request = httparse::Request::new(&mut fields);
            request.parse(head.as_bytes()).is_ok_and(|status| status.is_complete())
                && PlainHead::of(&request).is_some()
        };
        assert!(parsed("GET /a HTTP/1.1\r\nhost: h\r\nconnection: Keep-Alive\r\n\r\n"));
        assert!(parsed("HEAD /a/b.c~d HTTP/1.1\r\nupgrade-insecure-requests: 1\r\n\r\n"));
        for head in [
            "POST /a HTTP/1.1\r\n\r\n",
            "get /a HTTP/1.1\r\n\r\n",
            "GET /a HTTP/1.0\r\n\r\n",
            "GET /a?b HTTP/1.1\r\n\r\n",
            "GET /%61 HTTP/1.1\r\n\r\n",
            "GET http://h/a HTTP/1.1\r\n\r\n",
            "GET * HTTP/1.1\r\n\r\n",
            "GET /a HTTP/1.1\r\nconnection: close\r\n\r\n",
            "GET /a HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\n\r\n",
            "GET /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "GET /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET /a HTTP/1.1\r\nEXPECT: 100-continue\r\n\r\n",
            "GET /a HTTP/1.1\r\nupgrade: websocket\r\n\r\n",
        ] {
            assert!(!parsed(head), "{head:?}");
        }
    }
}
