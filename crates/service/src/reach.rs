//! Whether anybody is there, for the commands that are clients of a service.

use std::error::Error as StdError;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use axum::http::Uri;

use crate::Error;
use crate::store_url::without_password;

/// How long each address of a host is tried.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// Returns once something accepts connections at `url`, which `flag` gave: one line that says what
/// to do, before a command has done half of what it does.
///
/// `advice` is what somebody can do about it: "start a server first: ...". Blocks for as long as
/// connecting takes: for the start of a command, not for a handler.
///
/// # Errors
/// [`Error::Setting`] when it is not an address of this scheme, or when nobody answers there.
pub fn somebody_answers(
    flag: &'static str,
    url: &str,
    scheme: &str,
    advice: &str,
) -> Result<(), Error> {
    let setting = |why: String| Error::Setting { flag, value: without_password(url), why };
    let uri: Uri = url.parse().map_err(|_| setting("is not an address".to_owned()))?;
    if uri.scheme_str() != Some(scheme) {
        return Err(setting(format!("does not begin with {scheme}://")));
    }
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| setting("names no host".to_owned()))?;
    let port = uri.port_u16().unwrap_or(if scheme == "redis" { 6379 } else { 80 });
    connect(host.trim_matches(['[', ']']), port)
        .map_err(|error| setting(format!("nobody answers there ({error}); {advice}")))
}

fn connect(host: &str, port: u16) -> io::Result<()> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIME_MAX) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The innermost error, which says "connection refused" where the outermost says "client error".
pub fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}
