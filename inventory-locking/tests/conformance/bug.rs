//! The mistakes, and which promise must catch each of them.

testkit::mistakes! {
    /// A mistake.
    pub(crate) enum Bug {
        ReadsThenWrites => concurrent_buyers_never_oversell,
        TakesLinesUntilOneFails => a_cart_is_all_or_nothing,
        KeepsTheLastUnit => the_last_unit_sells_and_not_one_more,
        TakesBeforeItChecks => a_refusal_changes_nothing,
        CallsTheUnknownSoldOut => errors_are_told_apart,
        SellsWithoutReleasing => confirm_sells_what_was_held,
        ExpiryWaitsForTheSweeper => an_expired_hold_frees_its_stock_without_a_sweeper,
        ExpiryReturnsOneUnit => an_expired_hold_frees_its_stock_without_a_sweeper,
        ConfirmIgnoresTheDeadline => a_late_confirm_is_refused,
        DeadlineBelongsToTheHold => a_late_confirm_is_refused,
        ExtendRevives => an_expired_hold_stays_expired,
        ExtendAddsToTheOldDeadline => extend_moves_the_deadline,
        ConfirmsTwice => repeats_change_nothing,
        CancelsTwice => repeats_change_nothing,
        CancelsWhatIsSold => each_reservation_ends_once,
        ConfirmChecksThenWrites => confirm_and_cancel_race_to_one_winner,
        SweepsWhatIsSold => the_sweeper_releases_each_hold_once,
        IgnoresTheKey => same_key_same_reservation,
        ChecksTheKeyThenReserves => concurrent_repeats_reserve_once,
        RemembersTheKeyBeforeTheEffect => a_refusal_is_not_remembered,
        KeyWithoutItsRequest => a_reused_key_is_refused,
        RepeatTellsTheStateOfNow => same_key_same_reservation,
        RestocksTwice => a_restock_with_a_key_counts_once,
        EditsBlindly => an_edit_needs_the_current_version,
        EditChecksThenWrites => editors_never_overwrite_each_other,
        VersionCountsEditsOnly => every_change_moves_the_version,
        CountTakesWhatIsPromised => a_count_never_takes_what_is_promised,
        LocksInAnyOrder => opposite_carts_do_not_deadlock,
    }
}
