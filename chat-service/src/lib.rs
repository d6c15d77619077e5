//! # A chat service
//!
//! *"Design WhatsApp-like messaging where users get messages even if they were offline; then: a
//! user comes back to 100,000 unread messages."* The answer in ten sentences:
//!
//! 1. Every conversation is one durable log with a gapless sequence ([`chat`]); live push, resume,
//!    offline delivery and history are the same read of it at different cursors.
//! 2. An append is one transaction: look for the sender's own id of the message, take the next
//!    sequence, write; a retry gets the original place ([`store`]).
//! 3. *Sent* is said when the log has it on disk, *delivered* when a device says so, *read* when a
//!    person did; all three are cumulative positions, and unread is a subtraction.
//! 4. There is no queue of undelivered messages: who was away for a week has an old cursor, and
//!    costs the servers nothing meanwhile.
//! 5. Servers tell each other that a log moved over a bus that may lose, as long as it says so
//!    ([`bus`]): a doorbell, not a mailbox.
//! 6. A connection pushes what is next in line and covered by credit; everything else (a hole, an
//!    overflow, a slow phone) is one case, *behind*, and is read from the log (`session`).
//! 7. What waits for a connection is bounded in bytes; beyond that a number per conversation is
//!    kept instead (`mailbox`), and typing and presence have a lane that may drop.
//! 8. Cursors carry the store's epoch, so that a wiped store is noticed and not resumed into.
//! 9. A list of conversations costs the list, and the first screen costs a page, however much is
//!    unread.
//! 10. A history checker, written from the specification alone, reads what every device saw during
//!     kills, cuts and partitions and says what was lost, invented or reordered ([`history`]).

// The contract
pub mod ids;
pub mod chat;

// The pure core: no clock, no lock, no socket
mod conversation;
pub mod protocol;
pub mod mailbox;
mod session;
pub mod token;

// The answers
pub mod store;
pub mod bus;

// One server
mod hub;
mod password;
mod node;
mod gateway;
pub mod http;

// The other end
pub mod client;

// The proof
pub mod history;
#[cfg(feature = "conformance")]
pub mod conformance;

pub use chat::{Error, Store};
pub use ids::{ClientId, ConversationId, DeviceId, Epoch, Seq, UserId};
pub use node::{Node, NodeSettings};
