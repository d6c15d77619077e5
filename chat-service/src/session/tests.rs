//! The invariants of the module, against random interleavings.

use proptest::prelude::*;

use super::*;
use crate::chat::{Content, PageLimit};
use crate::ids::{ClientId, UserId};

const CREDIT: u32 = 5;

fn message(conversation: ConversationId, seq: u64) -> Arc<Message> {
    Arc::new(Message {
        conversation,
        seq: Seq(seq),
        sender: UserId::new("alice").unwrap(),
        client_id: ClientId::fresh(),
        at_ms: 0,
        content: Content::Text("hi".into()),
    })
}

#[derive(Clone, Debug)]
enum Step {
    /// Append to conversation 0 or 1; the live event arrives, is lost, or only a note arrives.
    Append(usize, u8),
    Grant(u32),
    StartRead,
    FinishRead,
    FailRead,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2usize, 0..3u8).prop_map(|(at, how)| Step::Append(at, how)),
        2 => (1..4u32).prop_map(Step::Grant),
        2 => Just(Step::StartRead),
        3 => Just(Step::FinishRead),
        1 => Just(Step::FailRead),
    ]
}

/// The logs, and what a device saw of them.
struct World {
    session: Session,
    ids: [ConversationId; 2],
    logs: [Vec<Arc<Message>>; 2],
    seen: [Vec<u64>; 2],
    credit: u32,
    open: Option<(Read, Page)>,
}

impl World {
    fn new() -> Self {
        let session = Session::new(SessionId(uuid::Uuid::now_v7()), CREDIT);
        let ids = [ConversationId::fresh(), ConversationId::fresh()];
        let (logs, seen) = (Default::default(), Default::default());
        Self { session, ids, logs, seen, credit: CREDIT, open: None }
    }

    fn push(&mut self, pushed: &Message) {
        let at = usize::from(pushed.conversation == self.ids[1]);
        assert!(self.credit > 0, "pushed without credit");
        self.credit -= 1;
        let expected = self.seen[at].last().map_or(1, |seq| seq + 1);
        assert_eq!(pushed.seq.0, expected, "a gap or a repeat");
        self.seen[at].push(pushed.seq.0);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Append(at, how) => {
                let message = message(self.ids[at], self.logs[at].len() as u64 + 1);
                self.logs[at].push(Arc::clone(&message));
                match how {
                    0 if self.session.live(&Live::new(Arc::clone(&message), None))
                        == Verdict::Push =>
                    {
                        self.push(&message);
                    }
                    1 => self.session.moved(self.ids[at], message.seq),
                    _ => {} // lost on the way, until the next one shows the hole
                }
            }
            Step::Grant(more) => {
                self.session.grant(more);
                self.credit += more;
            }
            Step::StartRead => {
                let Some(read) = self.session.next_read() else { return };
                assert!(self.open.is_none(), "two reads at once");
                let log = &self.logs[usize::from(read.conversation == self.ids[1])];
                let rest = &log[read.after.0 as usize..];
                let taken = rest.len().min(PageLimit::messages(read.limit).messages);
                let page = Page { messages: rest[..taken].to_vec(), has_more: taken < rest.len() };
                self.open = Some((read, page));
            }
            Step::FinishRead => {
                let Some((read, page)) = self.open.take() else { return };
                for message in self.session.page(read, &page) {
                    self.push(&message);
                }
            }
            Step::FailRead => {
                let Some((read, _)) = self.open.take() else { return };
                self.session.page_failed(read);
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_lost_on_the_way_every_device_sees_the_whole_log_in_order(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
        }
        // A gap in the bus ends with a resync: the session is told where the logs end.
        for at in 0..2 {
            world.session.moved(world.ids[at], Seq(world.logs[at].len() as u64));
        }
        for _ in 0..600 {
            for step in [Step::Grant(2), Step::StartRead, Step::FinishRead] {
                world.apply(step);
            }
        }
        for at in 0..2 {
            prop_assert_eq!(world.seen[at].len(), world.logs[at].len());
        }
        prop_assert!(world.session.just_caught_up());
        prop_assert!(!world.session.just_caught_up(), "announced twice");
    }
}

#[test]
fn ones_own_messages_are_not_pushed_and_take_their_places() {
    let mut world = World::new();
    let (origin, id) = (Some(world.session.id), world.ids[0]);
    world.session.sent(id, Seq(1));
    assert_eq!(world.session.live(&Live::new(message(id, 1), origin)), Verdict::Skip);
    assert_eq!(world.session.live(&Live::new(message(id, 2), None)), Verdict::Push);
    // Somebody else's third is still on its way when the fourth, one's own, is answered.
    world.session.sent(id, Seq(4));
    assert_eq!(world.session.live(&Live::new(message(id, 3), None)), Verdict::Push);
    assert_eq!(world.session.live(&Live::new(message(id, 4), origin)), Verdict::Skip);
    assert_eq!(world.session.live(&Live::new(message(id, 5), None)), Verdict::Push);
    assert_eq!(world.session.next_read(), None);
}

/// Found by the history checker in a partition: the third was lost, the fourth was one's own, and
/// nothing ever showed the hole.
#[test]
fn ones_own_message_after_a_lost_one_shows_the_hole() {
    let mut world = World::new();
    let (origin, id) = (Some(world.session.id), world.ids[0]);
    world.session.sent(id, Seq(2));
    assert_eq!(world.session.live(&Live::new(message(id, 2), origin)), Verdict::Skip);
    let read = world.session.next_read().expect("the hole is read");
    let messages = vec![message(id, 1), message(id, 2)];
    let pushed = world.session.page(read, &Page { messages, has_more: false });
    let pushed: Vec<u64> = pushed.iter().map(|message| message.seq.0).collect();
    assert_eq!(pushed, [1], "one's own is not pushed again");
}

#[test]
fn resume_newest_owes_nothing_however_long_the_backlog() {
    let mut session = Session::new(SessionId(uuid::Uuid::now_v7()), CREDIT);
    let summary = Summary {
        conversation: ConversationId::fresh(),
        title: None,
        with: None,
        members: 2,
        last_seq: Seq(100_000),
        read_seq: Seq(0),
        delivered_seq: Seq(0),
        unread: 100_000,
        newest: None,
    };
    session.track(&summary, None, Resume::Newest);
    assert_eq!(session.next_read(), None);
    assert!(session.just_caught_up());
}
