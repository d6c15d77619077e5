//! What a device remembers from one connection to the next, and what it does with a frame. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::chat::Message;
use crate::ids::{ClientId, ConversationId, Epoch, Seq};
use crate::protocol::{ClientFrame, Cursor, Resume, ServerFrame};

/// What a frame meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A message this device did not have.
    New(Arc<Message>),
    /// A message it had already.
    Again(Arc<Message>),
    /// One of its own is in the log.
    Sent {
        /// Whose.
        client_id: ClientId,
        /// Where.
        seq: Seq,
        /// A retry found it there.
        duplicate: bool,
    },
    /// The store is another one: what the device had is void.
    Reset,
    /// Anything else, as it came.
    Other(ServerFrame),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Device {
    token: String,
    epoch: Option<Epoch>,
    cursors: HashMap<ConversationId, Seq>,
    /// Places beyond the cursor that are the device's own: known from `sent`, never pushed.
    own: HashMap<ConversationId, BTreeSet<Seq>>,
    /// Not known to be in the log, in the order of writing. Sent again after a reconnect.
    unsent: VecDeque<ClientFrame>,
    /// Conversations with something to acknowledge.
    moved: BTreeSet<ConversationId>,
    credit: u32,
    taken: u32,
}

impl Device {
    /// A device that has nothing yet and takes `credit` messages at a time.
    pub fn new(token: String, credit: u32) -> Self {
        Self {
            token,
            epoch: None,
            cursors: HashMap::new(),
            own: HashMap::new(),
            unsent: VecDeque::new(),
            moved: BTreeSet::new(),
            credit: credit.max(1),
            taken: 0,
        }
    }

    /// The first frame of a connection.
    pub fn hello(&mut self, resume: Resume) -> ClientFrame {
        self.taken = 0;
        let cursors = self.cursors.iter();
        let cursors = cursors.map(|(&conversation, &seq)| Cursor { conversation, seq });
        ClientFrame::Hello {
            token: self.token.clone(),
            epoch: self.epoch,
            cursors: cursors.take(crate::protocol::CURSORS_MAX).collect(),
            resume,
            credit: self.credit,
        }
    }

    /// Everything that is not known to be in the log: to be sent after hello.
    pub fn unsent(&self) -> Vec<ClientFrame> {
        self.unsent.iter().cloned().collect()
    }

    /// Writes a message: it is remembered until the server says that it is in the log.
    pub fn write(&mut self, conversation: ConversationId, text: &str) -> ClientFrame {
        let client_id = ClientId::fresh();
        let frame = ClientFrame::Send { client_id, conversation, text: Arc::from(text) };
        self.unsent.push_back(frame.clone());
        frame
    }

    /// Forgets a message the server refused.
    pub fn give_up(&mut self, refused: ClientId) {
        self.unsent.retain(
            |frame| !matches!(frame, ClientFrame::Send { client_id, .. } if *client_id == refused),
        );
    }

    /// Where the device stands in a conversation.
    pub fn cursor(&self, conversation: ConversationId) -> Seq {
        self.cursors.get(&conversation).copied().unwrap_or_default()
    }

    /// Takes a frame in.
    pub fn hear(&mut self, frame: ServerFrame) -> Heard {
        match frame {
            ServerFrame::Welcome { epoch, reset, .. } => {
                let is_new = self.epoch.replace(epoch).is_some_and(|known| known != epoch);
                if reset || is_new {
                    self.cursors.clear();
                    self.own.clear();
                    return Heard::Reset;
                }
                Heard::Other(frame)
            }
            ServerFrame::Message(message) => {
                self.taken += 1;
                if message.seq <= self.cursor(message.conversation) {
                    return Heard::Again(message);
                }
                self.advance(message.conversation, message.seq);
                Heard::New(message)
            }
            ServerFrame::Sent { client_id, conversation, seq, duplicate, .. } => {
                self.give_up(client_id);
                let cursor = self.cursor(conversation);
                if seq == cursor.next() {
                    self.advance(conversation, seq);
                } else if seq > cursor {
                    self.own.entry(conversation).or_default().insert(seq);
                }
                Heard::Sent { client_id, seq, duplicate }
            }
            other => Heard::Other(other),
        }
    }

    fn advance(&mut self, conversation: ConversationId, seq: Seq) {
        let mut cursor = seq;
        if let Some(own) = self.own.get_mut(&conversation) {
            while own.first().is_some_and(|next| *next <= cursor.next()) {
                cursor = own.pop_first().map_or(cursor, |own| own.max(cursor));
            }
        }
        self.cursors.insert(conversation, cursor);
        self.moved.insert(conversation);
    }

    /// The acknowledgements and the credit that are due: one frame per conversation, however many
    /// messages came.
    pub fn due(&mut self) -> Vec<ClientFrame> {
        let moved = std::mem::take(&mut self.moved);
        let acks = moved.into_iter().map(|conversation| {
            let seq = self.cursors.get(&conversation).copied().unwrap_or_default();
            ClientFrame::Ack { conversation, seq }
        });
        let mut due: Vec<_> = acks.collect();
        // Half is used up: what is given now arrives before the rest is.
        if self.taken * 2 >= self.credit {
            due.push(ClientFrame::Credit { messages: std::mem::take(&mut self.taken) });
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Content;
    use crate::ids::UserId;

    fn message(conversation: ConversationId, seq: u64) -> ServerFrame {
        ServerFrame::Message(Arc::new(Message {
            conversation,
            seq: Seq(seq),
            sender: UserId::new("bob").unwrap(),
            client_id: ClientId::fresh(),
            at_ms: 0,
            content: Content::Text("hi".into()),
        }))
    }

    #[test]
    fn ones_own_message_takes_its_place_when_those_before_it_have_come() {
        let (mut device, conversation) = (Device::new(String::new(), 10), ConversationId::fresh());
        let ClientFrame::Send { client_id, .. } = device.write(conversation, "mine") else {
            unreachable!("write makes a send frame")
        };
        let sent =
            ServerFrame::Sent { client_id, conversation, seq: Seq(2), at_ms: 0, duplicate: false };
        device.hear(sent);
        assert_eq!((device.cursor(conversation), device.unsent().len()), (Seq(0), 0));
        device.hear(message(conversation, 1));
        assert_eq!(device.cursor(conversation), Seq(2));
        assert!(matches!(device.hear(message(conversation, 2)), Heard::Again(_)));
        assert_eq!(device.due(), [ClientFrame::Ack { conversation, seq: Seq(2) }]);
        assert!(device.due().is_empty());
    }
}
