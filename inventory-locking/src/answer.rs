//! The answers: where the stock is kept, and what keeps two buyers from taking the same unit.

pub mod memory;
pub mod sqlite;
pub mod postgres;
pub mod gated;
pub mod any;
