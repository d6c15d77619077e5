//! The mistakes, and the promise that must catch each.

macro_rules! bugs {
    ($($bug:ident => $caught_by:ident),* $(,)?) => {
        /// A mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Bug { $($bug),* }

        impl Bug {
            /// Every mistake and the promise that must catch it.
            pub(crate) const ALL: &[(Self, &'static str)] =
                &[$((Self::$bug, stringify!($caught_by))),*];
        }
    };
}

bugs! {
    DeletesWhenItDelivers => a_lease_hides_the_message,
    LeasesEndAMillisecondLate => a_lease_hides_the_message,
    ReadsThenLeases => consumers_never_share_a_lease,
    ForgetsToDelete => a_deleted_message_never_returns,
    AStaleReceiptDeletes => a_stale_receipt_proves_nothing,
    AStaleReceiptExtends => a_stale_receipt_proves_nothing,
    TakesAnyQueuesReceipt => a_foreign_receipt_is_refused,
    AnOldReceiptFitsTheNewQueue => a_queue_made_anew_is_empty,
    EpochsStartAnew => epochs_only_grow,
    ExtendsForEver => leases_can_be_moved,
    IgnoresTheMessagesDelay => a_delay_hides_a_new_message,
    RetentionStartsAgainWithEachReceive => retention_ends,
    CountsFailuresNotReceives => a_message_that_kills_its_worker_becomes_a_dead_letter,
    ForgetsWhereItCameFrom => a_message_that_kills_its_worker_becomes_a_dead_letter,
    DeadLettersAreBornAgain => a_dead_letter_keeps_its_age,
    DropsWhatHasNoDeadLetterQueue => without_its_dead_letter_queue_nothing_is_lost,
    ARedriveLosesTheHomeless => a_redrive_brings_each_message_home,
    ExpiredLeasesGoToTheBack => fifo_keeps_order_within_a_group,
    GroupsAreNotBlocked => a_group_has_one_batch_in_flight,
    OneGroupBlocksAll => groups_do_not_block_each_other,
    ForgetsDuplicatesOfTheDeleted => a_duplicate_is_accepted_once,
    DuplicatesForEver => a_duplicate_is_accepted_once,
    IgnoresTheScope => duplicates_are_scoped,
    AnExpiredFifoReceiptDeletes => an_expired_fifo_receipt_is_refused,
    ForgetsAttempts => a_repeated_attempt_gets_the_same_messages,
    FirstComeFirstServed => tenants_take_turns,
    NobodyWatchesTheClock => a_long_poll_wakes,
    WaitsForEver => waiting_ends_on_time,
    WakesOneForABatch => each_message_wakes_a_consumer,
    OneBadEntrySpoilsTheBatch => a_batch_is_answered_entry_by_entry,
    CountsTheDelayedAsReady => counts_are_exact,
    LookingIsReceiving => looking_leases_nothing,
    RegionsAreOne => queues_are_kept_apart,
    APurgeKeepsTheLeased => a_purge_empties_the_queue,
    KeepsARefusedChange => settings_change_all_or_nothing,
}

impl Bug {
    /// `ReadsThenLeases` as `reads_then_leases`.
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
