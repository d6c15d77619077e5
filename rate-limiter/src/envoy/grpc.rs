//! gRPC for one method: a frame in, a frame out, and the status in the trailers.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
//!
//! A unary method without compression is a length-prefixed message over HTTP/2, which the server
//! under the HTTP API speaks already; so there is no second server and no second runtime.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, header};
use axum::response::Response;
use axum::routing::post;
use http_body_util::{BodyExt, Full, Limited};
use prost::Message;

use super::service::Envoy;
use super::wire::RateLimitRequest;
use crate::limiter::{Error, Store};

/// A longer request is refused. Envoy's are some hundred bytes.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// The flag byte and the length.
const PREFIX_BYTES: usize = 5;

/// The codes of gRPC that we use.
#[derive(Clone, Copy)]
enum Status {
    Ok = 0,
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
}

/// The service, for any HTTP/2 server.
pub fn router<S: Store>(envoy: Arc<Envoy<S>>) -> Router {
    Router::new()
        .route(
            "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            post(should_rate_limit::<S>),
        )
        .fallback(|| async { failed(Status::Unimplemented, "only ShouldRateLimit is served here") })
        .with_state(envoy)
}

async fn should_rate_limit<S: Store>(
    State(envoy): State<Arc<Envoy<S>>>,
    request: Request<Body>,
) -> Response {
    let body = match Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return failed(Status::ResourceExhausted, &error.to_string()),
    };
    let request = match decode(&body) {
        Ok(request) => request,
        Err((status, what)) => return failed(status, &what),
    };
    match envoy.should_rate_limit(request).await {
        Ok(response) => succeeded(&response),
        Err(error @ Error::Invalid { .. }) => failed(Status::InvalidArgument, &error.to_string()),
        Err(error) => failed(Status::Unavailable, &error.to_string()),
    }
}

fn decode(body: &[u8]) -> Result<RateLimitRequest, (Status, String)> {
    let malformed = |what: &str| (Status::InvalidArgument, what.to_owned());
    let (prefix, message) =
        body.split_at_checked(PREFIX_BYTES).ok_or_else(|| malformed("the frame is cut short"))?;
    if prefix[0] != 0 {
        return Err((Status::Unimplemented, "compressed requests are not understood".to_owned()));
    }
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if length != message.len() {
        return Err(malformed("the frame is not as long as it says"));
    }
    RateLimitRequest::decode(message).map_err(|error| malformed(&error.to_string()))
}

fn succeeded(message: &impl Message) -> Response {
    let mut frame = vec![0; PREFIX_BYTES];
    message.encode(&mut frame).expect("a buffer in memory takes everything");
    let length = (frame.len() - PREFIX_BYTES) as u32;
    frame[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    let trailers = async { Some(Ok(trailers(Status::Ok, None))) };
    response(Body::new(Full::new(Bytes::from(frame)).with_trailers(trailers)))
}

/// A failure has no message: its status comes in place of one.
fn failed(status: Status, what: &str) -> Response {
    let mut response = response(Body::empty());
    response.headers_mut().extend(trailers(status, Some(what)));
    response
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn trailers(status: Status, what: Option<&str>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status as u16));
    if let Some(what) = what {
        // Percent-encoding, as the protocol has it: what is not plain ASCII is escaped.
        let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
        let escaped: String = what
            .bytes()
            .map(|byte| match plain(byte) {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            })
            .collect();
        if let Ok(value) = HeaderValue::try_from(escaped) {
            trailers.insert("grpc-message", value);
        }
    }
    trailers
}
