//! In process: for one server, and for several in one test. A publish is a function call.

use parking_lot::RwLock;

use super::{Bus, Event, Listener, Signal};
use crate::chat::Error;

/// The bus of one process.
#[derive(Default)]
pub struct Local {
    listeners: RwLock<Vec<Listener>>,
}

impl Bus for Local {
    async fn publish(&self, event: Event) -> Result<(), Error> {
        // Not under the lock: a listener that attaches another one would wait for itself.
        let listeners = self.listeners.read().clone();
        if let Some((last, others)) = listeners.split_last() {
            for listener in others {
                listener(Signal::Event(event.clone()));
            }
            last(Signal::Event(event));
        }
        Ok(())
    }

    async fn attach(&self, listener: Listener) -> Result<(), Error> {
        self.listeners.write().push(listener);
        Ok(())
    }
}
