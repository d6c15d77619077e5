//! Every error path and the order of stopping, over real sockets.

#![allow(missing_docs, reason = "tests say what they show in their names")]

mod support;
mod errors;
mod operations;
mod stopping;
mod connections;
mod first;
mod starting;
mod process;
mod headers;
