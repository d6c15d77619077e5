//! Long work in short turns. Redirects run on the same threads as imports and the folding of
//! clicks, and must not wait until the last row is done.

/// Ends a turn after every `per_turn` rows. A turn should take some tens of microseconds.
pub(crate) async fn give_way(row: usize, per_turn: usize) {
    if row % per_turn == per_turn - 1 {
        tokio::task::yield_now().await;
    }
}
