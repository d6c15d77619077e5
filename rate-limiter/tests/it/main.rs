//! What the suite on virtual time cannot show: real sockets, real outages, real processes.

mod http;
mod layer;
mod outage;
mod peers;
mod processes;
mod redis;
