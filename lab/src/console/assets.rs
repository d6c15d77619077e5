//! The files of the console, inside the binary: it works offline and needs no directory.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use service::{Path, Problem};

/// `lab/assets`. A release build holds the files, a debug build reads them as they are.
#[derive(rust_embed::RustEmbed)]
#[folder = "assets"]
struct Assets;

/// The text of an asset.
pub(super) fn text(path: &str) -> Option<String> {
    let file = Assets::get(path)?;
    String::from_utf8(file.data.into_owned()).ok()
}

/// `GET /assets/{path}`. Templates are not assets to ask for.
pub(super) async fn serve(Path(path): Path<String>) -> Result<Response, Problem> {
    let kind = match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => return Err(Problem::new(StatusCode::NOT_FOUND)),
    };
    let file = Assets::get(&path).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND))?;
    // Served from this machine's memory: a cache could only show yesterday's build.
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")];
    Ok((headers, file.data.into_owned()).into_response())
}
