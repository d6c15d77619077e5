//! How far apart two cores are. A virtual machine's cores may share a cache in one second and not in
//! the next, as its host moves them; whatever is handed from thread to thread is then several times
//! slower, and nothing else shows why.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Messages there and back: enough that waking the other thread does not count.
const TURNS: u64 = 4_000;
/// A busy machine may not run both threads at once; then nothing is known.
const PATIENCE: Duration = Duration::from_millis(100);

/// Nanoseconds that a message between two threads takes, there and back; the fastest of a few
/// tries. `None` when the threads did not run at the same time. Takes a few milliseconds.
pub fn there_and_back_ns() -> Option<u64> {
    (0..3).filter_map(|_| one_try()).min()
}

fn one_try() -> Option<u64> {
    let turn = AtomicU64::new(0);
    let until = Instant::now() + PATIENCE;
    let awaits = |number| {
        (1_u64..).find_map(|looks| {
            if turn.load(Ordering::Acquire) == number {
                return Some(true);
            }
            std::hint::spin_loop();
            (looks % 1_024 == 0 && Instant::now() > until).then_some(false)
        })
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..TURNS {
                if awaits(2 * number + 1) != Some(true) {
                    return;
                }
                turn.store(2 * number + 2, Ordering::Release);
            }
        });
        // The other is there once it has answered.
        let mut began = Instant::now();
        for number in 0..TURNS {
            turn.store(2 * number + 1, Ordering::Release);
            if awaits(2 * number + 2) != Some(true) {
                return None;
            }
            if number == 0 {
                began = Instant::now();
            }
        }
        Some(began.elapsed().as_nanos() as u64 / (TURNS - 1))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_message_takes_more_than_an_instruction_and_less_than_a_system_call_would() {
        // Where the threads never ran at once, nothing is claimed.
        if let Some(ns) = super::there_and_back_ns() {
            assert!((5..1_000_000).contains(&ns), "{ns} ns");
        }
    }
}
