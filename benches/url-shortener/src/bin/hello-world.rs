//! axum's hello world: the yardstick that services are measured with. Its argument is the address.

use axum::Router;
use axum::routing::get;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let router = Router::new().route("/", get(async || "Hello, World!"));
    axum::serve(tokio::net::TcpListener::bind(address).await?, router).await
}
