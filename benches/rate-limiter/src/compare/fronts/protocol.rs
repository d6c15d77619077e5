//! Requests and replies as bytes, as far as a generator needs them.

/// What a generator says on a connection, and how it knows that it was answered with a yes.
pub(super) trait Protocol: Send {
    /// What is said first.
    fn greet(&mut self, _output: &mut Vec<u8>) {}

    /// A check of one token of a caller.
    fn request(&mut self, caller: &str, output: &mut Vec<u8>);

    /// How many bytes of `input` are whole replies, and how many replies they are. What the
    /// protocol wants said in return goes before the next request.
    ///
    /// # Errors
    /// When one of them is not a yes.
    fn replies(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(usize, usize), String>;
}

fn refused(reply: &[u8]) -> String {
    format!("not a yes: {:?}", String::from_utf8_lossy(&reply[..reply.len().min(200)]))
}

/// Replies in RESP that are `lines` long and begin with `yes`.
fn lines(input: &[u8], lines: usize, yes: &[u8]) -> Result<(usize, usize), String> {
    let (mut done, mut replies, mut seen) = (0, 0, 0);
    for (at, _) in input.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        seen += 1;
        let reply = &input[done..=at];
        if seen == 1 && reply.starts_with(b"-") {
            return Err(refused(reply));
        }
        if seen == lines {
            if !reply.starts_with(yes) {
                return Err(refused(reply));
            }
            (done, replies, seen) = (at + 1, replies + 1, 0);
        }
    }
    Ok((done, replies))
}

fn command(arguments: &[&str], output: &mut Vec<u8>) {
    output.extend(format!("*{}\r\n", arguments.len()).into_bytes());
    for argument in arguments {
        output.extend(format!("${}\r\n", argument.len()).into_bytes());
        output.extend(argument.as_bytes());
        output.extend(b"\r\n");
    }
}

/// Redis counting: the least that can be done about a request in Redis.
pub(super) struct Incr;

impl Protocol for Incr {
    fn request(&mut self, caller: &str, output: &mut Vec<u8>) {
        command(&["INCR", caller], output);
    }

    fn replies(&mut self, input: &[u8], _: &mut Vec<u8>) -> Result<(usize, usize), String> {
        lines(input, 1, b":")
    }
}

