//! The locks and atomics the concurrent caches use, in one place, so that the model checker can
//! replace them: `tests/model.rs` compiles the same source files against a module of this name whose
//! locks and atomics try every interleaving.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
};

pub(crate) use std::sync::atomic::{AtomicU8, Ordering};

pub(crate) use parking_lot::{Mutex, RwLock};

/// Runs a future on this thread, which sleeps while the future waits.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // A wake-up between the poll and here is remembered: `park` returns at once.
            Poll::Pending => std::thread::park(),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
