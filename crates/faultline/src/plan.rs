//! All faults that are set at one moment, in the form that connections read.

use std::time::Duration;

use crate::fault::{Direction, Fault, ScopedFault};

/// What one direction is put through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Conditions {
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    pub(crate) bytes_per_second: Option<u64>,
    pub(crate) slice_bytes_max: Option<u64>,
    pub(crate) reset_after_bytes: Option<u64>,
    pub(crate) partition: bool,
    pub(crate) blackhole: bool,
}

/// What every connection is put through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    pub(crate) up: Conditions,
    pub(crate) down: Conditions,
    pub(crate) cut: bool,
    pub(crate) half_open: bool,
    /// Counts how often `half-open` was set: it concerns connections that are older than that.
    pub(crate) half_open_count: u64,
}

impl Plan {
    pub(crate) fn set(&mut self, ScopedFault { fault, direction }: ScopedFault) {
        match fault {
            Fault::Cut => self.cut = true,
            Fault::HalfOpen => {
                self.half_open = true;
                self.half_open_count += 1;
            }
            _ => self.each(direction, |conditions| conditions.set(fault)),
        }
    }

    /// Takes a fault away, by name: its value does not matter.
    pub(crate) fn unset(&mut self, ScopedFault { fault, direction }: ScopedFault) {
        match fault {
            Fault::Cut => self.cut = false,
            Fault::HalfOpen => self.half_open = false,
            _ => self.each(direction, |conditions| conditions.unset(fault)),
        }
    }

    pub(crate) fn clear(&mut self) {
        let half_open_count = self.half_open_count;
        *self = Self { half_open_count, ..Self::default() };
    }

    /// The faults that are set, those of both directions first.
    pub(crate) fn faults(&self) -> Vec<ScopedFault> {
        let (up, down) = (self.up.faults(), self.down.faults());
        let whole = [(self.cut, Fault::Cut), (self.half_open, Fault::HalfOpen)];
        let whole = whole.into_iter().filter_map(|(is_set, fault)| is_set.then_some(fault));
        let both = up.iter().copied().filter(|fault| down.contains(fault));
        let mut faults: Vec<ScopedFault> = whole.chain(both).map(ScopedFault::from).collect();
        let only = |these: &[Fault], those: &[Fault], direction| -> Vec<ScopedFault> {
            let rest = these.iter().filter(|fault| !those.contains(fault));
            rest.map(|fault| fault.on(direction)).collect()
        };
        faults.extend(only(&up, &down, Direction::Up));
        faults.extend(only(&down, &up, Direction::Down));
        faults
    }

    fn each(&mut self, direction: Direction, change: impl Fn(&mut Conditions)) {
        if direction != Direction::Down {
            change(&mut self.up);
        }
        if direction != Direction::Up {
            change(&mut self.down);
        }
    }
}

impl Conditions {
    fn set(&mut self, fault: Fault) {
        match fault {
            Fault::Latency { delay } => self.latency = delay,
            Fault::Jitter { delay_max } => self.jitter = delay_max,
            // Zero would be a partition; the written form refuses it, a value from Rust becomes
            // the slowest line there is.
            Fault::Bandwidth { bytes_per_second } => {
                self.bytes_per_second = Some(bytes_per_second.max(1));
            }
            Fault::Slice { bytes_max } => self.slice_bytes_max = Some(bytes_max.max(1)),
            Fault::Reset { after_bytes } => self.reset_after_bytes = Some(after_bytes),
            Fault::Partition => self.partition = true,
            Fault::Blackhole => self.blackhole = true,
            Fault::HalfOpen | Fault::Cut => {}
        }
    }

    fn unset(&mut self, fault: Fault) {
        match fault {
            Fault::Latency { .. } => self.latency = Duration::ZERO,
            Fault::Jitter { .. } => self.jitter = Duration::ZERO,
            Fault::Bandwidth { .. } => self.bytes_per_second = None,
            Fault::Slice { .. } => self.slice_bytes_max = None,
            Fault::Reset { .. } => self.reset_after_bytes = None,
            Fault::Partition => self.partition = false,
            Fault::Blackhole => self.blackhole = false,
            Fault::HalfOpen | Fault::Cut => {}
        }
    }

    fn faults(&self) -> Vec<Fault> {
        let latency = Fault::Latency { delay: self.latency };
        let jitter = Fault::Jitter { delay_max: self.jitter };
        [
            (!self.latency.is_zero()).then_some(latency),
            (!self.jitter.is_zero()).then_some(jitter),
            self.bytes_per_second.map(|bytes_per_second| Fault::Bandwidth { bytes_per_second }),
            self.slice_bytes_max.map(|bytes_max| Fault::Slice { bytes_max }),
            self.reset_after_bytes.map(|after_bytes| Fault::Reset { after_bytes }),
            self.partition.then_some(Fault::Partition),
            self.blackhole.then_some(Fault::Blackhole),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_listed_and_what_is_unset_is_not() {
        let mut plan = Plan::default();
        for example in Fault::EXAMPLES {
            let fault: Fault = example.parse().unwrap();
            for direction in [Direction::Up, Direction::Down, Direction::Both] {
                plan.set(fault.on(direction));
                assert_eq!(plan.faults(), [fault.on(direction)], "{example}");
                plan.unset(fault.on(direction));
                assert_eq!(plan.faults(), [], "{example}");
            }
        }
        for example in Fault::EXAMPLES {
            plan.set(example.parse::<ScopedFault>().unwrap());
        }
        assert_eq!(plan.faults().len(), Fault::EXAMPLES.len());
        plan.clear();
        assert_eq!(plan.faults(), []);
    }
}
