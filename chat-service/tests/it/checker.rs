//! The checker is worth something only if it says no. A tiny chat server is simulated, right when
//! nothing is switched on, and each seeded mistake has to be caught by the property it breaks.

use std::collections::BTreeMap;

use chat_service::history::{DeviceHistory, Event, History, Logged, Property, check};
use testkit::Seed;

/// A mistake of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    AcknowledgesBeforeCommit,
    ForgetsTheTailInACrash,
    AppendsARetryAgain,
    AnswersARetryWithANewPlace,
    InventsAMessage,
    ChangesAText,
    ShowsDevicesDifferentOrders,
    AppendsASendersMessagesOutOfOrder,
    LeavesAHoleInTheLog,
    SkipsAPush,
    PushesTwice,
    ResumesBeforeTheCursor,
    ResumesAfterAGap,
    ReceiptGoesBack,
    ReceiptOnSocketWrite,
    ReadReceiptOnDelivery,
    CountsOwnAsUnread,
    CountsUnreadUp,
    LosesTheLastPush,
    SaysSentForAnothersPlace,
}

const ALL: [(Bug, Property); 20] = [
    (Bug::AcknowledgesBeforeCommit, Property::NothingAcknowledgedIsLost),
    (Bug::ForgetsTheTailInACrash, Property::NothingAcknowledgedIsLost),
    (Bug::AppendsARetryAgain, Property::OneSequencePerClientId),
    (Bug::AnswersARetryWithANewPlace, Property::OneSequencePerClientId),
    (Bug::InventsAMessage, Property::NothingIsInvented),
    (Bug::ChangesAText, Property::NothingIsInvented),
    (Bug::ShowsDevicesDifferentOrders, Property::SameOrderEverywhere),
    (Bug::AppendsASendersMessagesOutOfOrder, Property::PerSenderOrder),
    (Bug::LeavesAHoleInTheLog, Property::Gapless),
    (Bug::SkipsAPush, Property::Gapless),
    (Bug::PushesTwice, Property::PushedOnce),
    (Bug::ResumesBeforeTheCursor, Property::PushedOnce),
    (Bug::ResumesAfterAGap, Property::Gapless),
    (Bug::ReceiptGoesBack, Property::ReceiptsMonotone),
    (Bug::ReceiptOnSocketWrite, Property::ReceiptsMonotone),
    (Bug::ReadReceiptOnDelivery, Property::ReceiptsMonotone),
    (Bug::CountsOwnAsUnread, Property::UnreadIdentity),
    (Bug::CountsUnreadUp, Property::UnreadIdentity),
    (Bug::LosesTheLastPush, Property::EverythingArrives),
    (Bug::SaysSentForAnothersPlace, Property::OneSequencePerClientId),
];

const ROOM: &str = "room";
const STEPS: usize = 400;

/// The server, and the devices as its clients.
struct World {
    bug: Option<Bug>,
    rng: fastrand::Rng,
    log: Vec<Logged>,
    devices: Vec<Device>,
    written: usize,
    /// Set when the mistake was made; until then it waits for its moment.
    made: bool,
    /// Nobody acknowledges any more. Histories have no common clock, so a receipt that comes too
    /// early is caught only if what it tells never came true.
    is_over: bool,
}

struct Device {
    history: DeviceHistory,
    cursor: u64,
    acked: u64,
    read: u64,
    counted_up: u64,
    /// Sent, and not known to be in the log: (client id, text).
    unsent: Vec<(String, String)>,
}

impl Device {
    fn log(&mut self, event: Event) {
        self.history.events.push(event);
    }
}

impl World {
    fn new(bug: Option<Bug>, seed: u64) -> Self {
        let device = |(user, device): (&str, &str)| Device {
            history: DeviceHistory {
                user: user.to_owned(),
                device: device.to_owned(),
                events: vec![],
            },
            cursor: 0,
            acked: 0,
            read: 0,
            counted_up: 0,
            unsent: vec![],
        };
        let devices = [("ann", "phone"), ("bob", "phone"), ("bob", "laptop")].map(device).into();
        let rng = fastrand::Rng::with_seed(seed);
        Self { bug, rng, log: vec![], devices, written: 0, made: false, is_over: false }
    }

