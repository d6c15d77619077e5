//! The history checker: reads what every device sent and saw, and says what went wrong.
//!
//! Written from `PROTOCOL.md` alone: it shares no code with the servers it judges, and sees only
//! what a client sees. A history comes from tests that kill, cut and partition, or from any other
//! server that speaks the protocol.
//!
//! Nine properties, each an [`Anomaly`]. The checker is itself tested: seeded wrong servers each
//! have to be caught by the property that is meant for them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// Names in a history; any text.
pub type Name = String;

/// What happened at one device, in the order in which it happened there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection began: the device presented this cursor for every conversation it knows.
    Connected {
        /// Conversation and position.
        cursors: Vec<(Name, u64)>,
    },
    /// The device sent a message, perhaps again.
    Sending {
        /// Where.
        conversation: Name,
        /// Its client id.
        client_id: Name,
        /// What.
        text: Name,
    },
    /// The server said that it is in the log.
    Sent {
        /// Where.
        conversation: Name,
        /// Which.
        client_id: Name,
        /// At this place.
        seq: u64,
    },
    /// A message was pushed.
    Received {
        /// Where.
        conversation: Name,
        /// At this place.
        seq: u64,
        /// By whom.
        sender: Name,
        /// Which.
        client_id: Name,
        /// What.
        text: Name,
    },
    /// The device acknowledged everything up to here.
    Acknowledged {
        /// Where.
        conversation: Name,
        /// Up to here.
        seq: u64,
    },
    /// The user read everything up to here.
    Read {
        /// Where.
        conversation: Name,
        /// Up to here.
        seq: u64,
    },
    /// The server said how far a member is.
    Receipt {
        /// Where.
        conversation: Name,
        /// Who.
        user: Name,
        /// Delivered up to here.
        delivered: u64,
        /// Read up to here.
        read: u64,
    },
    /// The server said how much is unread.
    Unread {
        /// Where.
        conversation: Name,
        /// The end of the log.
        last: u64,
        /// The read cursor.
        read: u64,
        /// The number.
        unread: u64,
    },
}

/// What one device did and saw.
#[derive(Clone, Debug, Default)]
pub struct DeviceHistory {
    /// Whose.
    pub user: Name,
    /// Which.
    pub device: Name,
    /// In order.
    pub events: Vec<Event>,
}

/// A message as the log has it in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its place.
    pub seq: u64,
    /// By whom.
    pub sender: Name,
    /// Which.
    pub client_id: Name,
    /// What.
    pub text: Name,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// One per device.
    pub devices: Vec<DeviceHistory>,
    /// The logs, read to the end when everything was over.
    pub logs: BTreeMap<Name, Vec<Logged>>,
    /// Who is in which conversation from the beginning to the end. Devices of these must have
    /// everything in the end.
    pub members: BTreeMap<Name, Vec<Name>>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    /// A message the server said is in the log is not there.
    NothingAcknowledgedIsLost,
    /// A message is there, or was seen, that nobody wrote, or not with this text.
    NothingIsInvented,
    /// One client id has two places.
    OneSequencePerClientId,
    /// Two devices saw different messages at one place.
    SameOrderEverywhere,
    /// A device's messages are not in the order in which it sent them.
    PerSenderOrder,
    /// A log, or what a device saw of it, has a hole.
    Gapless,
    /// A device was pushed something twice, or something it said it has.
    PushedOnce,
    /// A receipt went back, passed the log, or told what no device said.
    ReceiptsMonotone,
    /// A number of unread messages is not what follows the read cursor without one's own.
    UnreadIdentity,
    /// A device that stayed to the end does not have everything.
    EverythingArrives,
}

/// One thing that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Which property is broken.
    pub property: Property,
    /// How.
    pub what: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.property, self.what)
    }
}

/// Every anomaly of a history. Empty means that nothing the specification forbids was seen.
pub fn check(history: &History) -> Vec<Anomaly> {
    let mut checker = Checker { history, anomalies: Vec::new() };
    checker.logs();
    checker.sends();
    checker.views();
    checker.per_sender_order();
    checker.receipts();
    checker.unread();
    checker.arrival();
    checker.anomalies
}

struct Checker<'a> {
    history: &'a History,
    anomalies: Vec<Anomaly>,
}

