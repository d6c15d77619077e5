//! What one direction of one connection does to its bytes: a pure state machine.
//!
//! A lane takes pieces of bytes with the time they arrived at, and gives them back with the
//! moment they may leave. It has no socket, no clock and no task, so its tests run on invented
//! time, and the same seed always gives the same delays and cuts.
//!
//! Deadlines are computed when they are asked for, from the conditions of that moment: clearing a
//! latency frees what is already waiting. Invariants: bytes leave in the order they came, none is
//! made up, and none is missing unless a blackhole swallowed it, after which the connection can
//! only be reset.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::plan::Conditions;

/// What a lane holds at most. It stops reading then, as a TCP window does. Reached, it limits a
/// connection under latency to this much per delay: 20 MiB/s at 50 ms.
pub(crate) const BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// What an arrival costs beside its bytes. Without counting it, a sender of single bytes would
/// make the queue fifty times larger than its limit.
const ARRIVAL_BYTES: usize = size_of::<Arrival>();
/// The time between two slices: long enough for a reader to see them apart.
const SLICE_GAP: Duration = Duration::from_millis(1);
/// Under a bandwidth limit, bytes leave in pieces worth this fraction of a second.
const PIECES_PER_SECOND: u64 = 100;

/// One direction of one connection.
pub(crate) struct Lane {
    queue: VecDeque<Arrival>,
    queued_bytes: usize,
    /// When the line is done with the last piece, under a bandwidth limit or slicing.
    free_at: Option<Instant>,
    /// How many bytes may still pass before the reset, while one is set.
    until_reset: Option<u64>,
    /// True after a blackhole took bytes: the stream has a hole.
    has_lost_bytes: bool,
    random: fastrand::Rng,
}

struct Arrival {
    at: Instant,
    /// Where in the jitter this arrival falls, from 0 to 1.
    luck: f64,
    payload: Payload,
}

/// What arrived.
enum Payload {
    Bytes(Bytes),
    /// The sender is done (FIN).
    End,
    /// The sender reset the connection (RST), which travels like everything else.
    Reset,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Deliver this, then ask again.
    Deliver(Bytes),
    /// Tell the receiver that the sender is done. There is nothing after it.
    End,
    /// Reset the connection.
    Reset,
    /// Ask again at this time, or when something arrives or changes.
    WaitUntil(Instant),
    /// Ask again when something arrives or changes.
    Wait,
}

impl Lane {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            queued_bytes: 0,
            free_at: None,
            until_reset: None,
            has_lost_bytes: false,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// How many more bytes the lane takes.
    pub(crate) fn room(&self) -> usize {
        BUFFER_BYTES_MAX.saturating_sub(self.queued_bytes + self.queue.len() * ARRIVAL_BYTES)
    }

    /// Takes bytes that arrived `at` this time.
    pub(crate) fn push(&mut self, at: Instant, bytes: Bytes) {
        self.queued_bytes += bytes.len();
        self.arrive(at, Payload::Bytes(bytes));
    }

    /// Takes the orderly end of the stream.
    pub(crate) fn push_end(&mut self, at: Instant) {
        self.arrive(at, Payload::End);
    }

    /// Takes the news that the sender reset the connection.
    pub(crate) fn push_reset(&mut self, at: Instant) {
        self.arrive(at, Payload::Reset);
    }

    fn arrive(&mut self, at: Instant, payload: Payload) {
        let luck = self.random.f64();
        self.queue.push_back(Arrival { at, luck, payload });
    }

    /// Says what happens `now`.
    pub(crate) fn release(&mut self, now: Instant, conditions: &Conditions) -> Release {
        if conditions.blackhole {
            self.has_lost_bytes |= !self.queue.is_empty();
            self.queue.clear();
            self.queued_bytes = 0;
            return Release::Wait;
        }
        if self.has_lost_bytes {
            return Release::Reset;
        }
        if conditions.partition {
            return Release::Wait;
        }
        self.until_reset = conditions.reset_after_bytes.map(|set| self.until_reset.unwrap_or(set));
        let Some(head) = self.queue.front() else { return Release::Wait };
        let delay = conditions.latency + conditions.jitter.mul_f64(head.luck);
        let arrived = head.at + delay;
        let is_paced =
            conditions.bytes_per_second.is_some() || conditions.slice_bytes_max.is_some();
        let free_at = self.free_at.filter(|_| is_paced);
        let due = free_at.map_or(arrived, |free_at| arrived.max(free_at));
        if due > now {
            return Release::WaitUntil(due);
        }
        self.leave(due, conditions)
    }

