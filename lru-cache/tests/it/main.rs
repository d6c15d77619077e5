//! What the conformance suite cannot say: long runs against an outside oracle, and the server seen
//! from outside.

mod differential;
mod policies;
mod server;
mod simulating;