impl<'a> Checker<'a> {
    fn report(&mut self, property: Property, what: String) {
        self.anomalies.push(Anomaly { property, what });
    }

    fn log(&self, conversation: &str) -> &'a [Logged] {
        self.history.logs.get(conversation).map_or(&[], Vec::as_slice)
    }

    /// The message at a place, whether or not the log is gapless.
    fn at(&self, conversation: &str, seq: u64) -> Option<&'a Logged> {
        let log = self.log(conversation);
        let guess = log.get((seq as usize).wrapping_sub(1)).filter(|logged| logged.seq == seq);
        guess.or_else(|| log.iter().find(|logged| logged.seq == seq))
    }

    /// The logs themselves: gapless, and one place per client id.
    fn logs(&mut self) {
        for (conversation, log) in &self.history.logs {
            let mut places: HashMap<(&str, &str), u64> = HashMap::new();
            for (index, logged) in log.iter().enumerate() {
                if logged.seq != index as u64 + 1 {
                    let what = format!("{conversation}: place {} follows {index}", logged.seq);
                    self.report(Property::Gapless, what);
                }
                let key = (logged.sender.as_str(), logged.client_id.as_str());
                if let Some(before) = places.insert(key, logged.seq) {
                    let what = format!("{conversation}: {key:?} is at {before} and {}", logged.seq);
                    self.report(Property::OneSequencePerClientId, what);
                }
            }
        }
    }

    /// What was sent against what is there.
    fn sends(&mut self) {
        let mut written: HashMap<(&str, &str, &str), &str> = HashMap::new();
        let mut promised: HashMap<(&str, &str), u64> = HashMap::new();
        for (device, event) in self.events() {
            match event {
                Event::Sending { conversation, client_id, text } => {
                    written.insert((conversation, &device.user, client_id), text);
                }
                Event::Sent { conversation, client_id, seq } => {
                    let there = self.at(conversation, *seq);
                    if there.is_none_or(|l| l.client_id != *client_id || l.sender != device.user) {
                        let what = format!(
                            "{}/{} was told that {client_id} is at {seq} of {conversation}; {there:?} is",
                            device.user, device.device
                        );
                        let elsewhere = self.log(conversation).iter();
                        let mut own = elsewhere.filter(|logged| logged.sender == device.user);
                        let is_elsewhere = own.any(|logged| logged.client_id == *client_id);
                        self.report(
                            match is_elsewhere {
                                true => Property::OneSequencePerClientId,
                                false => Property::NothingAcknowledgedIsLost,
                            },
                            what,
                        );
                    }
                    let before = promised.insert((&device.user, client_id), *seq);
                    if before.is_some_and(|before| before != *seq) {
                        let what = format!("{client_id} was said to be at {before:?} and at {seq}");
                        self.report(Property::OneSequencePerClientId, what);
                    }
                }
                _ => {}
            }
        }
        for (conversation, log) in &self.history.logs {
            for logged in log {
                let key =
                    (conversation.as_str(), logged.sender.as_str(), logged.client_id.as_str());
                if written.get(&key) != Some(&logged.text.as_str()) {
                    let what = format!("{conversation} holds {logged:?}, which nobody wrote");
                    self.report(Property::NothingIsInvented, what);
                }
            }
        }
    }

    /// What each device was pushed, connection by connection.
    fn views(&mut self) {
        let mut seen: HashMap<(&str, u64), (&str, &str)> = HashMap::new();
        for device in &self.history.devices {
            let mut view = View::default();
            for event in &device.events {
                match event {
                    Event::Connected { cursors } => view.reconnect(cursors),
                    Event::Sent { conversation, seq, .. } => view.own(conversation, *seq),
                    Event::Received { conversation, seq, sender, client_id, text } => {
                        let who = format!("{}/{}", device.user, device.device);
                        view.may_begin(&device.user, conversation, *seq, text);
                        if let Some((property, what)) = view.push(conversation, *seq) {
                            self.report(property, format!("{who}: {conversation}: {what}"));
                        }
                        let this = (sender.as_str(), client_id.as_str());
                        let other = *seen.entry((conversation, *seq)).or_insert(this);
                        if other != this {
                            let what = format!(
                                "{who} saw {this:?} at {seq} of {conversation}, another device {other:?}"
                            );
                            self.report(Property::SameOrderEverywhere, what);
                        }
                        self.compare(&who, conversation, *seq, (sender, client_id, text));
                    }
                    _ => {}
                }
            }
        }
    }

    fn compare(&mut self, who: &str, conversation: &str, seq: u64, seen: (&str, &str, &str)) {
        let (sender, client_id, text) = seen;
        match self.at(conversation, seq) {
            None => {
                let what = format!(
                    "{who} saw {seen:?} at {seq} of {conversation}, which is not in the log"
                );
                self.report(Property::NothingAcknowledgedIsLost, what);
            }
            Some(logged) if logged.sender != sender || logged.client_id != client_id => {
                let what = format!(
                    "{who} saw {seen:?} at {seq} of {conversation}, the log has {logged:?}"
                );
                self.report(Property::SameOrderEverywhere, what);
            }
            Some(logged) if logged.text != text => {
                let what = format!(
                    "{who} saw {seen:?} at {seq} of {conversation}, the log has {logged:?}"
                );
                self.report(Property::NothingIsInvented, what);
            }
            Some(_) => {}
        }
    }

    /// A device sends in order, and again in the same order; so the log has it in that order.
    fn per_sender_order(&mut self) {
        for device in &self.history.devices {
            let mut order: HashMap<&str, Vec<&str>> = HashMap::new();
            for event in &device.events {
                if let Event::Sending { conversation, client_id, .. } = event {
                    let sent = order.entry(conversation).or_default();
                    if !sent.contains(&client_id.as_str()) {
                        sent.push(client_id);
                    }
                }
            }
            for (conversation, sent) in order {
                let log = self.log(conversation);
                let places: HashMap<&str, u64> =
                    log.iter().map(|logged| (logged.client_id.as_str(), logged.seq)).collect();
                let mut last = 0;
                for client_id in sent {
                    let Some(&seq) = places.get(client_id) else { continue };
                    if seq < last {
                        let what = format!(
                            "{}/{}: {client_id} is at {seq}, sent after the one at {last}",
                            device.user, device.device
                        );
                        self.report(Property::PerSenderOrder, what);
                    }
                    last = last.max(seq);
                }
            }
        }
    }

    /// Receipts only grow as one connection hears them, and only say what devices said.
    fn receipts(&mut self) {
        let mut delivered: HashMap<(&str, &str), u64> = HashMap::new();
        let mut read: HashMap<(&str, &str), u64> = HashMap::new();
        for (conversation, log) in &self.history.logs {
            for logged in log {
                // Who joined later has nothing to receive or to read before that.
                if let Some(user) = logged.text.strip_prefix("joined ") {
                    delivered.insert((user, conversation), logged.seq - 1);
                    read.insert((user, conversation), logged.seq - 1);
                }
            }
        }
        for (device, event) in self.events() {
            let (most, conversation, seq) = match event {
                Event::Acknowledged { conversation, seq } => (&mut delivered, conversation, seq),
                Event::Read { conversation, seq } => (&mut read, conversation, seq),
                _ => continue,
            };
            let kept = most.entry((device.user.as_str(), conversation.as_str())).or_default();
            *kept = (*kept).max(*seq);
        }
        for device in &self.history.devices {
            let mut heard: HashMap<(&str, &str), (u64, u64)> = HashMap::new();
            for event in &device.events {
                let Event::Receipt { conversation, user, delivered: got, read: saw } = event else {
                    if matches!(event, Event::Connected { .. }) {
                        heard.clear();
                    }
                    continue;
                };
                let key = (user.as_str(), conversation.as_str());
                let before = heard.insert(key, (*got, *saw)).unwrap_or_default();
                if *got < before.0 || *saw < before.1 {
                    let what = format!("{key:?} went from {before:?} back to {:?}", (got, saw));
                    self.report(Property::ReceiptsMonotone, what);
                }
                let most_read = read.get(&key).copied().unwrap_or_default();
                let most = delivered.get(&key).copied().unwrap_or_default().max(most_read);
                if *got > most || *saw > most_read || *saw > *got {
                    let what = format!(
                        "{key:?} is told to have {got} and to have read {saw}, but said {most} and {most_read}"
                    );
                    self.report(Property::ReceiptsMonotone, what);
                }
            }
        }
    }

    fn unread(&mut self) {
        for (device, event) in self.events() {
            let Event::Unread { conversation, last, read, unread } = event else { continue };
            let log = self.log(conversation).iter();
            let after = log.filter(|l| l.seq > *read && l.seq <= *last && l.sender != device.user);
            let expected = after.count() as u64;
            if *unread != expected {
                let what = format!(
                    "{}: {unread} of {conversation} are said to be unread between {read} and {last}; {expected} are",
                    device.user
                );
                self.report(Property::UnreadIdentity, what);
            }
        }
    }

    /// Everybody who stayed has everything.
    fn arrival(&mut self) {
        for device in &self.history.devices {
            let mut view = View::default();
            for event in &device.events {
                match event {
                    Event::Connected { cursors } => view.reconnect(cursors),
                    Event::Sent { conversation, seq, .. } => view.own(conversation, *seq),
                    Event::Received { conversation, seq, text, .. } => {
                        view.may_begin(&device.user, conversation, *seq, text);
                        drop(view.push(conversation, *seq));
                    }
                    _ => {}
                }
            }
            for (conversation, members) in &self.history.members {
                let (have, last) = (view.upto(conversation), self.log(conversation).len() as u64);
                if members.contains(&device.user) && have < last {
                    let what = format!(
                        "{}/{} has {have} of {last} messages of {conversation}",
                        device.user, device.device
                    );
                    self.report(Property::EverythingArrives, what);
                }
            }
        }
    }

    fn events(&self) -> impl Iterator<Item = (&'a DeviceHistory, &'a Event)> + use<'a> {
        let devices = self.history.devices.iter();
        devices.flat_map(|device| device.events.iter().map(move |event| (device, event)))
    }
}

