//! Chat.
pub mod ids;
pub mod chat;
mod conversation;
pub mod store;
