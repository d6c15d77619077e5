//! The answers: where links, clicks, counters and keys are kept.

use crate::clicks::ClickLog;
use crate::codes::Sequences;
use crate::keys::Keys;
use crate::link::Links;

pub mod memory;
pub mod sqlite;
pub mod postgres;

/// Everything a shortener keeps, in one place: the reply to a create is written with the link, and
/// the counter behind the codes is as durable as they are.
pub trait Store: Links + Sequences + ClickLog + Keys {}

impl<S: Links + Sequences + ClickLog + Keys> Store for S {}
