//! Ports that stay ours while the server behind them is down.
//!
//! Two traps decide how a port is chosen. Port 0 hands out *ephemeral* ports (32768 and up on
//! Linux, 49152 and up on macOS): while the server is killed, any outgoing connection of the
//! machine may take its port, and a client that keeps reconnecting to it can even connect to
//! itself. And between choosing a port and listening on it, another test process may choose the
//! same one. So ports come from below the ephemeral range, and a file lock per port, released by
//! the kernel however we die, keeps other processes that use this crate away from it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

use crate::error::{Error, Result};
use crate::place;

const FIRST: u16 = 11_000;
const COUNT: u16 = 8_000;
/// A Redis Cluster node talks to its peers on its port plus this; 29 999 is still below every
/// ephemeral range.
pub(crate) const CLUSTER_BUS_OFFSET: u16 = 10_000;
/// More attempts than this fail only on a machine where thousands of ports are taken.
const ATTEMPTS: usize = 200;

/// A port of the loopback interface that no other user of this crate is given until it is dropped.
#[derive(Debug)]
pub(crate) struct PortLease {
    pub(crate) port: u16,
    _lock: File,
}

impl PortLease {
    /// Leases a port on which nothing listens, nor on its cluster bus port.
    pub(crate) fn take() -> Result<Self> {
        let directory = place::cache_dir()?.join("ports");
        fs::create_dir_all(&directory).map_err(Error::io("creating", &directory))?;
        for _ in 0..ATTEMPTS {
            let port = FIRST + fastrand::u16(..COUNT);
            let path = directory.join(port.to_string());
            let lock = File::create(&path).map_err(Error::io("creating", &path))?;
            if lock.try_lock().is_ok() && is_free(port) && is_free(port + CLUSTER_BUS_OFFSET) {
                return Ok(Self { port, _lock: lock });
            }
        }
        Err(Error::Unsupported(format!("no free port from {FIRST} on after {ATTEMPTS} attempts")))
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leases_never_share_a_port() {
        let leases: Vec<PortLease> = (0..100).map(|_| PortLease::take().unwrap()).collect();
        let mut ports: Vec<u16> = leases.iter().map(|lease| lease.port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 100);
    }
}