/// Redis deciding, by the same script as our answer.
pub(super) struct Script(&'static str);

impl Script {
    pub(super) fn new(hash: &'static str) -> Self {
        Self(hash)
    }
}

impl Protocol for Script {
    fn request(&mut self, caller: &str, output: &mut Vec<u8>) {
        let limit = ["check", "1", "gcra", "1000", "1", "1000000000"];
        let [op, cost, name, a, b, most] = limit;
        let key = format!("rl:{{{caller}}}:bench");
        command(&["EVALSHA", self.0, "1", &key, op, cost, name, a, b, most], output);
    }

    fn replies(&mut self, input: &[u8], _: &mut Vec<u8>) -> Result<(usize, usize), String> {
        lines(input, 8, b"*7\r\n:0\r\n")
    }
}

/// As redis-cell and throttlecrab are asked.
pub(super) struct Throttle {
    command: &'static str,
    yes: &'static [u8],
}

impl Throttle {
    pub(super) fn ours() -> Self {
        Self { command: "CL.THROTTLE", yes: b"*5\r\n:0\r\n" }
    }

    pub(super) fn throttlecrab() -> Self {
        Self { command: "THROTTLE", yes: b"*5\r\n:1\r\n" }
    }
}

impl Protocol for Throttle {
    fn request(&mut self, caller: &str, output: &mut Vec<u8>) {
        command(&[self.command, caller, "999999999", "1000000000", "1", "1"], output);
    }

    fn replies(&mut self, input: &[u8], _: &mut Vec<u8>) -> Result<(usize, usize), String> {
        lines(input, 6, self.yes)
    }
}

/// HTTP/1.1.
pub(super) struct Http {
    path: &'static str,
    /// What follows the caller in the body.
    rest: &'static str,
    /// How the body of a yes begins.
    yes: &'static [u8],
}

impl Http {
    pub(super) fn ours() -> Self {
        Self { path: "/v1/check", rest: r#","policy":"bench"}"#, yes: b"{" }
    }

    pub(super) fn throttlecrab() -> Self {
        let rest = r#","max_burst":999999999,"count_per_period":1000000000,"period":1}"#;
        Self { path: "/throttle", rest, yes: br#"{"allowed":true"# }
    }
}

impl Protocol for Http {
    fn request(&mut self, caller: &str, output: &mut Vec<u8>) {
        let (path, body) = (self.path, format!(r#"{{"key":"{caller}"{}"#, self.rest));
        let head = "HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
        let length = body.len();
        let request = format!("POST {path} {head}\r\ncontent-length: {length}\r\n\r\n{body}");
        output.extend(request.into_bytes());
    }

    fn replies(&mut self, input: &[u8], _: &mut Vec<u8>) -> Result<(usize, usize), String> {
        let (mut done, mut replies) = (0, 0);
        loop {
            let rest = &input[done..];
            let Some(head) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { break };
            if !rest.starts_with(b"HTTP/1.1 200 ") {
                return Err(refused(rest));
            }
            let length = content_length(&rest[..head]).ok_or_else(|| refused(rest))?;
            let end = head + 4 + length;
            if rest.len() < end {
                break;
            }
            if !rest[head + 4..end].starts_with(self.yes) {
                return Err(refused(rest));
            }
            (done, replies) = (done + end, replies + 1);
        }
        Ok((done, replies))
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let name = b"content-length: ";
    let at = head.windows(name.len()).position(|bytes| bytes == name)? + name.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

#[cfg(feature = "envoy")]
pub(super) use grpc::Grpc;

#[cfg(feature = "envoy")]
mod grpc {
    use super::{Protocol, refused};

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;
    const END_STREAM: u8 = 1;
    const ACK: u8 = 1;
    const END_HEADERS: u8 = 4;
    const FRAME_HEAD_BYTES: usize = 9;

    /// One method over HTTP/2, every request a stream.
    pub(in super::super) struct Grpc {
        path: &'static str,
        message: fn(caller: &str) -> Vec<u8>,
        streams: u32,
        messages: usize,
    }

    impl Grpc {
        /// As Envoy asks.
        pub(in super::super) fn ours() -> Self {
            let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
            let message = |caller: &str| {
                let entry = [sized(0x0a, b"user"), sized(0x12, caller.as_bytes())].concat();
                let descriptor = sized(0x0a, &entry);
                [sized(0x0a, b"shop"), sized(0x12, &descriptor)].concat()
            };
            Self { path, message, streams: 0, messages: 0 }
        }

        pub(in super::super) fn throttlecrab() -> Self {
            // max_burst 999,999,999, count_per_period 1,000,000,000, period 1, quantity 1
            const LIMIT: &[u8] =
                b"\x10\xff\x93\xeb\xdc\x03\x18\x80\x94\xeb\xdc\x03\x20\x01\x28\x01";
            let message = |caller: &str| [&sized(0x0a, caller.as_bytes()), LIMIT].concat();
            let path = "/throttlecrab.RateLimiter/Throttle";
            Self { path, message, streams: 0, messages: 0 }
        }
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], output: &mut Vec<u8>) {
        output.extend(&(payload.len() as u32).to_be_bytes()[1..]);
        output.extend([kind, flags]);
        output.extend(stream.to_be_bytes());
        output.extend(payload);
    }

    /// The header fields, none of them kept in the table of the connection.
    fn fields(path: &str) -> Vec<u8> {
        let mut block = vec![0x83, 0x86]; // :method POST, :scheme http
        let mut field = |name: &[u8], value: &str| {
            block.extend(name);
            block.push(value.len() as u8);
            block.extend(value.as_bytes());
        };
        field(&[0x04], path);
        field(&[0x01], "x"); // :authority
        field(&[0x0f, 0x10], "application/grpc"); // content-type
        field(b"\0\x02te", "trailers");
        block
    }

    /// A field of a message that has a length.
    fn sized(tag: u8, value: &[u8]) -> Vec<u8> {
        [&[tag, value.len() as u8], value].concat()
    }

    impl Protocol for Grpc {
        fn greet(&mut self, output: &mut Vec<u8>) {
            output.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            frame(SETTINGS, 0, 0, &[], output);
            // A gigabyte of replies before the server would wait for us: a run is far less.
            frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes(), output);
        }

        fn request(&mut self, caller: &str, output: &mut Vec<u8>) {
            let message = (self.message)(caller);
            let prefix = [0, 0, 0, 0, message.len() as u8];
            let stream = 2 * self.streams + 1;
            self.streams += 1;
            frame(HEADERS, END_HEADERS, stream, &fields(self.path), output);
            frame(DATA, END_STREAM, stream, &[&prefix[..], &message].concat(), output);
        }

        fn replies(
            &mut self,
            input: &[u8],
            output: &mut Vec<u8>,
        ) -> Result<(usize, usize), String> {
            let (mut done, mut replies) = (0, 0);
            while let Some((head, rest)) = input[done..].split_at_checked(FRAME_HEAD_BYTES) {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let Some(payload) = rest.get(..length) else { break };
                done += FRAME_HEAD_BYTES + length;
                match (head[3], head[4]) {
                    // The prefix, and the first field: overall_code OK, or allowed true.
                    (DATA, _) if payload.get(5..7) == Some(&[0x08, 0x01]) => self.messages += 1,
                    (DATA, _) if payload.is_empty() => {}
                    (HEADERS, flags) if flags & END_STREAM == 0 => {}
                    // The trailers; a failure has them and no message.
                    (HEADERS, _) if self.messages > 0 => {
                        (self.messages, replies) = (self.messages - 1, replies + 1);
                    }
                    (SETTINGS | PING, flags) if flags & ACK == 0 => {
                        let pong = if head[3] == PING { payload } else { &[] };
                        frame(head[3], ACK, 0, pong, output);
                    }
                    (SETTINGS | PING | WINDOW_UPDATE, _) => {}
                    _ => return Err(refused(&input[done - FRAME_HEAD_BYTES - length..])),
                }
            }
            Ok((done, replies))
        }
    }
}
