//! Your URL shortener: the codes, and the store behind them.
//!
//! Start with `traits` and `draw` of `MyCodes`; then `create` and `get`. The contracts are
//! `url-shortener/src/codes/mod.rs` and `url-shortener/src/link.rs`; `cargo run --release -- grade
//! url-shortener` says how far you are.
#![allow(clippy::todo, missing_docs, unused_variables, reason = "the bodies are yours to fill in")]

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use url_shortener::clicks::{ClickBatch, ClickLog, Day, DayTally};
use url_shortener::codes::{Codes, Draw, Sequences, Traits};
use url_shortener::keys::{KeyRecord, Keys};
use url_shortener::link::{
    Change, Created, Creation, Entry, Link, LinkId, Listing, OwnedEntry, Owner, Version,
};
use url_shortener::{Code, Error, Links};

/// Makes codes. Eight processes with a generator each run over one store.
pub struct MyCodes {
    store: Arc<MyLinks>,
}

impl MyCodes {
    /// A process that starts, or starts again.
    pub fn new(store: Arc<MyLinks>) -> Self {
        Self { store }
    }
}

impl Codes for MyCodes {
    fn traits(&self) -> Traits {
        todo!("what you promise: you are graded by it")
    }

    async fn draw(&self, draw: Draw<'_>) -> Result<Code, Error> {
        let store = &self.store;
        todo!("a counter, randomness or a hash: what happens when the code is taken?")
    }
}

/// Everything a shortener keeps.
///
/// Ask yourself what two servers that create the same alias at the same moment see.
#[derive(Default)]
pub struct MyLinks {
    /// Yours to change.
    pub links: Mutex<HashMap<Code, Link>>,
}

impl Links for MyLinks {
    async fn create(&self, batch: Vec<Creation>) -> Result<Vec<Result<Created, Error>>, Error> {
        todo!("each row by itself; a repeated request gets the reply of the first")
    }

    async fn get(&self, owner: &Owner, code: &Code) -> Result<Link, Error> {
        todo!("the link, if this owner has it")
    }

    async fn update(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Link, Error> {
        todo!("change it if nobody else did since")
    }

    async fn delete(
        &self,
        owner: &Owner,
        code: &Code,
        expected: Option<Version>,
    ) -> Result<Link, Error> {
        todo!("for good; the code stays taken")
    }

    async fn list(&self, owner: &Owner, listing: &Listing) -> Result<Vec<Link>, Error> {
        todo!("newest first, by page")
    }

    async fn visit(&self, code: &Code, peek: bool) -> Result<Option<u32>, Error> {
        todo!("charge one visit of a limited link, exactly")
    }

    async fn load(&self, each: impl FnMut(Entry<'_>) + Send + 'static) -> Result<(), Error> {
        todo!("every link, to fill an index")
    }

    async fn look_up(&self, code: &Code) -> Result<Option<OwnedEntry>, Error> {
        todo!("one link as the index sees it")
    }

    async fn housekeep(&self, now_ms: u64) -> Result<(), Error> {
        todo!("forget replies that are a day old")
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Sequences for MyLinks {
    async fn lease(&self, sequence: &'static str, count: u64) -> Result<Range<u64>, Error> {
        todo!("the next numbers, which nobody else ever gets")
    }

    async fn secret(&self) -> Result<[u8; 32], Error> {
        todo!("drawn once, the same for ever")
    }
}

impl ClickLog for MyLinks {
    async fn add_clicks(&self, batch: Arc<ClickBatch>) -> Result<(), Error> {
        todo!("add the batch, once, however often it is sent")
    }

    async fn clicks(&self, link: LinkId) -> Result<Vec<(Day, DayTally)>, Error> {
        todo!("what was added, by day")
    }
}

impl Keys for MyLinks {
    async fn add_key(&self, key: KeyRecord) -> Result<(), Error> {
        todo!("an API key; only its hash comes here")
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>, Error> {
        todo!("all of them")
    }

    async fn revoke_key(&self, id: &str) -> Result<bool, Error> {
        todo!("whether there was one")
    }
}
