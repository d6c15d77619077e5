//! Published request traces, in the formats they are published in.
//!
//! | format | one request is |
//! |---|---|
//! | `lirs` | a line with one decimal key; empty lines and `*` are separators |
//! | `arc` | a line `start count ignored number`, which asks for `count` keys from `start` on |
//! | `i64be`, `i32be` | one big-endian integer |
//! | `oracle` | 24 bytes, little-endian: u32 time, u64 key, u32 size, i64 next access (libCacheSim) |
//!
//! Files may be compressed with gzip, xz or zstd, which their first bytes tell. A record that cannot
//! be read is an error with its number, never skipped: a trace that is silently a little different
//! gives hit counts that are silently a little wrong.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

/// One request. The simulator asks for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub key: u64,
    /// How large it is, one if the trace does not say.
    pub size_bytes: u32,
}

/// More requests than this are refused, because a trace is held in memory (16 bytes a request).
pub const REQUESTS_MAX: usize = 400_000_000;

/// A text line longer than this is no trace, and reading on would fill the memory.
const LINE_BYTES_MAX: u64 = 4096;

/// How many bytes are looked at to guess a format.
const SNIFF_BYTES: usize = 6 * 1024;

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Format {
    /// Guess from the first bytes.
    Auto,
    /// One decimal key per line.
    Lirs,
    /// `start count ignored number` per line.
    Arc,
    /// Big-endian 64-bit integers.
    I64be,
    /// Big-endian 32-bit integers.
    I32be,
    /// libCacheSim's oracleGeneral.
    Oracle,
}

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened, read or unpacked.
    #[error("cannot read the trace after {requests} requests")]
    Unreadable {
        /// How far it went.
        requests: usize,
        /// What the system or the decompressor said.
        source: io::Error,
    },
    /// A record is not what the format says.
    #[error("{unit} {number} is malformed: {what}")]
    Malformed {
        /// `line` or `record`.
        unit: &'static str,
        /// Counted from one.
        number: usize,
        /// What is wrong with it.
        what: String,
    },
    /// More requests than the reader holds.
    #[error("{unit} {number} goes beyond {most} requests, the most that are held here")]
    TooLong {
        /// How many may be.
        most: usize,
        /// `line` or `record`.
        unit: &'static str,
        /// Counted from one.
        number: usize,
    },
}

/// Reads a whole trace file.
///
/// # Errors
/// See [`Error`].
pub fn read(path: &Path, format: Format) -> Result<Vec<Request>, Error> {
    let unreadable = |source| Error::Unreadable { requests: 0, source };
    let file = File::open(path).map_err(unreadable)?;
    parse(unpacked(BufReader::new(file)).map_err(unreadable)?, format)
}

/// Undoes the compression that the first bytes announce.
fn unpacked(mut file: impl BufRead + 'static) -> io::Result<Box<dyn Read>> {
    let start = file.fill_buf()?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(file)));
    }
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(file).map_err(io::Error::other)?;
        return Ok(Box::new(decoder));
    }
    if start.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        // Trade-off: this decoder only works in one go, so an xz file is unpacked in memory.
        let mut whole = Vec::new();
        lzma_rs::xz_decompress(&mut file, &mut whole)
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
        return Ok(Box::new(io::Cursor::new(whole)));
    }
    Ok(Box::new(file))
}

/// Reads a trace from unpacked bytes.
///
/// # Errors
/// See [`Error`].
pub fn parse(bytes: impl Read, format: Format) -> Result<Vec<Request>, Error> {
    parse_at_most(bytes, format, REQUESTS_MAX)
}

/// As [`parse`], for bytes that somebody sent: one line of a trace can ask for any number of requests.
///
/// # Errors
/// See [`Error`].
pub fn parse_at_most(bytes: impl Read, format: Format, most: usize) -> Result<Vec<Request>, Error> {
    let mut reader = BufReader::with_capacity(1 << 16, bytes);
    let mut start = Vec::with_capacity(SNIFF_BYTES);
    reader
        .by_ref()
        .take(SNIFF_BYTES as u64)
        .read_to_end(&mut start)
        .map_err(|source| Error::Unreadable { requests: 0, source })?;
    let format = if format == Format::Auto { guess(&start) } else { format };
    let reader = io::Cursor::new(start).chain(reader);
    match format {
        Format::Lirs => lines(reader, most, lirs_line),
        Format::Arc => lines(reader, most, arc_line),
        Format::I64be => records(reader, most, |bytes: [u8; 8]| one(u64::from_be_bytes(bytes))),
        Format::I32be => {
            records(reader, most, |bytes: [u8; 4]| one(u32::from_be_bytes(bytes).into()))
        }
        Format::Oracle => records(reader, most, oracle_record),
        Format::Auto => unreachable!("guess names a format"),
    }
}