/// Where a device stands, by the rules a client follows.
#[derive(Default)]
struct View {
    upto: HashMap<String, u64>,
    own: HashMap<String, Vec<u64>>,
    /// Where the connection began, and what was sent since: one's own messages may be pushed too.
    began: HashMap<String, u64>,
    sent: HashSet<(String, u64)>,
}

impl View {
    fn reconnect(&mut self, cursors: &[(Name, u64)]) {
        for (conversation, seq) in cursors {
            self.upto.insert(conversation.clone(), *seq);
            self.began.insert(conversation.clone(), *seq);
        }
    }

    fn upto(&self, conversation: &str) -> u64 {
        self.upto.get(conversation).copied().unwrap_or_default()
    }

    /// A message of one's own has a place without being pushed.
    fn own(&mut self, conversation: &str, seq: u64) {
        self.own.entry(conversation.to_owned()).or_default().push(seq);
        self.sent.insert((conversation.to_owned(), seq));
        self.settle(conversation);
    }

    fn settle(&mut self, conversation: &str) {
        let upto = self.upto.entry(conversation.to_owned()).or_default();
        let Some(own) = self.own.get_mut(conversation) else { return };
        while own.contains(&(*upto + 1)) {
            *upto += 1;
        }
        own.retain(|seq| seq > upto);
    }

    /// Who joined later begins with their own `joined`: what was before is not for them.
    fn may_begin(&mut self, user: &str, conversation: &str, seq: u64, text: &str) {
        if text.strip_prefix("joined ") == Some(user) && self.upto(conversation) == 0 {
            self.upto.insert(conversation.to_owned(), seq - 1);
        }
    }

    /// A message was pushed: it has to be the next one.
    fn push(&mut self, conversation: &str, seq: u64) -> Option<(Property, String)> {
        let upto = self.upto(conversation);
        if seq > upto {
            self.upto.insert(conversation.to_owned(), seq);
            self.settle(conversation);
        }
        let began = self.began.get(conversation).copied().unwrap_or_default();
        let is_own = seq > began && self.sent.contains(&(conversation.to_owned(), seq));
        match seq {
            seq if seq <= upto && is_own => None,
            seq if seq <= upto => {
                Some((Property::PushedOnce, format!("{seq} was pushed after {upto}")))
            }
            seq if seq > upto + 1 => {
                Some((Property::Gapless, format!("{seq} was pushed after {upto}")))
            }
            _ => None,
        }
    }
}
