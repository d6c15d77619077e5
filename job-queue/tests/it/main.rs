//! What takes more than one call on one store: processes that are killed, clients we did not
//! write, a worker's whole life, requests that make no sense.

mod clients;
mod commands;
mod crash;
mod full_disk;
mod fuzz;
mod nonsense;
mod recovery;
mod several_servers;
mod worker;
