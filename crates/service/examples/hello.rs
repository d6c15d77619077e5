//! The smallest complete service: what a system's `main.rs` and `http.rs` look like on top of
//! this crate.
//!
//! ```text
//! cargo run -p service --example hello -- --listen 127.0.0.1:8080
//! curl -i 127.0.0.1:8080/v1/greetings -H 'content-type: application/json' -d '{"name": ""}'
//! ```

use axum::Router;
use axum::routing::post;
use clap::Parser;
use serde::{Deserialize, Serialize};
use service::{Json, Problem, Readiness, ServerSettings, StoreSettings, StoreUrl};
use utoipa::{OpenApi, ToSchema};

// ---- http.rs

#[derive(OpenApi)]
#[openapi(paths(greet))]
struct Api;

#[derive(Deserialize, ToSchema)]
struct Who {
    name: String,
}

#[derive(Serialize, ToSchema)]
struct Greeting {
    greeting: String,
}

/// Greets somebody.
#[utoipa::path(post, path = "/v1/greetings", request_body = Who, responses(
    (status = 200, body = Greeting),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
async fn greet(Json(who): Json<Who>) -> Result<Json<Greeting>, Problem> {
    if who.name.is_empty() {
        return Err(Problem::invalid("/name", "must not be empty"));
    }
    Ok(Json(Greeting { greeting: format!("Hello, {}!", who.name) }))
}

fn router(readiness: Readiness) -> Router {
    let routes = Router::new().route("/v1/greetings", post(greet));
    routes.merge(service::operations(readiness, Api::openapi()))
}

// ---- main.rs

/// Greets whoever asks.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    server: ServerSettings,
    #[command(flatten)]
    store: StoreSettings,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run(Flags::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<(), service::Error> {
    service::telemetry::init(&flags.server);
    let StoreUrl::Memory = flags.store.store else {
        return Err(flags.store.store.unsupported(&["memory:"]));
    };
    let listener = service::bind(flags.server.listen).await?; // logs the address: port 0 is any
    let shutdown = flags.server.shutdown()?;
    shutdown.on_drained("farewell", async { tracing::info!("drained") });
    let readiness = Readiness::new(&shutdown).check("store", async || Ok::<(), String>(()));
    let router = service::harden(router(readiness), flags.server.limits());
    service::serve_with(listener, router, shutdown, flags.server.connection_limits()).await;
    Ok(())
}
