//! The map of a Redis Cluster: which server has which slot, and how we know.
//!
//! The map is only a hint. A server that does not have a slot says so with the address of the one
//! that has it, so a map that is out of date costs one more round trip and nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use redis::{Client, RedisResult, Value};

use super::session::Server;
use super::slot::SLOTS;
use super::{RedisSettings, unavailable};
use crate::limiter::Error;

/// Servers of one cluster. Redis itself advises at most a thousand; more means that replies are
/// not what they seem, and new addresses are refused.
const SERVERS_MAX: usize = 2_000;

pub(super) struct Cluster {
    /// The URLs we were given; their login is used for every server.
    seeds: Vec<String>,
    settings: RedisSettings,
    servers: Mutex<HashMap<String, Arc<Server>>>,
    owners: RwLock<Vec<Option<Arc<Server>>>>,
    drawn: tokio::sync::Mutex<Option<Instant>>,
}

impl Cluster {
    /// A cluster known by some of its servers; nothing is connected yet.
    pub(super) fn new(seeds: &[String], settings: RedisSettings) -> Result<Self, Error> {
        let cluster = Self {
            seeds: seeds.to_vec(),
            settings,
            servers: Mutex::default(),
            owners: RwLock::new(vec![None; usize::from(SLOTS)]),
            drawn: tokio::sync::Mutex::default(),
        };
        for seed in seeds {
            let address = authority(seed).1.to_owned();
            cluster.server_at(&address)?;
        }
        Ok(cluster)
    }

    /// The server at an address, known or new.
    pub(super) fn server_at(&self, address: &str) -> Result<Arc<Server>, Error> {
        let mut servers = self.servers.lock();
        if let Some(server) = servers.get(address) {
            return Ok(Arc::clone(server));
        }
        if servers.len() >= SERVERS_MAX {
            let reason = format!("the cluster names more than {SERVERS_MAX} servers");
            return Err(Error::Unavailable { what: reason.clone(), source: Some(reason.into()) });
        }
        let login = authority(&self.seeds[0]).0;
        let client = Client::open(format!("redis://{login}{address}"))
            .map_err(|error| Error::invalid("store", error.to_string()))?;
        let server = Arc::new(Server::new(client, address.to_owned(), self.settings));
        servers.insert(address.to_owned(), Arc::clone(&server));
        Ok(server)
    }

    /// Who has the slot, as far as is known; draws the map first if nothing is.
    pub(super) async fn owner(&self, slot: u16) -> Result<Arc<Server>, Error> {
        for _ in 0..2 {
            if let Some(server) = self.owners.read()[usize::from(slot)].clone() {
                return Ok(server);
            }
            self.redraw(Instant::now()).await?;
        }
        let what = format!("nobody serves slot {slot}: nothing was charged");
        Err(Error::Unavailable { what: what.clone(), source: Some(what.into()) })
    }

    /// The slots of a server.
    pub(super) fn slots_of(&self, server: &Arc<Server>) -> Vec<u16> {
        let owners = self.owners.read();
        let owned = |slot: &u16| {
            owners[usize::from(*slot)].as_ref().is_some_and(|owner| Arc::ptr_eq(owner, server))
        };
        (0..SLOTS).filter(owned).collect()
    }

    /// A server said who has the slot.
    pub(super) fn moved(&self, slot: u16, address: &str) -> Result<(), Error> {
        let server = self.server_at(address)?;
        self.owners.write()[usize::from(slot)] = Some(server);
        Ok(())
    }

    /// Draws the map again, unless that has happened since `noticed`: of many callers that find it
    /// wrong, one asks.
    pub(super) async fn redraw(&self, noticed: Instant) -> Result<(), Error> {
        let mut drawn = self.drawn.lock().await;
        if drawn.is_some_and(|at| at > noticed) {
            return Ok(());
        }
        let known: Vec<_> = self.servers.lock().values().cloned().collect();
        let mut last = None;
        for server in known {
            match ranges(&server).await {
                Ok(ranges) if !ranges.is_empty() => {
                    self.draw(&ranges)?;
                    *drawn = Some(Instant::now());
                    metrics::counter!("rate_limiter_redis_maps_total").increment(1);
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => last = Some(error),
            }
        }
        let nobody = || std::io::Error::other("no server of the cluster knows its slots").into();
        Err(unavailable(last.unwrap_or_else(nobody)))
    }

    fn draw(&self, ranges: &[(u16, u16, String)]) -> Result<(), Error> {
        let mut map = vec![None; usize::from(SLOTS)];
        for (first, last, address) in ranges {
            let server = self.server_at(address)?;
            for slot in *first..=(*last).min(SLOTS - 1) {
                map[usize::from(slot)] = Some(Arc::clone(&server));
            }
        }
        *self.owners.write() = map;
        Ok(())
    }
}

/// Which slots are at which address, as one server sees it.
async fn ranges(server: &Arc<Server>) -> RedisResult<Vec<(u16, u16, String)>> {
    let mut call = redis::cmd("CLUSTER");
    call.arg("SLOTS");
    let reply = server.bare(&call).await?;
    let Value::Array(rows) = reply else { return Ok(Vec::new()) };
    let here = server.address();
    Ok(rows.into_iter().filter_map(|row| range(row, here)).collect())
}

/// A row of `CLUSTER SLOTS`: first, last, primary, replicas. A primary is address, port, ...; an
/// empty address means the one we asked at.
fn range(row: Value, here: &str) -> Option<(u16, u16, String)> {
    let Value::Array(row) = row else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &row[..] else {
        return None;
    };
    let [host, Value::Int(port), ..] = &primary[..] else { return None };
    let host = match host {
        Value::BulkString(bytes) if !bytes.is_empty() => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        _ => here.rsplit_once(':').map(|(host, _)| host.to_owned())?,
    };
    Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, format!("{host}:{port}")))
}

/// `redis://user:pw@host:port/` as `("user:pw@", "host:port")`.
fn authority(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rfind('@') {
        Some(at) => authority.split_at(at + 1),
        None => ("", authority),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_map_is_read() {
        let primary = |host: &str| {
            Value::Array(vec![Value::BulkString(host.into()), Value::Int(7001), Value::Nil])
        };
        let row = |host| Value::Array(vec![Value::Int(0), Value::Int(5460), primary(host)]);
        let read = |row| range(row, "10.0.0.1:7000");
        assert_eq!(read(row("10.0.0.2")), Some((0, 5460, "10.0.0.2:7001".to_owned())));
        assert_eq!(read(row("")), Some((0, 5460, "10.0.0.1:7001".to_owned())));
        assert_eq!(read(Value::Nil), None);
        assert_eq!(authority("redis://u:p@h:1/2"), ("u:p@", "h:1"));
        assert_eq!(authority("redis://h:1"), ("", "h:1"));
    }
}
