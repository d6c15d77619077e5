//! The answers: one file each, behind the contract of [`crate::queue`].

pub mod memory;
pub mod sqlite;
pub mod postgres;
pub mod redis;

mod long_poll;
mod remote;
