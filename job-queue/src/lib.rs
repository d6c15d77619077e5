//! # A job queue
pub mod message;
pub mod limits;
pub mod settings;
pub mod queue;
pub mod clock;
pub mod state;
pub mod meter;
pub mod engine;
pub mod store;
pub mod sqs;
pub mod http;
pub mod client;
pub mod worker;
#[cfg(feature = "conformance")]
pub mod conformance;

pub use message::*;
pub use meter::Reading;
pub use queue::{Ask, Counts, Created, Error, Queues, Transferred};
pub use settings::Settings;
