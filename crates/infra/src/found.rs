//! What this machine has, for the table a program prints when it starts.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backing::given;
use crate::place;
use crate::postgres::Programs;

/// A container engine that has not answered by then is reported as silent.
const ENGINE_TIMEOUT: Duration = Duration::from_millis(500);

/// The servers this crate could hand out here. [`found`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Redis, by URL or as `redis-server`.
    pub redis: Presence,
    /// Postgres, by URL or as `postgres` with its `initdb`.
    pub postgres: Presence,
    /// The container engine, asked through its socket.
    pub docker: Presence,
}

/// How something is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Named by this environment variable; not contacted.
    Given(&'static str),
    /// An installed program, or an engine that answers.
    Installed {
        /// As the program or engine says.
        version: String,
        /// The program, or the engine's socket.
        path: PathBuf,
    },
    /// A container engine's socket that does not answer.
    Silent(PathBuf),
    /// Nothing.
    Absent,
}

impl Presence {
    /// True when it can be used.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Given(_) | Self::Installed { .. })
    }
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(variable) => write!(f, "given by {variable}"),
            Self::Installed { version, path } => write!(f, "{version} ({})", path.display()),
            Self::Silent(path) => write!(f, "not answering ({})", path.display()),
            Self::Absent => f.write_str("not found"),
        }
    }
}

/// Returns what is on this machine. Starts no server and contacts none but the container engine,
/// so it takes some milliseconds, and half a second where that engine hangs.
pub async fn found() -> Found {
    let redis = tokio::task::spawn_blocking(|| {
        if given("INFRA_REDIS_URL").is_some() {
            return Presence::Given("INFRA_REDIS_URL");
        }
        installed(place::program("redis-server"))
    });
    let postgres = tokio::task::spawn_blocking(|| {
        if given("INFRA_POSTGRES_URL").is_some() {
            return Presence::Given("INFRA_POSTGRES_URL");
        }
        installed(Programs::find().map(|programs| programs.postgres))
    });
    let docker = tokio::task::spawn_blocking(|| engine(&engine_socket()));
    Found {
        redis: redis.await.unwrap_or(Presence::Absent),
        postgres: postgres.await.unwrap_or(Presence::Absent),
        docker: docker.await.unwrap_or(Presence::Absent),
    }
}

fn installed(program: Option<PathBuf>) -> Presence {
    let Some(path) = program else { return Presence::Absent };
    let version = place::version_of(&path).unwrap_or_else(|| "unknown version".to_owned());
    Presence::Installed { version, path }
}

fn engine_socket() -> PathBuf {
    let host = given("DOCKER_HOST").unwrap_or_default();
    host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").into()
}

/// Asks the engine itself: an installed client says nothing about an engine that runs.
fn engine(socket: &Path) -> Presence {
    if !socket.exists() {
        return Presence::Absent;
    }
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ENGINE_TIMEOUT))?;
        stream.set_write_timeout(Some(ENGINE_TIMEOUT))?;
        stream.write_all(b"GET /version HTTP/1.0\r\nHost: docker\r\n\r\n")?;
        let mut reply = String::new();
        stream.take(64 * 1024).read_to_string(&mut reply)?;
        Ok(reply)
    };
    let version = ask().ok().and_then(|reply| {
        let (_, rest) = reply.split_once("\"Version\":\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    });
    match version {
        Some(version) => Presence::Installed { version, path: socket.to_owned() },
        None => Presence::Silent(socket.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_asked_and_believed_only_when_it_answers() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine.sock");
        assert_eq!(engine(&socket), Presence::Absent);

        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /version "));
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"Version\":\"28.2.2\"}").unwrap();
        });
        let path = socket.clone();
        assert_eq!(engine(&socket), Presence::Installed { version: "28.2.2".to_owned(), path });
        answering.join().unwrap();
        assert_eq!(engine(&socket), Presence::Silent(socket.clone()));
    }
}
