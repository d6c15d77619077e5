//! Traces for a collector (Jaeger, Tempo, ...) over OTLP/HTTP: a span for each request, named by
//! its route, with the request id that stands in the logs.
//!
//! Trap: the `tracing-opentelemetry` version runs one ahead of `opentelemetry`'s (0.34 goes with
//! 0.33); a mismatch compiles and sends nothing, to a second global provider nobody reads.

use std::sync::OnceLock;

use axum::http::{Method, Uri};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

use crate::request_id::RequestId;

/// Kept to be flushed when the service stops.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// An endpoint [`layer`] can send to. There is no TLS here: a collector is a neighbour.
pub(crate) fn parse_endpoint(text: &str) -> Result<String, String> {
    match text.parse::<Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("is not an http:// URL".to_owned()),
    }
}

/// The layer that turns spans into OpenTelemetry spans and sends them in batches from a thread of
/// its own; `None`, and a line on stderr, when the exporter cannot be built.
pub(crate) fn layer<S>(endpoint: &str) -> Option<OpenTelemetryLayer<S, SdkTracer>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let exporter =
        SpanExporter::builder().with_http().with_endpoint(format!("{endpoint}/v1/traces"));
    let exporter = match exporter.build() {
        Ok(exporter) => exporter,
        Err(error) => {
            // Logging has not started yet: this is where it would go.
            eprintln!("--otlp-endpoint {endpoint}: {error}; no traces are sent");
            return None;
        }
    };
    let name = std::env::args().next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or("service").to_owned();
    let resource = Resource::builder().with_service_name(name).build();
    let provider =
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let provider = PROVIDER.get_or_init(|| provider);
    Some(OpenTelemetryLayer::new(provider.tracer("service")))
}

/// The span of one request; disabled, and free, when no layer wants it.
pub(crate) fn span(method: &Method, route: &str, id: &RequestId) -> Span {
    tracing::info_span!(
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = %method,
        http.route = route,
        request_id = %id,
    )
}

/// Sends what is still buffered. It blocks, so it runs where blocking is allowed.
pub(crate) async fn flush() {
    let Some(provider) = PROVIDER.get() else { return };
    let flushed = tokio::task::spawn_blocking(|| provider.force_flush()).await;
    if !matches!(flushed, Ok(Ok(()))) {
        tracing::warn!(?flushed, "traces were lost: the collector does not answer");
    }
}
