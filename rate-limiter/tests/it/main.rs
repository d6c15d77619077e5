//! What the suite on virtual time cannot show: real sockets, real outages, real processes.

mod cluster;
mod coalesced;
mod envoy;
mod failover;
mod gossip;
mod http;
mod layer;
mod lease;
mod outage;
mod peers;
mod processes;
mod redis;
mod resp;
mod split;
mod starting;