    /// Whether to make this mistake now: once, after a while.
    fn now(&mut self, bug: Bug) -> bool {
        let now = self.bug == Some(bug) && !self.made && self.log.len() > 20;
        self.made |= now;
        now
    }

    fn append(&mut self, at: usize, client_id: &str, text: &str) -> u64 {
        let there = self.log.iter().find(|logged| logged.client_id == client_id).map(|l| l.seq);
        if let Some(seq) = there {
            if self.now(Bug::AnswersARetryWithANewPlace) {
                return seq + 1;
            }
            if !self.now(Bug::AppendsARetryAgain) {
                return seq;
            }
        }
        let hole = u64::from(self.now(Bug::LeavesAHoleInTheLog));
        let seq = self.log.last().map_or(0, |logged| logged.seq) + 1 + hole;
        if self.now(Bug::AcknowledgesBeforeCommit) {
            return seq;
        }
        let sender = self.devices[at].history.user.clone();
        let text = if self.now(Bug::ChangesAText) { "changed".to_owned() } else { text.to_owned() };
        self.log.push(Logged {
            seq,
            sender: sender.clone(),
            client_id: client_id.to_owned(),
            text,
        });
        for device in &mut self.devices {
            device.counted_up += u64::from(device.history.user != sender);
        }
        if self.now(Bug::InventsAMessage) {
            let (client_id, text) = ("ghost".to_owned(), "boo".to_owned());
            self.log.push(Logged { seq: seq + 1, sender, client_id, text });
        }
        seq
    }

    /// A device sends: something new, or again what was not answered.
    fn send(&mut self, at: usize) {
        self.written += 1;
        let (client_id, text) = (format!("id{}", self.written), format!("text {}", self.written));
        let device = &mut self.devices[at];
        device.unsent.push((client_id, text));
        let swaps = self.now(Bug::AppendsASendersMessagesOutOfOrder);
        if swaps {
            self.written += 1;
            let (client_id, text) =
                (format!("id{}", self.written), format!("text {}", self.written));
            self.devices[at].unsent.push((client_id, text));
        }
        let device = &mut self.devices[at];
        let mut batch = device.unsent.clone();
        for (client_id, text) in &batch {
            let (conversation, client_id, text) =
                (ROOM.to_owned(), client_id.clone(), text.clone());
            device.log(Event::Sending { conversation, client_id, text });
        }
        if swaps {
            batch.reverse(); // two workers, and the later message is faster
        }
        let before = self.made;
        let answers: Vec<u64> =
            batch.iter().map(|(client_id, text)| self.append(at, client_id, text)).collect();
        // A mistake whose answer is lost and whose message is sent again is no mistake any more.
        if self.rng.u8(0..4) == 0 && before == self.made {
            return; // the answers are lost; next time all of it is sent again
        }
        for ((client_id, _), mut seq) in batch.into_iter().zip(answers) {
            if self.now(Bug::SaysSentForAnothersPlace) {
                seq = 1;
            }
            self.devices[at].log(Event::Sent { conversation: ROOM.to_owned(), client_id, seq });
        }
        self.devices[at].unsent.clear();
        if self.now(Bug::ForgetsTheTailInACrash) {
            self.log.pop();
        }
    }

    /// Whether a place holds somebody else's message: one's own may be pushed or not.
    fn is_anothers(&self, at: usize, index: u64) -> bool {
        let logged = self.log.get(index as usize);
        logged.is_some_and(|logged| logged.sender != self.devices[at].history.user)
    }

