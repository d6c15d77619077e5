//! What a server process uses while it is loaded: the figure that a slow generator cannot hide.

use serde::{Deserialize, Serialize};

/// The kernel's unit of processor time in `/proc`, 10 ms: fixed for user space on every Linux.
const TICK_US: f64 = 10_000.0;

/// A server process, watched from outside.
#[derive(Debug, Clone, Copy)]
pub struct ServerProcess(pub u32);

/// What it used during a run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ServerUse {
    /// Processor time for each completed request, user and system, in microseconds.
    pub cpu_us: f64,
    /// Memory in RAM at the end, in bytes.
    pub resident_bytes: u64,
}

impl ServerProcess {
    /// Processor time since its start, in microseconds; `None` where there is no `/proc`.
    pub fn cpu_us(self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // The name is in brackets and may hold spaces; user and system time are the 12th and 13th
        // field after it.
        let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        Some((ticks(11)? + ticks(12)?) * TICK_US)
    }

    /// Memory in RAM, in bytes.
    pub fn resident_bytes(self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_time_and_memory() {
        let me = ServerProcess(std::process::id());
        let before = me.cpu_us().expect("there is /proc");
        let mut sum = 0_u64;
        while me.cpu_us().expect("there is /proc") < before + 2.0 * TICK_US {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(me.resident_bytes().expect("there is /proc") > 1024 * 1024);
    }
}
