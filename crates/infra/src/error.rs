//! What can go wrong, by what the caller does next.

use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no server. Every message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No URL given, no program found, no container engine used: install one.
    #[error(
        "no {server} here: {variable} is not set, {looked_for}\n  \
         install it:  cargo x setup\n  \
         or by hand:  {by_hand}\n  \
         or give one: {variable}=..."
    )]
    Missing {
        /// What was asked for, such as "Redis".
        server: &'static str,
        /// The environment variable that names an existing server.
        variable: &'static str,
        /// Where this process looked.
        looked_for: String,
        /// The package managers' own commands.
        by_hand: &'static str,
    },

    /// The server was found but did not come up: read its log, which is included.
    #[error("{server} did not start: {why}{}", log_lines(.log))]
    Start {
        /// Which server.
        server: String,
        /// What was observed.
        why: String,
        /// The last lines the server wrote.
        log: String,
    },

    /// The server came from a URL or is shared with other tests, so it is not ours to disturb.
    #[error("cannot {action} this {server}: {why}")]
    NotOurs {
        /// Which server.
        server: &'static str,
        /// What was asked.
        action: &'static str,
        /// Whose it is, and which call hands out a private one.
        why: &'static str,
    },

    /// This machine or server version cannot do what was asked.
    #[error("not possible here: {0}")]
    Unsupported(String),

    /// A template's schema was refused by Postgres: fix the SQL.
    #[error("the schema of template {template:?} was refused")]
    Schema {
        /// The template's name.
        template: String,
        /// What Postgres said.
        #[source]
        source: sqlx::Error,
    },

    /// Postgres answered an administrative statement with an error.
    #[error("Postgres refused an administrative statement")]
    Postgres(#[from] sqlx::Error),

    /// Redis answered an administrative command with an error.
    #[error("Redis refused an administrative command")]
    Redis(#[from] redis::RedisError),

    /// A file, directory or process of ours could not be handled.
    #[error("{doing} {}", .path.display())]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// With which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Wraps an I/O error with what was being done, for use in `map_err`.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

fn log_lines(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; its log ends with:\n{log}") }
}
