//! Every bound, and what breaks when it is reached. Most are Amazon SQS's documented quotas, so
//! that what works here works there; the last block is ours.

/// Seconds as the milliseconds the core counts in.
pub const fn seconds(count: u64) -> u64 {
    count * 1_000
}

/// Largest message: body, attribute names, types and values. Also the largest batch.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The least that a queue's own limit can be set to.
pub const MESSAGE_BYTES_MAX_LEAST: usize = 1024;
/// Entries in one batch, and messages in one receive.
pub const BATCH_MAX: usize = 10;
/// Attributes of one message.
pub const MESSAGE_ATTRIBUTES_MAX: usize = 10;
/// Longest queue name, `.fifo` included.
pub const QUEUE_NAME_MAX: usize = 80;
/// Longest batch entry id.
pub const BATCH_ENTRY_ID_MAX: usize = 80;
/// Longest group id, deduplication id and attempt id.
pub const ID_MAX: usize = 128;
/// Longest attribute name and data type.
pub const ATTRIBUTE_NAME_MAX: usize = 256;
/// Tags of one queue.
pub const TAGS_MAX: usize = 50;
/// Queues that may name one queue in its redrive allow policy.
pub const REDRIVE_SOURCES_MAX: usize = 10;

/// Longest delay before a message is delivered first: 15 minutes.
pub const DELAY_MAX_MS: u64 = seconds(900);
/// Longest time a message stays hidden by one lease, extensions included: 12 hours.
pub const VISIBILITY_MAX_MS: u64 = seconds(43_200);
/// Shortest retention: one minute.
pub const RETENTION_MIN_MS: u64 = seconds(60);
/// Longest retention: 14 days.
pub const RETENTION_MAX_MS: u64 = seconds(1_209_600);
/// Longest long poll.
pub const WAIT_MAX_MS: u64 = seconds(20);
/// How long a deduplication id, and a receive attempt id, is remembered.
pub const DEDUP_WINDOW_MS: u64 = seconds(300);
/// Shortest time between two purges of a queue.
pub const PURGE_INTERVAL_MS: u64 = seconds(60);
/// Messages of one queue in consumers' hands. Above it a standard queue refuses to receive
/// (`OverLimit`), a FIFO queue delivers nothing.
pub const IN_FLIGHT_MAX: usize = 120_000;
/// Most receives before a message is given up.
pub const MAX_RECEIVES_MAX: u32 = 1_000;

/// Queues in one store. Above it CreateQueue is refused: a queue costs memory that never expires.
pub const QUEUES_MAX: usize = 100_000;
/// Messages in one queue. Above it sends are refused with a retryable error: without a bound, a
/// fleet of dead consumers would turn into a dead broker.
pub const QUEUE_MESSAGES_MAX: usize = 20_000_000;
/// Bytes of content in one queue; the same bound for large messages.
pub const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024 * 1024;
/// Deduplication ids remembered by one queue: ten times what SQS lets through in five minutes at
/// its high-throughput limit would be no less. Above it sends are refused with a retryable error.
pub const DEDUP_IDS_MAX: usize = 10_000_000;
/// Receive attempt ids remembered by one queue; the oldest is forgotten first, which turns a
/// replay into an ordinary receive.
pub const ATTEMPTS_MAX: usize = 100_000;
/// Messages that expire or come due in one operation. What is left is done by the next: without
/// it, a million messages that expire together would stop the queue for everybody.
pub const SETTLE_PER_OPERATION: usize = 4_096;
/// Dead letters moved by one receive, for the same reason.
pub const DEAD_PER_RECEIVE: usize = 256;
/// Messages in one answer of `peek`.
pub const PEEK_MAX: usize = 1_000;
/// Messages moved by one step of a transfer.
pub const TRANSFER_MAX: usize = 500;