    /// A device is pushed what follows its cursor; here also its own messages.
    fn push(&mut self, at: usize) {
        let cursor = self.devices[at].cursor;
        let mut from = cursor;
        if self.is_anothers(at, cursor)
            && self.log.len() as u64 > cursor + 2
            && self.now(Bug::SkipsAPush)
        {
            from += 1;
        }
        let Some(mut logged) = self.log.get(from as usize).cloned() else { return };
        if self.now(Bug::LosesTheLastPush) {
            self.devices[at].cursor = u64::MAX; // as if it were online, and nothing is ever sent
            return;
        }
        let twice = self.is_anothers(at, from) && self.now(Bug::PushesTwice);
        let times = if twice { 2 } else { 1 };
        if self.log.len() as u64 > from + 1 && self.now(Bug::ShowsDevicesDifferentOrders) {
            let seq = logged.seq;
            logged = Logged { seq, ..self.log[from as usize + 1].clone() };
        }
        for _ in 0..times {
            let Logged { seq, sender, client_id, text } = logged.clone();
            let conversation = ROOM.to_owned();
            self.devices[at].log(Event::Received { conversation, seq, sender, client_id, text });
        }
        self.devices[at].cursor = logged.seq;
    }

    fn acknowledge(&mut self, at: usize) {
        if self.devices[at].cursor == u64::MAX {
            return;
        }
        let is_read = self.rng.bool();
        let device = &mut self.devices[at];
        let (conversation, seq) = (ROOM.to_owned(), device.cursor);
        device.acked = seq;
        device.log(Event::Acknowledged { conversation: conversation.clone(), seq });
        if is_read {
            device.read = seq;
            device.counted_up = 0;
            device.log(Event::Read { conversation, seq });
        }
    }

    /// One device is told how far the user of another is.
    fn receipt(&mut self, to: usize, of: usize) {
        let user = self.devices[of].history.user.clone();
        let of_user =
            || self.devices.iter().filter(|d| d.history.user == user && d.cursor != u64::MAX);
        let read = of_user().map(|device| device.read).max().unwrap_or_default();
        let delivered = of_user().map(|device| device.acked).max().unwrap_or_default().max(read);
        let pushed = of_user().map(|device| device.cursor).max().unwrap_or_default();
        let mut told = (delivered, read);
        if self.is_over && pushed > delivered && self.now(Bug::ReceiptOnSocketWrite) {
            told.0 = pushed;
        }
        if self.is_over && delivered > read && self.now(Bug::ReadReceiptOnDelivery) {
            told.1 = delivered;
        }
        let events = self.devices[to].history.events.iter().rev();
        let mut connection = events.take_while(|event| !matches!(event, Event::Connected { .. }));
        let before = connection.find_map(|event| match event {
            Event::Receipt { user: whose, delivered, .. } if *whose == user => Some(*delivered),
            _ => None,
        });
        if before.is_some_and(|before| before > 0) && self.now(Bug::ReceiptGoesBack) {
            told = (before.unwrap_or(1) - 1, 0);
        }
        let (conversation, (delivered, read)) = (ROOM.to_owned(), told);
        self.devices[to].log(Event::Receipt { conversation, user, delivered, read });
    }

    /// A device comes back: it is told what is unread, and goes on at its cursor.
    fn reconnect(&mut self, at: usize) {
        if self.devices[at].cursor == u64::MAX {
            return;
        }
        let cursors = vec![(ROOM.to_owned(), self.devices[at].cursor)];
        self.devices[at].log(Event::Connected { cursors });
        let user = self.devices[at].history.user.clone();
        let read = self.devices.iter().filter(|d| d.history.user == user).map(|d| d.read).max();
        let (last, read) =
            (self.log.last().map_or(0, |logged| logged.seq), read.unwrap_or_default());
        let after = self.log.iter().filter(|logged| logged.seq > read);
        let all = after.clone().count() as u64;
        let mut unread = after.filter(|logged| logged.sender != user).count() as u64;
        if all != unread && self.now(Bug::CountsOwnAsUnread) {
            unread = all;
        }
        let counted = self.devices[at].counted_up;
        if counted != unread && self.now(Bug::CountsUnreadUp) {
            unread = counted;
        }
        self.devices[at].log(Event::Unread { conversation: ROOM.to_owned(), last, read, unread });
        if self.devices[at].cursor > 0 && self.now(Bug::ResumesBeforeTheCursor) {
            self.devices[at].cursor -= 1;
            self.push(at);
        }
        let next = self.devices[at].cursor;
        if self.is_anothers(at, next)
            && self.log.len() as u64 > next + 2
            && self.now(Bug::ResumesAfterAGap)
        {
            self.devices[at].cursor += 1;
            self.push(at);
        }
    }

