//! Live data to a page: server-sent events that end when the lab stops.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::{Stream, StreamExt};
use serde::Serialize;
use service::Connection;

/// A comment is sent after this much silence, so that a page that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Sends every item as `event: <name>` with its JSON, until `events` ends or the lab stops.
/// Whatever `events` holds is dropped when the page goes away.
pub(crate) fn stream<T, S>(
    connection: &Connection,
    events: S,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + Send + use<T, S>>
where
    T: Serialize,
    S: Stream<Item = (&'static str, T)> + Send + 'static,
{
    let closing = connection.closing();
    let events = events.map(|(name, data)| {
        let event = Event::default().event(name);
        Ok(event.json_data(data).expect("what the lab sends is plain data"))
    });
    let until = async move { closing.cancelled().await };
    Sse::new(events.take_until(Box::pin(until))).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}
