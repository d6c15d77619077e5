//! `--store`: one flag, the same in every system, that says where its state lives.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// What is accepted, as error messages quote it.
pub const FORMS: &str =
    "memory: | sqlite:PATH | postgres://... | redis://... | redis-cluster://h1,h2,h3";

const REDIS_PORT: &str = "6379";

/// A parsed `--store`. A binary matches on it and builds the answer that goes with it.
///
/// `Debug` and `Display` hide a password, so it can be logged.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In this process; gone with it.
    Memory,
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A Postgres server, as the whole URL.
    Postgres(String),
    /// One Redis server, as the whole URL.
    Redis(String),
    /// A Redis Cluster: one `redis://` URL for each node that was named.
    RedisCluster(Vec<String>),
}

impl StoreUrl {
    /// The error for a system that has no answer on this store.
    pub fn unsupported(&self, supported: &[&str]) -> Error {
        Error::Setting {
            flag: "store",
            value: self.to_string(),
            why: format!("no answer on this store; accepted here: {}", supported.join(" | ")),
        }
    }

    /// What somebody can do whose store could not be opened, to stand before the reason.
    pub fn unusable(&self) -> String {
        let advice = match self {
            Self::Memory => "",
            Self::Sqlite(_) => {
                ": its directory must be there, writable and not full, and the file a SQLite database"
            }
            Self::Postgres(_) | Self::Redis(_) | Self::RedisCluster(_) => {
                ": is a server running there? `cargo x up` starts a Redis and a Postgres"
            }
        };
        format!("--store {self} cannot be used{advice}")
    }
}

impl FromStr for StoreUrl {
    type Err = String;

    /// The message does not name the flag: clap puts `--store` before it.
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| format!("has no scheme; accepted forms are {FORMS}"))?;
        let authority = || match rest.strip_prefix("//") {
            Some(host) if !host.is_empty() && !host.starts_with('/') => Ok(host),
            _ => Err(format!("`{scheme}:` needs a host: {scheme}://host[:port]")),
        };
        match scheme {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "memory" => Err("`memory:` takes nothing after the colon".to_owned()),
            "sqlite" => match rest.strip_prefix("//").unwrap_or(rest) {
                "" => Err("`sqlite:` needs a file: sqlite:PATH".to_owned()),
                path => Ok(Self::Sqlite(PathBuf::from(path))),
            },
            "postgres" | "postgresql" => authority().map(|_| Self::Postgres(text.to_owned())),
            "redis" => authority().map(|_| Self::Redis(text.to_owned())),
            "redis-cluster" => cluster_nodes(authority()?).map(Self::RedisCluster),
            _ => Err(format!("unknown scheme `{scheme}:`; accepted forms are {FORMS}")),
        }
    }
}

/// `user:pw@h1,h2:7001` -> `redis://user:pw@h1:6379`, `redis://user:pw@h2:7001`.
fn cluster_nodes(authority: &str) -> Result<Vec<String>, String> {
    let authority = authority.trim_end_matches('/');
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), authority),
    };
    let node = |host: &str| match host.rsplit_once(':') {
        _ if host.is_empty() => Err("an empty host in `redis-cluster://h1,h2,h3`".to_owned()),
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(format!("redis://{login}{host}"))
        }
        Some(_) => Err(format!("`{host}` is not host or host:port")),
        None => Ok(format!("redis://{login}{host}:{REDIS_PORT}")),
    };
    hosts.split(',').map(node).collect()
}

/// Hides what stands between the user and the `@`.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@').map(|(login, host)| (login.split_once(':'), host)) {
        Some((Some((user, _password)), host)) => format!("{scheme}://{user}:***@{host}{path}"),
        _ => url.to_owned(),
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) | Self::Redis(url) => f.write_str(&without_password(url)),
            Self::RedisCluster(nodes) => {
                let host = |url: &String| url.rsplit(['/', '@']).next().map(str::to_owned);
                let hosts: Vec<String> = nodes.iter().filter_map(host).collect();
                write!(f, "redis-cluster://{}", hosts.join(","))
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}