    fn run(mut self) -> (History, bool) {
        for _ in 0..STEPS {
            let (at, other) = (self.rng.usize(0..3), self.rng.usize(0..3));
            match self.rng.u8(0..10) {
                0..3 => self.send(at),
                3..7 => self.push(at),
                7 => self.acknowledge(at),
                8 => self.receipt(at, other),
                _ => self.reconnect(at),
            }
        }
        for at in 0..3 {
            while self.devices[at].cursor < self.log.last().map_or(0, |logged| logged.seq) {
                let before = self.devices[at].cursor;
                self.push(at);
                if self.devices[at].cursor == before {
                    break;
                }
            }
        }
        self.is_over = true;
        for (to, of) in [(0, 1), (0, 2), (1, 0), (2, 0)] {
            self.receipt(to, of);
        }
        let logs = BTreeMap::from([(ROOM.to_owned(), self.log)]);
        let members = BTreeMap::from([(ROOM.to_owned(), vec!["ann".to_owned(), "bob".to_owned()])]);
        let devices = self.devices.into_iter().map(|device| device.history).collect();
        (History { devices, logs, members }, self.made)
    }
}

#[test]
fn a_right_server_is_not_accused() {
    let seed = Seed::from_env_or_fresh();
    for part in 0..50 {
        let (history, _) = World::new(None, seed.rng_for(part).u64(..)).run();
        let anomalies = check(&history);
        assert!(anomalies.is_empty(), "{anomalies:?}");
    }
}

#[test]
fn every_seeded_wrong_server_is_caught_by_the_property_it_breaks() {
    let seed = Seed::from_env_or_fresh();
    for (number, (bug, property)) in ALL.into_iter().enumerate() {
        let (mut made, mut caught) = (0, 0);
        for part in 0..20 {
            let rng = seed.rng_for(number as u64 * 100 + part).u64(..);
            let (history, was_made) = World::new(Some(bug), rng).run();
            made += u32::from(was_made);
            caught += u32::from(was_made && check(&history).iter().any(|a| a.property == property));
        }
        assert!(made > 5, "{bug:?} was made in {made} of 20 histories only");
        assert_eq!(
            caught, made,
            "{bug:?} was made {made} times and caught by {property:?} {caught} times"
        );
    }
}

/// Who joins later begins at their own entry; anything before it, and any later beginning, is not
/// theirs to see.
#[test]
fn a_late_member_begins_with_their_own_entry_and_nowhere_else() {
    let logged = |seq: u64, text: &str| Logged {
        seq,
        sender: "ann".to_owned(),
        client_id: format!("id {seq}"),
        text: text.to_owned(),
    };
    let log = [logged(1, "before"), logged(2, "joined bob"), logged(3, "hi bob")];
    let seen_from = |first: u64| {
        let (user, device) = ("bob".to_owned(), "phone".to_owned());
        let received = log.iter().filter(|logged| logged.seq >= first).map(|logged| {
            let Logged { seq, sender, client_id, text } = logged.clone();
            Event::Received { conversation: ROOM.to_owned(), seq, sender, client_id, text }
        });
        let bob = DeviceHistory { user, device, events: received.collect() };
        let sending = log.iter().map(|logged| Event::Sending {
            conversation: ROOM.to_owned(),
            client_id: logged.client_id.clone(),
            text: logged.text.clone(),
        });
        let sent = log.iter().map(|logged| Event::Sent {
            conversation: ROOM.to_owned(),
            client_id: logged.client_id.clone(),
            seq: logged.seq,
        });
        let ann = DeviceHistory {
            user: "ann".to_owned(),
            device: "phone".to_owned(),
            events: sending.chain(sent).collect(),
        };
        let history = History {
            devices: vec![ann, bob],
            logs: BTreeMap::from([(ROOM.to_owned(), log.to_vec())]),
            members: BTreeMap::from([(ROOM.to_owned(), vec!["ann".to_owned(), "bob".to_owned()])]),
        };
        check(&history).into_iter().map(|anomaly| anomaly.property).collect::<Vec<_>>()
    };
    assert_eq!(seen_from(2), []);
    assert_eq!(seen_from(3), [Property::Gapless]);
}
