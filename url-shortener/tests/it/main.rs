//! The service over real sockets, in this process and as a child that is killed.

mod support;

mod api;
mod document;
mod redirects;
mod fronts;
mod bulk;
mod races;
mod hang_up;
mod commands;
mod crash;
mod two_servers;
