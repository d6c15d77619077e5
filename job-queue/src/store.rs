//! The answers: one file each, behind the contract of [`crate::queue`].

pub mod memory;
pub mod sqlite;

mod long_poll;
