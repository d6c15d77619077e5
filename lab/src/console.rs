//! The console: one design, one origin, every system below its own path.
//!
//! Reading order: what a request must satisfy ([`guard`]), what is sent ([`assets`], [`html`]),
//! how live data travels ([`sse`]), and the pages that belong to no system ([`home`],
//! [`questions`], [`comparisons`]).

mod guard;
mod assets;
pub(crate) mod html;
pub(crate) mod sse;
mod home;
mod questions;
mod comparisons;

pub(crate) use guard::Guard;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{Html, Redirect};
use axum::routing::get;
use service::Readiness;
use utoipa::openapi::OpenApiBuilder;

use crate::pages::{Lab, Page};

/// Everything the lab serves. Each system's router is mounted below `/<system>`, its page is
/// `/<system>/`.
pub(crate) fn router(lab: &Lab, pages: Vec<Page>, guard: Guard) -> Router {
    let operator =
        service::operations(Readiness::new(&lab.shutdown), OpenApiBuilder::new().build());
    let (home, comparisons) = (home::page(&pages), comparisons::page(&pages));
    // Its switches are the routes that the pages of the systems have.
    let faults = html::frame("Faults", "/faults", &html::asset("faults.html"), &["faults.js"]);
    let mut router = Router::new()
        .route("/", get(|| async { Html(home) }))
        .route("/comparisons", get(|| async { Html(comparisons) }))
        .route("/faults", get(|| async { Html(faults) }))
        .route("/assets/{*path}", get(assets::serve))
        .merge(questions::router(lab, &pages))
        .merge(operator);
    for page in pages {
        let mount = format!("/{}", page.system);
        let place = format!("{mount}/");
        let redirect = place.clone();
        let html = html::page_of_system(&page);
        router = router
            .route(&mount, get(|| async move { Redirect::temporary(&redirect) }))
            .route(&place, get(|| async { Html(html) }));
        if let Some(service) = page.router {
            router = router.nest(&mount, service);
        }
    }
    router.layer(from_fn_with_state(Arc::new(guard), guard::guard))
}
