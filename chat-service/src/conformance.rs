//! The contracts as executable promises: what our answers are tested by, and what a reader's own
//! answer is graded by. [`promises`] judges stores, [`bus_promises`] judges buses.
//!
//! The promises come in the order in which an interviewer would probe.

mod scene;
mod log;
mod members;
mod cursors;
mod accounts;
mod random;
mod bus;

use std::future::Future;
use std::sync::Arc;

use testkit::conformance::{Broken, Promise};
use testkit::promise;

use crate::chat::{Error, Store};

use accounts::*;
pub use bus::{BusFixture, bus_promises};
use cursors::*;
use log::*;
use members::*;

/// How the suite reaches the store under test.
pub trait Fixture: Send + Sync + 'static {
    /// The answer.
    type Store: Store;

    /// A store nobody used before.
    fn store(&self) -> Arc<Self::Store>;

    /// The same store as another server, or the next process, opens it. A store that lives in one
    /// process returns itself.
    fn reopened(&self) -> impl Future<Output = Arc<Self::Store>> + Send;
}

/// What every message store promises.
pub fn promises<F: Fixture>() -> Vec<Promise<F>> {
    vec![
        promise!(
            F,
            messages_get_the_next_sequence,
            "Each conversation counts 1, 2, 3, and none knows of another's count."
        ),
        promise!(
            F,
            a_repeat_returns_the_original_place,
            "A message sent again under its client id is the same message."
        ),
        promise!(F, a_client_id_is_remembered_for_good, "A retry after a week is still a retry."),
        promise!(
            F,
            a_client_id_names_one_message,
            "A client id used for another text or conversation is refused."
        ),
        promise!(F, concurrent_senders_leave_no_gap, "Many senders at once get 1 to n, each once.")
            .on_many_threads(),
        promise!(
            F,
            concurrent_repeats_append_once,
            "The same message sent many times at once is there once."
        )
        .on_many_threads(),
        promise!(
            F,
            paging_covers_everything_once,
            "Pages in either direction, of any size, hold every message once and in order."
        ),
        promise!(
            F,
            pages_are_bounded_in_bytes,
            "A page of long messages is short, and paging still goes on."
        ),
        promise!(
            F,
            strangers_see_and_change_nothing,
            "Who is not in a conversation cannot tell it from one that does not exist."
        ),
        promise!(
            F,
            a_removed_member_is_a_stranger,
            "From the moment of removal nothing is read or written."
        ),
        promise!(
            F,
            a_new_member_sees_what_follows,
            "History before joining stays with those who were there."
        ),
        promise!(
            F,
            only_the_admin_changes_members,
            "Others may leave, and nothing else; between two people nobody may."
        ),
        promise!(
            F,
            one_direct_conversation_per_pair,
            "Both sides asking at once get the same conversation."
        )
        .on_many_threads(),
        promise!(
            F,
            creating_a_group_twice_is_once,
            "A repeated creation is no change; another's id is refused."
        ),
        promise!(F, cursors_only_grow, "A late acknowledgement or read mark moves nothing back."),
        promise!(F, a_cursor_cannot_pass_the_log, "Nobody has what is not there."),
        promise!(
            F,
            devices_have_cursors_of_their_own,
            "What the phone has, the laptop still misses."
        ),
        promise!(F, what_is_read_is_delivered, "A read mark counts as delivery."),
        promise!(
            F,
            unread_is_what_others_wrote_after_the_read_cursor,
            "Unread is last minus read minus one's own, whatever happened before."
        ),
        promise!(
            F,
            summaries_page_through_every_conversation,
            "Every conversation is listed once, with its end and its newest message."
        ),
        promise!(
            F,
            member_lists_have_versions,
            "Every change of members is a higher version, and appends name the one they saw."
        ),
        promise!(
            F,
            what_nobody_was_told_of_is_listed,
            "An append stands unpublished until it is noted as published."
        ),
        promise!(F, one_account_per_name, "The second to take a name is refused.")
            .on_many_threads(),
        promise!(
            F,
            devices_are_bounded_and_removable,
            "A ninth device is refused until one is removed."
        ),
        promise!(
            F,
            bad_texts_are_refused_and_leave_nothing,
            "An empty or oversized text is refused by name, and uses no sequence."
        ),
        promise!(
            F,
            agrees_with_the_model,
            "Everything a random history shows is what a plain list of messages says."
        ),
        promise!(
            F,
            everything_survives_reopening,
            "Whoever opens the store next finds logs, cursors, identity and accounts."
        ),
    ]
}

fn failed(error: Error) -> Broken {
    Broken::because(format!("the store failed: {error}"))
}

fn seqs(page: &crate::chat::Page) -> Vec<u64> {
    page.messages.iter().map(|message| message.seq.0).collect()
}
