//! The service as its clients and its operators meet it.

mod client;
mod http;
mod document;
mod crash;
mod gate;
mod ambiguous;
mod linearizable;