    /// Takes the next piece off the head of the queue, whose time has come.
    fn leave(&mut self, due: Instant, conditions: &Conditions) -> Release {
        let head = self.queue.front_mut().expect("release has seen the head");
        let bytes = match &mut head.payload {
            Payload::Bytes(bytes) => bytes,
            Payload::End => return Release::End,
            Payload::Reset => return Release::Reset,
        };
        if self.until_reset == Some(0) {
            return Release::Reset;
        }
        let mut size = bytes.len() as u64;
        if let Some(bytes_max) = conditions.slice_bytes_max {
            size = size.min(self.random.u64(1..=bytes_max));
        }
        if let Some(rate) = conditions.bytes_per_second {
            size = size.min((rate / PIECES_PER_SECOND).max(1));
        }
        if let Some(left) = self.until_reset.as_mut() {
            size = size.min(*left);
            *left -= size;
        }
        let piece = bytes.split_to(usize::try_from(size).expect("no larger than the buffer"));
        if bytes.is_empty() {
            self.queue.pop_front();
        }
        self.queued_bytes -= piece.len();
        // Counted from the moment it was due, not from now: a late timer must not lower the rate.
        self.free_at = Some(due + pace(size, conditions));
        Release::Deliver(piece)
    }
}

/// How long the line is busy with a piece.
fn pace(size: u64, conditions: &Conditions) -> Duration {
    let gap = conditions.slice_bytes_max.map_or(Duration::ZERO, |_| SLICE_GAP);
    let sending = conditions.bytes_per_second.map_or(Duration::ZERO, |rate| {
        let nanoseconds = u128::from(size) * 1_000_000_000 / u128::from(rate);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    });
    gap.max(sending)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A lane on invented time, with what left it and when.
    struct Run {
        lane: Lane,
        start: Instant,
        left: Vec<(Duration, usize)>,
        bytes: Vec<u8>,
    }

    impl Run {
        fn new(seed: u64) -> Self {
            let start = Instant::now();
            Self { lane: Lane::new(seed), start, left: Vec::new(), bytes: Vec::new() }
        }

        fn push(&mut self, after: Duration, bytes: &[u8]) {
            self.lane.push(self.start + after, Bytes::copy_from_slice(bytes));
        }

        /// Runs from `from` until the lane has nothing more to do by itself.
        fn drain(&mut self, from: Duration, conditions: &Conditions) -> Release {
            let mut now = self.start + from;
            loop {
                match self.lane.release(now, conditions) {
                    Release::Deliver(piece) => {
                        self.left.push((now - self.start, piece.len()));
                        self.bytes.extend_from_slice(&piece);
                    }
                    Release::WaitUntil(later) => {
                        assert!(later > now, "a wait must end in the future");
                        now = later;
                    }
                    done => return done,
                }
            }
        }
    }

    #[test]
    fn without_faults_bytes_pass_at_once_and_the_end_follows() {
        let mut run = Run::new(1);
        run.push(Duration::ZERO, b"one");
        run.push(Duration::ZERO, b"two");
        run.lane.push_end(run.start);
        assert_eq!(run.drain(Duration::ZERO, &Conditions::default()), Release::End);
        assert_eq!(run.bytes, b"onetwo");
        assert_eq!(run.left, [(Duration::ZERO, 3), (Duration::ZERO, 3)]);
    }

    #[test]
    fn latency_delays_everything_alike_and_keeps_the_pipeline_full() {
        let mut run = Run::new(1);
        for piece in 0..10 {
            run.push(piece * MS, b"x");
        }
        run.drain(Duration::ZERO, &Conditions { latency: 50 * MS, ..Conditions::default() });
        let expected: Vec<_> = (0..10).map(|piece| ((50 + piece) * MS, 1)).collect();
        assert_eq!(run.left, expected);
    }

    #[test]
    fn clearing_a_latency_frees_what_was_waiting() {
        let mut run = Run::new(1);
        run.push(Duration::ZERO, b"late");
        let slow = Conditions { latency: 50 * MS, ..Conditions::default() };
        let due = run.start + 50 * MS;
        assert_eq!(run.lane.release(run.start, &slow), Release::WaitUntil(due));
        run.drain(MS, &Conditions::default());
        assert_eq!(run.left, [(MS, 4)]);
    }

    #[test]
    fn jitter_stays_in_its_bounds_keeps_the_order_and_repeats_with_its_seed() {
        let conditions = Conditions { latency: 10 * MS, jitter: 20 * MS, ..Conditions::default() };
        let times = |seed| {
            let mut run = Run::new(seed);
            for number in 0..200_u8 {
                run.push(u32::from(number) * 100 * MS, &[number]);
            }
            run.drain(Duration::ZERO, &conditions);
            assert_eq!(run.bytes, (0..200).collect::<Vec<u8>>());
            run.left
        };
        let first = times(1);
        for (number, (at, _)) in (0_u32..).zip(&first) {
            let delay = *at - number * 100 * MS;
            assert!((10 * MS..=30 * MS).contains(&delay), "piece {number} took {delay:?}");
        }
        assert_eq!(first, times(1));
        assert_ne!(first, times(2));
    }

    #[test]
    fn bandwidth_is_exact_over_time() {
        let mut run = Run::new(1);
        run.push(Duration::ZERO, &[7; 50_000]);
        run.push(Duration::ZERO, &[8; 50_000]);
        let conditions = Conditions { bytes_per_second: Some(100_000), ..Conditions::default() };
        run.drain(Duration::ZERO, &conditions);
        assert_eq!(run.bytes.len(), 100_000);
        let (last, size) = *run.left.last().unwrap();
        // The last piece leaves when all before it have been sent.
        assert_eq!(size, 1_000);
        assert_eq!(last, 990 * MS);
    }

    #[test]
    fn slices_are_small_apart_and_complete() {
        let mut run = Run::new(3);
        let message: Vec<u8> = (0..=255).collect();
        run.push(Duration::ZERO, &message);
        let conditions = Conditions { slice_bytes_max: Some(16), ..Conditions::default() };
        run.drain(Duration::ZERO, &conditions);
        assert_eq!(run.bytes, message);
        assert!(run.left.iter().all(|(_, size)| (1..=16).contains(size)));
        assert!(run.left.windows(2).all(|pair| pair[1].0 - pair[0].0 == SLICE_GAP));
    }

    #[test]
    fn a_reset_lets_exactly_so_many_bytes_pass() {
        for after_bytes in [0, 1, 5, 6] {
            let mut run = Run::new(1);
            run.push(Duration::ZERO, b"abc");
            run.push(Duration::ZERO, b"defg");
            let reset = Some(after_bytes);
            let conditions = Conditions { reset_after_bytes: reset, ..Conditions::default() };
            assert_eq!(run.drain(Duration::ZERO, &conditions), Release::Reset);
            assert_eq!(run.bytes.len() as u64, after_bytes);
        }
    }

    #[test]
    fn a_reset_counts_from_when_it_is_set() {
        let mut run = Run::new(1);
        let reset = Conditions { reset_after_bytes: Some(2), ..Conditions::default() };
        run.push(Duration::ZERO, b"before");
        run.drain(Duration::ZERO, &Conditions::default());
        run.push(Duration::ZERO, b"a");
        assert_eq!(run.drain(Duration::ZERO, &reset), Release::Wait);
        assert_eq!(run.drain(Duration::ZERO, &Conditions::default()), Release::Wait);
        run.push(Duration::ZERO, b"bcd");
        assert_eq!(run.drain(Duration::ZERO, &reset), Release::Reset);
        assert_eq!(run.bytes, b"beforeabc");
    }

    #[test]
    fn a_partition_holds_everything_and_loses_nothing() {
        let mut run = Run::new(1);
        let partition = Conditions { partition: true, ..Conditions::default() };
        run.push(Duration::ZERO, b"held");
        run.lane.push_end(run.start);
        assert_eq!(run.drain(Duration::ZERO, &partition), Release::Wait);
        assert_eq!(run.bytes, b"");
        assert_eq!(run.drain(1_000 * MS, &Conditions::default()), Release::End);
        assert_eq!(run.bytes, b"held");
    }

    #[test]
    fn the_senders_reset_travels_behind_its_bytes_and_as_slowly() {
        let mut run = Run::new(1);
        let slow = Conditions { latency: 50 * MS, ..Conditions::default() };
        run.push(Duration::ZERO, b"last words");
        run.lane.push_reset(run.start + 10 * MS);
        assert_eq!(run.drain(49 * MS, &slow), Release::Reset);
        assert_eq!(run.bytes, b"last words");
        let unheard = Conditions { partition: true, ..slow };
        assert_eq!(run.drain(100 * MS, &unheard), Release::Wait);
    }

    #[test]
    fn a_blackhole_swallows_and_breaks_only_streams_that_lost_something() {
        let blackhole = Conditions { blackhole: true, ..Conditions::default() };
        let mut loser = Run::new(1);
        loser.push(Duration::ZERO, b"lost");
        assert_eq!(loser.drain(Duration::ZERO, &blackhole), Release::Wait);
        assert_eq!(loser.lane.room(), BUFFER_BYTES_MAX);
        assert_eq!(loser.drain(MS, &Conditions::default()), Release::Reset);

        let mut lucky = Run::new(1);
        assert_eq!(lucky.drain(Duration::ZERO, &blackhole), Release::Wait);
        lucky.push(MS, b"kept");
        lucky.drain(MS, &Conditions::default());
        assert_eq!(lucky.bytes, b"kept");
    }

    #[test]
    fn the_buffer_is_bounded_and_gives_its_room_back() {
        let mut run = Run::new(1);
        let partition = Conditions { partition: true, ..Conditions::default() };
        run.push(Duration::ZERO, &vec![0; BUFFER_BYTES_MAX]);
        run.drain(Duration::ZERO, &partition);
        assert_eq!(run.lane.room(), 0);
        run.drain(Duration::ZERO, &Conditions::default());
        assert_eq!(run.lane.room(), BUFFER_BYTES_MAX);
        let mut single_bytes = 0;
        while run.lane.room() > 0 {
            run.push(Duration::ZERO, b"x");
            single_bytes += 1;
        }
        assert!(single_bytes * ARRIVAL_BYTES <= BUFFER_BYTES_MAX);
    }

    #[test]
    fn under_any_mix_of_faults_the_stream_arrives_whole_and_in_order() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut run = Run::new(seed);
            let message: Vec<u8> = (0..random.usize(1..4_000)).map(|_| random.u8(..)).collect();
            let mut clock = Duration::ZERO;
            for piece in message.chunks(random.usize(1..500)) {
                clock += random.u32(0..5) * MS;
                run.push(clock, piece);
            }
            run.lane.push_end(run.start + clock);
            while clock < Duration::from_secs(60) {
                let conditions = Conditions {
                    latency: random.u32(0..20) * MS,
                    jitter: random.u32(0..20) * MS,
                    bytes_per_second: random.bool().then(|| random.u64(1_000..1_000_000)),
                    slice_bytes_max: random.bool().then(|| random.u64(1..100)),
                    partition: random.u8(..) < 30,
                    ..Conditions::default()
                };
                if run.drain(clock, &conditions) == Release::End {
                    break;
                }
                clock += 100 * MS;
            }
            assert_eq!(run.bytes, message, "seed {seed}");
        }
    }
}
