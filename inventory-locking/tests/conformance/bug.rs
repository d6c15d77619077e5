//! The mistakes, and which promise must catch each of them.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    ReadsThenWrites,
    TakesLinesUntilOneFails,
    KeepsTheLastUnit,
    TakesBeforeItChecks,
    CallsTheUnknownSoldOut,
    SellsWithoutReleasing,
    ExpiryWaitsForTheSweeper,
    ExpiryReturnsOneUnit,
    ConfirmIgnoresTheDeadline,
    DeadlineBelongsToTheHold,
    ExtendRevives,
    ExtendAddsToTheOldDeadline,
    ConfirmsTwice,
    CancelsTwice,
    CancelsWhatIsSold,
    ConfirmChecksThenWrites,
    SweepsWhatIsSold,
    IgnoresTheKey,
    ChecksTheKeyThenReserves,
    RemembersTheKeyBeforeTheEffect,
    KeyWithoutItsRequest,
    RepeatTellsTheStateOfNow,
    RestocksTwice,
    EditsBlindly,
    EditChecksThenWrites,
    VersionCountsEditsOnly,
    CountTakesWhatIsPromised,
    LocksInAnyOrder,
}

impl Bug {
    /// Every mistake and the promise that must catch it.
    pub(crate) const ALL: [(Self, &'static str); 28] = [
        (Self::ReadsThenWrites, "concurrent_buyers_never_oversell"),
        (Self::TakesLinesUntilOneFails, "a_cart_is_all_or_nothing"),
        (Self::KeepsTheLastUnit, "the_last_unit_sells_and_not_one_more"),
        (Self::TakesBeforeItChecks, "a_refusal_changes_nothing"),
        (Self::CallsTheUnknownSoldOut, "errors_are_told_apart"),
        (Self::SellsWithoutReleasing, "confirm_sells_what_was_held"),
        (Self::ExpiryWaitsForTheSweeper, "an_expired_hold_frees_its_stock_without_a_sweeper"),
        (Self::ExpiryReturnsOneUnit, "an_expired_hold_frees_its_stock_without_a_sweeper"),
        (Self::ConfirmIgnoresTheDeadline, "a_late_confirm_is_refused"),
        (Self::DeadlineBelongsToTheHold, "a_late_confirm_is_refused"),
        (Self::ExtendRevives, "an_expired_hold_stays_expired"),
        (Self::ExtendAddsToTheOldDeadline, "extend_moves_the_deadline"),
        (Self::ConfirmsTwice, "repeats_change_nothing"),
        (Self::CancelsTwice, "repeats_change_nothing"),
        (Self::CancelsWhatIsSold, "each_reservation_ends_once"),
        (Self::ConfirmChecksThenWrites, "confirm_and_cancel_race_to_one_winner"),
        (Self::SweepsWhatIsSold, "the_sweeper_releases_each_hold_once"),
        (Self::IgnoresTheKey, "same_key_same_reservation"),
        (Self::ChecksTheKeyThenReserves, "concurrent_repeats_reserve_once"),
        (Self::RemembersTheKeyBeforeTheEffect, "a_refusal_is_not_remembered"),
        (Self::KeyWithoutItsRequest, "a_reused_key_is_refused"),
        (Self::RepeatTellsTheStateOfNow, "same_key_same_reservation"),
        (Self::RestocksTwice, "a_restock_with_a_key_counts_once"),
        (Self::EditsBlindly, "an_edit_needs_the_current_version"),
        (Self::EditChecksThenWrites, "editors_never_overwrite_each_other"),
        (Self::VersionCountsEditsOnly, "every_change_moves_the_version"),
        (Self::CountTakesWhatIsPromised, "a_count_never_takes_what_is_promised"),
        (Self::LocksInAnyOrder, "opposite_carts_do_not_deadlock"),
    ];

    /// `ReadsThenWrites` as `reads_then_writes`.
    pub(crate) fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(letter.to_lowercase());
        }
        name
    }
}
