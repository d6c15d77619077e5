//! The service as its clients and its operators meet it.

mod client;
mod http;
mod crash;
mod ambiguous;
mod linearizable;