fn one(key: u64) -> Request {
    Request { key, size_bytes: 1 }
}

fn oracle_record(bytes: [u8; 24]) -> Request {
    let [_, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l, ..] = bytes;
    Request {
        key: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        size_bytes: u32::from_le_bytes([i, j, k, l]),
    }
}

/// Fixed-size records up to the end. A rest that is too short is an error.
fn records<const N: usize>(
    mut reader: impl Read,
    most: usize,
    decode: impl Fn([u8; N]) -> Request,
) -> Result<Vec<Request>, Error> {
    let mut requests = Vec::new();
    loop {
        let mut record = [0; N];
        let filled = fill(&mut reader, &mut record)
            .map_err(|source| Error::Unreadable { requests: requests.len(), source })?;
        let number = requests.len() + 1;
        match filled {
            0 => return Ok(requests),
            _ if filled == N => requests.push(decode(record)),
            _ => {
                let what = format!("{filled} bytes where a record has {N}");
                return Err(Error::Malformed { unit: "record", number, what });
            }
        }
        if requests.len() > most {
            return Err(Error::TooLong { unit: "record", number, most });
        }
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Keys `first..first + count` that one line asks for.
type Span = (u64, u64);

fn lines(
    mut reader: impl BufRead,
    most: usize,
    decode: impl Fn(&str) -> Result<Option<Span>, String>,
) -> Result<Vec<Request>, Error> {
    let (mut requests, mut line) = (Vec::new(), String::new());
    for number in 1.. {
        let malformed = |what| Error::Malformed { unit: "line", number, what };
        line.clear();
        match reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line) {
            Ok(0) => break,
            Ok(read) if read as u64 == LINE_BYTES_MAX => {
                return Err(malformed(format!("longer than {LINE_BYTES_MAX} bytes")));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(malformed("not text".into()));
            }
            Err(source) => return Err(Error::Unreadable { requests: requests.len(), source }),
        }
        if let Some((first, count)) = decode(line.trim()).map_err(malformed)? {
            if count > (most - requests.len()) as u64 {
                return Err(Error::TooLong { unit: "line", number, most });
            }
            let beyond = first
                .checked_add(count)
                .ok_or_else(|| malformed("the keys do not fit 64 bits".into()))?;
            requests.extend((first..beyond).map(one));
        }
    }
    Ok(requests)
}

fn lirs_line(line: &str) -> Result<Option<Span>, String> {
    match line {
        "" | "*" => Ok(None),
        key => Ok(Some((number(key)?, 1))),
    }
}

fn arc_line(line: &str) -> Result<Option<Span>, String> {
    if line.is_empty() {
        return Ok(None);
    }
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [start, count, _, _] = fields[..] else {
        return Err(format!("{} fields where `start count ignored number` is four", fields.len()));
    };
    Ok(Some((number(start)?, number(count)?)))
}

fn number(field: &str) -> Result<u64, String> {
    field.parse().map_err(|_| format!("{field:?} is not a decimal number"))
}

/// The format that the first bytes look like. Binary formats have no mark, so this is a guess; name
/// the format when it matters.
fn guess(start: &[u8]) -> Format {
    let text = start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    if text {
        let first_line = start.split(|&byte| byte == b'\n').find(|line| !line.is_empty());
        let fields = first_line.unwrap_or_default().split(u8::is_ascii_whitespace);
        let fields = fields.filter(|field| !field.is_empty()).count();
        return if fields > 1 { Format::Arc } else { Format::Lirs };
    }
    if looks_like_oracle(start) {
        return Format::Oracle;
    }
    // 32-bit identifiers are small numbers in every word. In a 64-bit trace of small numbers every
    // other word is zero, and in one of hashes the words are large.
    let words: Vec<u32> =
        start.as_chunks().0.iter().map(|&bytes| u32::from_be_bytes(bytes)).collect();
    let small = words.iter().all(|&word| word < 1 << 24);
    let high_halves_are_zero = words.iter().step_by(2).all(|&word| word == 0);
    if small && !high_halves_are_zero { Format::I32be } else { Format::I64be }
}

/// Times never go back, and the next access is later than this record or never.
fn looks_like_oracle(start: &[u8]) -> bool {
    let (records, _) = start.as_chunks::<24>();
    let time = |record: &[u8; 24]| {
        let [a, b, c, d, ..] = *record;
        u32::from_le_bytes([a, b, c, d])
    };
    let next = |record: &[u8; 24]| {
        let [.., a, b, c, d, e, f, g, h] = *record;
        i64::from_le_bytes([a, b, c, d, e, f, g, h])
    };
    let next_is_later = |(at, record): (usize, &[u8; 24])| {
        let next = next(record);
        next == -1 || next == i64::MAX || (next > at as i64 && next < 1 << 40)
    };
    !records.is_empty()
        && records.is_sorted_by_key(time)
        && records.iter().enumerate().all(next_is_later)
}

#[cfg(test)]
mod tests {
    use super::{Format, parse};

    fn keys(bytes: &[u8], format: Format) -> Vec<u64> {
        parse(bytes, format).unwrap().iter().map(|request| request.key).collect()
    }

    fn complaint(bytes: &[u8], format: Format) -> String {
        parse(bytes, format).unwrap_err().to_string()
    }

    #[test]
    fn every_format_is_read_and_guessed() {
        let mut oracle = Vec::new();
        for (time, key) in [(7u32, 5u64), (8, 6)] {
            oracle.extend(time.to_le_bytes());
            oracle.extend(key.to_le_bytes());
            oracle.extend(512u32.to_le_bytes());
            oracle.extend((-1i64).to_le_bytes());
        }
        let i64be: Vec<u8> = [1u64 << 60, 2, 3].iter().flat_map(|key| key.to_be_bytes()).collect();
        let i32be: Vec<u8> = [1u32, 2, 3].iter().flat_map(|key| key.to_be_bytes()).collect();
        let cases: [(Format, &[u8], &[u64]); 5] = [
            (Format::Lirs, b"1\n\n*\n2\r\n3", &[1, 2, 3]),
            (Format::Arc, b"5 3 0 0\n9 1 0 1\n", &[5, 6, 7, 9]),
            (Format::I64be, &i64be, &[1 << 60, 2, 3]),
            (Format::I32be, &i32be, &[1, 2, 3]),
            (Format::Oracle, &oracle, &[5, 6]),
        ];
        for (format, bytes, expected) in cases {
            assert_eq!(keys(bytes, format), expected, "{format:?}");
            assert_eq!(keys(bytes, Format::Auto), expected, "{format:?} guessed");
        }
        assert_eq!(parse(&oracle[..], Format::Oracle).unwrap()[0].size_bytes, 512);
    }

    #[test]
    fn a_malformed_record_is_an_error_with_its_number() {
        let text = complaint(b"1\n2\nx3\n", Format::Lirs);
        assert_eq!(text, "line 3 is malformed: \"x3\" is not a decimal number");
        let text = complaint(b"1 1 0 0\n2 1\n", Format::Arc);
        assert!(text.starts_with("line 2 is malformed: 2 fields"), "{text}");
        let text = complaint(&[0; 17], Format::I64be);
        assert_eq!(text, "record 3 is malformed: 1 bytes where a record has 8");
        let text = complaint(b"1 999999999999 0 0\n", Format::Arc);
        assert!(text.starts_with("line 1 goes beyond"), "{text}");
        let text = complaint(b"18446744073709551615 2 0 0\n", Format::Arc);
        assert_eq!(text, "line 1 is malformed: the keys do not fit 64 bits");
        let text = complaint(b"1\n\xff\xfe\n", Format::Lirs);
        assert_eq!(text, "line 2 is malformed: not text");
        let text = complaint(&[b'1'; 5000], Format::Lirs);
        assert_eq!(text, "line 1 is malformed: longer than 4096 bytes");
    }
}
