//! Integration tests: the socket and the routes, many servers, cuts and stalls, killed processes,
//! and the checker that judges them.

mod support;

mod checker;
mod http;
mod socket;
mod commands;
mod nodes;
mod faults;
mod crash;
mod full_disk;
#[cfg(feature = "kafka")]
mod kafka;
