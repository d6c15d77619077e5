//! The frames of `/v1/socket`, as types. The specification, with the rules around them, is
//! `PROTOCOL.md` in this crate; where they differ, the document is right and this is a bug.
//!
//! Every frame is one WebSocket text message holding one JSON object with a `type`.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chat::{Error, Message, Receipt, Summary};
use crate::ids::{ClientId, ConversationId, DeviceId, Epoch, Seq, UserId};

/// Largest frame a client may send. Above it the connection is closed with
/// [`CloseCode::TooLarge`], because the rest of a frame cannot be skipped for free.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Most messages a client may ask to have on their way. More credit than that is cut to it.
pub const CREDIT_MAX: u32 = 2_048;
/// Longest time a client may stay silent, pings and pongs included.
pub const SILENCE_MS_MAX: u64 = 60_000;
/// How long a new connection may take to say hello.
pub const HELLO_MS_MAX: u64 = 10_000;
/// Most cursors in a hello. A device in more conversations leaves the rest to the server.
pub const CURSORS_MAX: usize = 512;

/// A position the client has, of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which.
    pub conversation: ConversationId,
    /// The device has everything up to here.
    pub seq: Seq,
}

/// Where a device wants to start in the conversations it presents no cursor for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// After what this device last acknowledged: everything missed is delivered, oldest first.
    #[default]
    Missed,
    /// At the end: only what is new is pushed; what was missed is read with `history`, newest
    /// first. This makes the time to connect independent of the time away.
    Newest,
}

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientFrame {
    /// First, and only first: who this is and where it stands.
    Hello {
        /// From `POST /v1/login`; it says which user and which device.
        token: String,
        /// The epoch the cursors belong to, if the device has been here before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<Epoch>,
        /// Where the device stands; at most [`CURSORS_MAX`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        cursors: Vec<Cursor>,
        /// Where to start without a cursor.
        #[serde(default)]
        resume: Resume,
        /// How many messages may be pushed before more credit is given.
        credit: u32,
    },
    /// Write a message.
    Send {
        /// Drawn once per message; the same in every retry.
        client_id: ClientId,
        /// Where to.
        conversation: ConversationId,
        /// What.
        text: Arc<str>,
    },
    /// This device has everything up to `seq`.
    Ack {
        /// Where.
        conversation: ConversationId,
        /// Up to here.
        seq: Seq,
    },
    /// The user has read everything up to `seq`.
    Read {
        /// Where.
        conversation: ConversationId,
        /// Up to here.
        seq: Seq,
    },
    /// So many more messages may be pushed.
    Credit {
        /// How many.
        messages: u32,
    },
    /// A page of history.
    History {
        /// Comes back with the page.
        id: u64,
        /// Of which conversation.
        conversation: ConversationId,
        /// The newest messages before this one; the newest of all without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Seq>,
        /// How many at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
    /// The user is typing. Lossy.
    Typing {
        /// Where.
        conversation: ConversationId,
    },
    /// Tell me who of this conversation is online, now and when it changes. Lossy.
    Watch {
        /// Which.
        conversation: ConversationId,
    },
    /// Answered by a pong with the same number.
    Ping {
        /// Any number.
        id: u64,
    },
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The answer to hello.
    Welcome {
        /// Who the token says this is.
        user: UserId,
        /// And on which device.
        device: DeviceId,
        /// The epoch of every sequence from now on.
        epoch: Epoch,
        /// The client's cursors belonged to another epoch and were ignored: it must forget what
        /// it has and read again.
        reset: bool,
        /// Say something at least this often.
        silence_ms_max: u64,
    },
    /// The conversations, after welcome, in pages; `complete` on the last one.
    Conversations {
        /// Some of them.
        items: Vec<Summary>,
        /// Whether these are the last.
        complete: bool,
    },
    /// A message, in the order of its conversation, without a gap.
    Message(Arc<Message>),
    /// A message of this connection is in the log, durably.
    Sent {
        /// Whose.
        client_id: ClientId,
        /// Where.
        conversation: ConversationId,
        /// Its place, also the first time if this was a retry.
        seq: Seq,
        /// When it was taken.
        at_ms: u64,
        /// It was there already.
        duplicate: bool,
    },
    /// How far a member is.
    Receipt(Receipt),
    /// Everything that was in the logs when this was sent has been pushed.
    CaughtUp,
    /// The answer to history, oldest first.
    Page {
        /// From the question.
        id: u64,
        /// Of which conversation.
        conversation: ConversationId,
        /// The messages.
        messages: Vec<Arc<Message>>,
        /// Whether there are older ones.
        has_more: bool,
    },
    /// Somebody is typing.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
    },
    /// Somebody came or went.
    Presence {
        /// Who.
        user: UserId,
        /// Whether a device of theirs is connected.
        online: bool,
    },
    /// This user is no longer in the conversation.
    Removed {
        /// Which.
        conversation: ConversationId,
    },
    /// The answer to ping.
    Pong {
        /// From the ping.
        id: u64,
    },
    /// A frame was refused; the connection goes on.
    Error {
        /// A word for programs.
        code: Cow<'static, str>,
        /// The field at fault.
        #[serde(skip_serializing_if = "Option::is_none")]
        field: Option<String>,
        /// For people.
        detail: String,
        /// The message it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        client_id: Option<ClientId>,
        /// The history request it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
}

impl ServerFrame {
    /// The frame that refuses one of the client's.
    pub fn refusal(error: &Error, client_id: Option<ClientId>, id: Option<u64>) -> Self {
        let detail = match error {
            // What failed behind the server is for its log.
            Error::Unavailable { .. } => "try again".to_owned(),
            other => other.to_string(),
        };
        let field = error.field().map(str::to_owned);
        Self::Error { code: Cow::Borrowed(error.code()), field, detail, client_id, id }
    }

    /// As it goes over the wire.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("frames have string keys and no failing parts")
    }
}

