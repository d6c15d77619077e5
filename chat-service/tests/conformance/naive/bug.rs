//! The mistakes, and the promise that must catch each.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    IgnoresClientIds,
    ForgetsClientIdsAfterTwoMinutes,
    RefusesARepeatInsteadOfAnswering,
    TakesAReusedIdForARepeat,
    OneSequenceForAllConversations,
    ReadsTheSequenceThenWrites,
    LooksForTheIdThenWrites,
    PagesByTimestamp,
    SinceIncludesTheCursor,
    NeverSaysThereIsMore,
    PagesCountMessagesOnly,
    StrangersMayRead,
    StrangersMayWrite,
    TellsStrangersFromUnknown,
    RemovedMembersKeepReading,
    NewMembersSeeThePast,
    EverybodyIsAdmin,
    OneDirectionPerPair,
    LastWriteWinsForCursors,
    BelievesAnyCursor,
    OneCursorForAllDevices,
    ReadingIsNotDelivery,
    CountsOwnMessagesAsUnread,
    CountsUnreadUp,
    MemberListsHaveNoVersion,
    ForgetsTheOutbox,
    UsesASequenceForARefusedMessage,
    OneBadMessageFailsTheBatch,
}

impl Bug {
    /// Every mistake and the promise that must catch it.
    pub(crate) const ALL: [(Self, &'static str); 28] = [
        (Self::IgnoresClientIds, "a_repeat_returns_the_original_place"),
        (Self::ForgetsClientIdsAfterTwoMinutes, "a_client_id_is_remembered_for_good"),
        (Self::RefusesARepeatInsteadOfAnswering, "a_repeat_returns_the_original_place"),
        (Self::TakesAReusedIdForARepeat, "a_client_id_names_one_message"),
        (Self::OneSequenceForAllConversations, "messages_get_the_next_sequence"),
        (Self::ReadsTheSequenceThenWrites, "concurrent_senders_leave_no_gap"),
        (Self::LooksForTheIdThenWrites, "concurrent_repeats_append_once"),
        (Self::PagesByTimestamp, "paging_covers_everything_once"),
        (Self::SinceIncludesTheCursor, "paging_covers_everything_once"),
        (Self::NeverSaysThereIsMore, "paging_covers_everything_once"),
        (Self::PagesCountMessagesOnly, "pages_are_bounded_in_bytes"),
        (Self::StrangersMayRead, "strangers_see_and_change_nothing"),
        (Self::StrangersMayWrite, "strangers_see_and_change_nothing"),
        (Self::TellsStrangersFromUnknown, "strangers_see_and_change_nothing"),
        (Self::RemovedMembersKeepReading, "a_removed_member_is_a_stranger"),
        (Self::NewMembersSeeThePast, "a_new_member_sees_what_follows"),
        (Self::EverybodyIsAdmin, "only_the_admin_changes_members"),
        (Self::OneDirectionPerPair, "one_direct_conversation_per_pair"),
        (Self::LastWriteWinsForCursors, "cursors_only_grow"),
        (Self::BelievesAnyCursor, "a_cursor_cannot_pass_the_log"),
        (Self::OneCursorForAllDevices, "devices_have_cursors_of_their_own"),
        (Self::ReadingIsNotDelivery, "what_is_read_is_delivered"),
        (Self::CountsOwnMessagesAsUnread, "unread_is_what_others_wrote_after_the_read_cursor"),
        (Self::CountsUnreadUp, "unread_is_what_others_wrote_after_the_read_cursor"),
        (Self::MemberListsHaveNoVersion, "member_lists_have_versions"),
        (Self::ForgetsTheOutbox, "what_nobody_was_told_of_is_listed"),
        (Self::UsesASequenceForARefusedMessage, "bad_texts_are_refused_and_leave_nothing"),
        (Self::OneBadMessageFailsTheBatch, "bad_texts_are_refused_and_leave_nothing"),
    ];

    /// `PagesByTimestamp` as `pages_by_timestamp`.
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
