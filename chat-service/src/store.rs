//! The answers: one file each, from the smallest correct one to the one most candidates draw.

pub mod memory;
pub mod sqlite;
pub mod postgres;
pub mod textbook;
