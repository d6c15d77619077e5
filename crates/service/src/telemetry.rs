//! Log lines: for a terminal or as JSON, on stderr, each with the request id it belongs to.
//!
//! The id is read from the running request when a line is written, not from a span opened for
//! every request: a request that logs nothing pays nothing.
//!
//! Trade-off: a task that a handler spawns logs without the id, unless it is wrapped in
//! [`RequestId::scope`].

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::request_id::RequestId;
use crate::settings::{LogFormat, ServerSettings};

/// Starts logging of a program that is not a server: lines for a terminal.
pub fn init_client(filter: &str) {
    let registry = tracing_subscriber::registry().with(EnvFilter::new(filter));
    let _started_before = registry.with(lines(LogFormat::Pretty, std::io::stderr)).try_init();
}

/// Starts logging for this process. Only the first call in a process has an effect.
pub fn init(settings: &ServerSettings) {
    let filter = EnvFilter::new(&settings.log_filter);
    let registry = tracing_subscriber::registry().with(filter);
    #[cfg(feature = "otlp")]
    let registry = registry.with(settings.otlp_endpoint.as_deref().and_then(crate::otlp::layer));
    // A second call (several services in one test process) finds logging started: fine.
    let _started_before = registry.with(lines(settings.log, std::io::stderr)).try_init();
}

/// Sends what is buffered for a collector; nothing without feature `otlp`.
/// [`serve`](fn@crate::serve) calls it last, after the hooks.
pub(crate) async fn flush() {
    #[cfg(feature = "otlp")]
    crate::otlp::flush().await;
}

/// A `--log-filter` that [`init`] will understand, or why not.
pub(crate) fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The layer that writes lines of this format to `writer`.
pub fn lines<S, W>(log: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // Colours in a file are noise.
    let colours = std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(writer);
    match log {
        LogFormat::Pretty => layer.event_format(IdInFront(format::format())).boxed(),
        LogFormat::Json => {
            layer.json().event_format(IdInside(format::json().flatten_event(true))).boxed()
        }
    }
}

/// `[a1b2c3-7] 2026-... INFO ...`
struct IdInFront<F>(F);

impl<S, N, F> FormatEvent<S, N> for IdInFront<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if let Some(id) = RequestId::current() {
            write!(writer, "[{id}] ")?;
        }
        self.0.format_event(context, writer, event)
    }
}

/// `{"request_id":"a1b2c3-7","timestamp":...}`
struct IdInside<F>(F);

impl<S, N, F> FormatEvent<S, N> for IdInside<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(id) = RequestId::current() else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        // An id holds no character that JSON escapes (see `RequestId::of`).
        write!(writer, "{{\"request_id\":\"{id}\",{}", line.trim_start_matches('{'))
    }
}