/// A client frame, or the refusal that says which field is wrong.
///
/// # Errors
/// [`Error::Invalid`]; the connection goes on.
pub fn parse(text: &str) -> Result<ClientFrame, Error> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        // serde says "missing field `x`" and "unknown field `x`"; that is the field at fault.
        let named = message.split('`').nth(1).unwrap_or_default();
        let known =
            ["client_id", "conversation", "text", "seq", "token", "credit", "messages", "id"];
        let field = known.into_iter().find(|known| *known == named);
        Error::invalid(field.unwrap_or("frame"), format!("is not as specified: {message}"))
    })
}

/// Why the server closes. Below 4400 the client reconnects, with a jittered delay; from 4400 on it
/// does not until a person or a program has changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// The server is stopping. Reconnect: elsewhere, or here in a moment.
    GoingAway = 4000,
    /// The client read too slowly for too long, even from its cursor. Reconnect and resume.
    Slow = 4001,
    /// The token has expired. Log in again, then reconnect.
    Expired = 4002,
    /// Nothing was heard for [`SILENCE_MS_MAX`]. Reconnect.
    Silent = 4003,
    /// The server cannot serve this now. Reconnect later.
    TryLater = 4004,
    /// The first frame was not a hello that can be understood. Fix the client.
    BadHello = 4400,
    /// The token is not ours, or its device was removed. Log in.
    Unauthorised = 4401,
    /// The same device connected again; this is the older connection.
    Displaced = 4409,
    /// A frame above [`FRAME_BYTES_MAX`]. Fix the client.
    TooLarge = 4413,
    /// Too many frames that are not as specified. Fix the client.
    TooManyErrors = 4429,
}

impl CloseCode {
    /// Whether the client should come back by itself.
    pub fn reconnect(self) -> bool {
        Self::may_reconnect(self as u16)
    }

    /// The same for a code as it was received. Codes of WebSocket itself, and no code at all, are
    /// a broken connection: reconnect.
    pub fn may_reconnect(code: u16) -> bool {
        !(4400..5000).contains(&code)
    }

    /// For the close frame.
    pub fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "going away",
            Self::Slow => "reading too slowly",
            Self::Expired => "token expired",
            Self::Silent => "nothing heard",
            Self::TryLater => "try later",
            Self::BadHello => "hello expected",
            Self::Unauthorised => "not authorised",
            Self::Displaced => "connected again elsewhere",
            Self::TooLarge => "frame too large",
            Self::TooManyErrors => "too many errors",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_frame_names_its_field() {
        for (text, field) in [
            ("", "frame"),
            ("[]", "frame"),
            (r#"{"type":"fly"}"#, "frame"),
            (
                r#"{"type":"send","client_id":"0192f0c8-0000-7000-8000-000000000000","conversation":"0192f0c8-0000-7000-8000-000000000000"}"#,
                "text",
            ),
            (r#"{"type":"ack","seq":1}"#, "conversation"),
            (r#"{"type":"ping","id":1,"text":"x"}"#, "text"),
        ] {
            assert_eq!(parse(text).unwrap_err().field(), Some(field), "{text}");
        }
    }

    #[test]
    fn a_message_travels_flat() {
        let message = Message {
            conversation: "0192f0c8-0000-7000-8000-000000000000".parse().unwrap(),
            seq: Seq(7),
            sender: UserId::new("alice").unwrap(),
            client_id: "0192f0c8-0000-7000-8000-000000000001".parse().unwrap(),
            at_ms: 5,
            content: crate::chat::Content::Text("hi".into()),
        };
        let frame = ServerFrame::Message(Arc::new(message));
        let json = frame.to_json();
        assert_eq!(
            json,
            r#"{"type":"message","conversation":"0192f0c8-0000-7000-8000-000000000000","seq":7,"sender":"alice","client_id":"0192f0c8-0000-7000-8000-000000000001","at_ms":5,"text":"hi"}"#
        );
        assert_eq!(serde_json::from_str::<ServerFrame>(&json).unwrap(), frame);
    }
}
