//! The page of the chat service: the service itself, to be talked to with its terminal client.

use std::sync::Arc;

use anyhow::Context;
use chat_service::bus::local::Local;
use chat_service::store::sqlite::Sqlite;
use chat_service::{Node, NodeSettings, http};
use service::{Clock, Readiness};

use super::{Lab, Page};

/// One gateway node on a SQLite file that goes when the lab stops.
pub(super) async fn page(lab: &Lab) -> anyhow::Result<Page> {
    let directory = tempfile::tempdir().context("a directory for the messages")?;
    let store = Arc::new(Sqlite::open(&directory.path().join("chat.db")).await?);
    let (bus, settings) = (Arc::new(Local::default()), NodeSettings::default());
    let closing = lab.shutdown.closing();
    let node = Node::start(store, bus, Clock::system(), settings, closing).await?;
    let router = http::router(node, Readiness::new(&lab.shutdown));
    lab.shutdown.on_drained("chat-service", async move { drop(directory) });
    let question = "Messages in order, delivered once to every device, also to those that were \
                    offline.";
    Ok(Page::new("chat-service", "Chat service", question)
        .stored_on("a SQLite file that goes when the lab stops")
        .serving(router))
}
