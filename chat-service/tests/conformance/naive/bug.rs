//! The mistakes, and the promise that must catch each.

testkit::mistakes! {
    /// A mistake.
    pub(crate) enum Bug {
        IgnoresClientIds => a_repeat_returns_the_original_place,
        ForgetsClientIdsAfterTwoMinutes => a_client_id_is_remembered_for_good,
        RefusesARepeatInsteadOfAnswering => a_repeat_returns_the_original_place,
        TakesAReusedIdForARepeat => a_client_id_names_one_message,
        OneSequenceForAllConversations => messages_get_the_next_sequence,
        ReadsTheSequenceThenWrites => concurrent_senders_leave_no_gap,
        LooksForTheIdThenWrites => concurrent_repeats_append_once,
        PagesByTimestamp => paging_covers_everything_once,
        SinceIncludesTheCursor => paging_covers_everything_once,
        NeverSaysThereIsMore => paging_covers_everything_once,
        PagesCountMessagesOnly => pages_are_bounded_in_bytes,
        StrangersMayRead => strangers_see_and_change_nothing,
        StrangersMayWrite => strangers_see_and_change_nothing,
        TellsStrangersFromUnknown => strangers_see_and_change_nothing,
        RemovedMembersKeepReading => a_removed_member_is_a_stranger,
        NewMembersSeeThePast => a_new_member_sees_what_follows,
        EverybodyIsAdmin => only_the_admin_changes_members,
        OneDirectionPerPair => one_direct_conversation_per_pair,
        LastWriteWinsForCursors => cursors_only_grow,
        BelievesAnyCursor => a_cursor_cannot_pass_the_log,
        OneCursorForAllDevices => devices_have_cursors_of_their_own,
        ReadingIsNotDelivery => what_is_read_is_delivered,
        CountsOwnMessagesAsUnread => unread_is_what_others_wrote_after_the_read_cursor,
        CountsUnreadUp => unread_is_what_others_wrote_after_the_read_cursor,
        MemberListsHaveNoVersion => member_lists_have_versions,
        ForgetsTheOutbox => what_nobody_was_told_of_is_listed,
        UsesASequenceForARefusedMessage => bad_texts_are_refused_and_leave_nothing,
        OneBadMessageFailsTheBatch => bad_texts_are_refused_and_leave_nothing,
    }
}
