//! A [`Device`] that writes down what it does and sees, for the [history checker](crate::history).

use super::{Device, Heard};
use crate::chat::{Content, Message};
use crate::history::{DeviceHistory, Event};
use crate::ids::{ClientId, ConversationId, Seq};
use crate::protocol::{ClientFrame, Resume, ServerFrame};

/// See the module.
pub struct Witness {
    /// The device.
    pub device: Device,
    history: DeviceHistory,
}

impl Witness {
    /// A device of `user` that has seen nothing yet.
    pub fn new(user: &str, name: &str, device: Device) -> Self {
        let (user, name) = (user.to_owned(), name.to_owned());
        Self { device, history: DeviceHistory { user, device: name, events: Vec::new() } }
    }

    /// What was written down.
    pub fn into_history(self) -> DeviceHistory {
        self.history
    }

    /// The frames a connection begins with: hello, and what is not known to be sent.
    pub fn begin(&mut self, resume: Resume) -> (ClientFrame, Vec<ClientFrame>) {
        let hello = self.device.hello(resume);
        if let ClientFrame::Hello { cursors, .. } = &hello {
            let cursors = cursors.iter().map(|c| (c.conversation.to_string(), c.seq.0)).collect();
            self.history.events.push(Event::Connected { cursors });
        }
        let unsent = self.device.unsent();
        unsent.iter().for_each(|frame| self.sending(frame));
        (hello, unsent)
    }

    /// Writes a message.
    pub fn write(&mut self, conversation: ConversationId, text: &str) -> ClientFrame {
        let frame = self.device.write(conversation, text);
        self.sending(&frame);
        frame
    }

    fn sending(&mut self, frame: &ClientFrame) {
        if let ClientFrame::Send { client_id, conversation, text } = frame {
            let (conversation, client_id) = (conversation.to_string(), client_id.to_string());
            let text = text.to_string();
            self.history.events.push(Event::Sending { conversation, client_id, text });
        }
    }

    /// Marks as read.
    pub fn read(&mut self, conversation: ConversationId, seq: Seq) -> ClientFrame {
        let event = Event::Read { conversation: conversation.to_string(), seq: seq.0 };
        self.history.events.push(event);
        ClientFrame::Read { conversation, seq }
    }

    /// Takes a frame in.
    pub fn hear(&mut self, frame: ServerFrame) -> Heard {
        match &frame {
            ServerFrame::Message(message) => self.received(message),
            ServerFrame::Sent { client_id, conversation, seq, .. } => {
                self.sent(*client_id, *conversation, *seq);
            }
            ServerFrame::Receipt(receipt) => self.history.events.push(Event::Receipt {
                conversation: receipt.conversation.to_string(),
                user: receipt.user.to_string(),
                delivered: receipt.delivered.0,
                read: receipt.read.0,
            }),
            ServerFrame::Conversations { items, .. } => {
                let unread = items.iter().map(|item| Event::Unread {
                    conversation: item.conversation.to_string(),
                    last: item.last_seq.0,
                    read: item.read_seq.0,
                    unread: item.unread,
                });
                self.history.events.extend(unread);
            }
            _ => {}
        }
        self.device.hear(frame)
    }

    fn received(&mut self, message: &Message) {
        self.history.events.push(Event::Received {
            conversation: message.conversation.to_string(),
            seq: message.seq.0,
            sender: message.sender.to_string(),
            client_id: message.client_id.to_string(),
            text: text_of(message),
        });
    }

    fn sent(&mut self, client_id: ClientId, conversation: ConversationId, seq: Seq) {
        let (conversation, client_id) = (conversation.to_string(), client_id.to_string());
        self.history.events.push(Event::Sent { conversation, client_id, seq: seq.0 });
    }

    /// The acknowledgements and the credit that are due.
    pub fn due(&mut self) -> Vec<ClientFrame> {
        let due = self.device.due();
        for frame in &due {
            if let ClientFrame::Ack { conversation, seq } = frame {
                let (conversation, seq) = (conversation.to_string(), seq.0);
                self.history.events.push(Event::Acknowledged { conversation, seq });
            }
        }
        due
    }
}

/// What a message says, as histories compare it.
pub fn text_of(message: &Message) -> String {
    match &message.content {
        Content::Text(text) => text.to_string(),
        Content::Joined(user) => format!("joined {user}"),
        Content::Left(user) => format!("left {user}"),
    }
}
