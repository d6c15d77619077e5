//! The systems as the console shows them: one file each.
//!
//! # How a system gets its page
//!
//! 1. `lab/src/pages/<system>.rs` (it exists already): build the service's router from the crate's
//!    `http` module and return
//!    `Page::new("<system>", "Title", "The interviewer's question?").stored_on("SQLite, in ..").serving(router)`.
//!    The router is mounted at `/<system>`, so the API is `/<system>/v1/..`; routes that only the
//!    page needs go below `/<system>/lab/..`. Do not route `/`: that is the page.
//! 2. `lab/assets/<system>.html`: what stands below the title, without `<html>` or `<head>`;
//!    `lab/assets/<system>.js`: an ES module that imports from `/assets/house.js`. Both are found
//!    by name. No inline script or style: the Content-Security-Policy refuses it.
//! 3. Nothing else: [`all`] lists every system from the start, and a page that serves no router
//!    says "not built yet".
//!
//! What helps: [`crate::traffic`] sends bounded open-loop HTTP load to the mounted service and
//! streams what happened; [`crate::console::sse`] streams anything else; [`Lab::found`] says
//! what this machine has; work that outlives a request ends on `lab.shutdown.closing()`.

mod rate_limiter;
mod lru_cache;
mod url_shortener;
mod job_queue;
mod inventory_locking;
mod chat_service;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use service::Shutdown;

/// Every system, in the order of the README.
pub(crate) async fn all(lab: &Lab) -> anyhow::Result<Vec<Page>> {
    Ok(vec![
        rate_limiter::page(lab).await?,
        lru_cache::page(lab).await?,
        url_shortener::page(lab).await?,
        job_queue::page(lab).await?,
        inventory_locking::page(lab).await?,
        chat_service::page(lab).await?,
    ])
}

/// What a page is built with.
#[derive(Clone)]
pub(crate) struct Lab {
    /// Where this lab is reached; load that a page sends goes here.
    pub(crate) address: SocketAddr,
    /// Begins when the lab stops.
    pub(crate) shutdown: Shutdown,
    /// What this machine has.
    pub(crate) found: Arc<infra::Found>,
}

/// A system in the console.
pub(crate) struct Page {
    /// The crate's name, which is also the path.
    pub(crate) system: &'static str,
    /// Its name for people.
    pub(crate) title: &'static str,
    /// The interviewer's question.
    pub(crate) question: &'static str,
    /// Where its state is.
    pub(crate) stored_on: String,
    /// Its service, and what only its page needs; `None`: not built yet.
    pub(crate) router: Option<Router>,
}

impl Page {
    /// A page that is not built yet.
    pub(crate) fn new(system: &'static str, title: &'static str, question: &'static str) -> Self {
        Self { system, title, question, stored_on: "not built yet".to_owned(), router: None }
    }

    /// Where its state is, in a few words.
    pub(crate) fn stored_on(self, stored_on: impl Into<String>) -> Self {
        Self { stored_on: stored_on.into(), ..self }
    }

    /// Mounts the service.
    pub(crate) fn serving(self, router: Router) -> Self {
        Self { router: Some(router), ..self }
    }
}
