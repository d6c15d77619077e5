//! The contracts as executable promises: what our answers are tested by, and what a reader's own
//! answer is graded by. [`promises()`] judges stores, [`bus_promises`] judges buses.
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
use testkit::promises;

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
    promises! { F;
        messages_get_the_next_sequence => "Each conversation counts 1, 2, 3, and none knows of another's count.",
        a_repeat_returns_the_original_place => "A message sent again under its client id is the same message.",
        a_client_id_is_remembered_for_good => "A retry after a week is still a retry.",
        a_client_id_names_one_message => "A client id used for another text or conversation is refused.",
        concurrent_senders_leave_no_gap.on_many_threads() => "Many senders at once get 1 to n, each once.",
        concurrent_repeats_append_once.on_many_threads() => "The same message sent many times at once is there once.",
        paging_covers_everything_once => "Pages in either direction, of any size, hold every message once and in order.",
        pages_are_bounded_in_bytes => "A page of long messages is short, and paging still goes on.",
        strangers_see_and_change_nothing => "Who is not in a conversation cannot tell it from one that does not exist.",
        a_removed_member_is_a_stranger => "From the moment of removal nothing is read or written.",
        a_new_member_sees_what_follows => "History before joining stays with those who were there.",
        only_the_admin_changes_members => "Others may leave, and nothing else; between two people nobody may.",
        one_direct_conversation_per_pair.on_many_threads() => "Both sides asking at once get the same conversation.",
        creating_a_group_twice_is_once => "A repeated creation is no change; another's id is refused.",
        cursors_only_grow => "A late acknowledgement or read mark moves nothing back.",
        a_cursor_cannot_pass_the_log => "Nobody has what is not there.",
        devices_have_cursors_of_their_own => "What the phone has, the laptop still misses.",
        what_is_read_is_delivered => "A read mark counts as delivery.",
        unread_is_what_others_wrote_after_the_read_cursor => "Unread is last minus read minus one's own, whatever happened before.",
        summaries_page_through_every_conversation => "Every conversation is listed once, with its end and its newest message.",
        member_lists_have_versions => "Every change of members is a higher version, and appends name the one they saw.",
        what_nobody_was_told_of_is_listed => "An append stands unpublished until it is noted as published.",
        one_account_per_name.on_many_threads() => "The second to take a name is refused.",
        devices_are_bounded_and_removable => "A ninth device is refused until one is removed.",
        bad_texts_are_refused_and_leave_nothing => "An empty or oversized text is refused by name, and uses no sequence.",
        agrees_with_the_model => "Everything a random history shows is what a plain list of messages says.",
        everything_survives_reopening => "Whoever opens the store next finds logs, cursors, identity and accounts.",
    }
}

fn failed(error: Error) -> Broken {
    Broken::because(format!("the store failed: {error}"))
}

fn seqs(page: &crate::chat::Page) -> Vec<u64> {
    page.messages.iter().map(|message| message.seq.0).collect()
}
