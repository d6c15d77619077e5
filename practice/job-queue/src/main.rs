//! Grades `src/lib.rs`; nothing here is yours to write.

use std::process::ExitCode;

use job_queue::clock::Clock;
use job_queue::conformance::{EPOCH_MS, Fixture, promises};
use practice_job_queue::MyQueues;

pub(crate) fn main() -> ExitCode {
    let compare = || bench_job_queue::beside_ours(MyQueues::new);
    testkit::grader::main("job-queue", promises, || async { Mine::new() }, compare)
}

struct Mine {
    queues: MyQueues,
    clock: Clock,
}

impl Mine {
    fn new() -> Self {
        let clock = Clock::manual(EPOCH_MS);
        Self { queues: MyQueues::new(clock.clone()), clock }
    }
}

impl Fixture for Mine {
    type Queues = MyQueues;

    fn queues(&self) -> &MyQueues {
        &self.queues
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}
