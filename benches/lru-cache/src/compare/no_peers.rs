//! Without the feature `peers` nobody else takes part.

use super::Exact;
use super::subjects::SharedLoop;
use measure::LoopSubject;

pub(super) const VERSIONS: [(&str, &str); 0] = [];
pub(super) const EXACT: [Exact; 0] = [];
pub(super) const EXACT_DEFAULTS: [Exact; 0] = [];

/// Nobody.
pub(super) fn shared_peers(_: &SharedLoop) -> Vec<LoopSubject> {
    Vec::new()
}
