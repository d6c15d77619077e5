//! The graders of `practice/`, as they are, on the simplest of our answers in the reader's place.
//!
//! `practice-answered <system>` prints what a reader sees whose answer keeps every promise.

use std::process::ExitCode;

// What the graders import under the names of the starters is this crate.
extern crate self as practice_chat_service;
extern crate self as practice_inventory_locking;
extern crate self as practice_job_queue;
extern crate self as practice_lru_cache;
extern crate self as practice_rate_limiter;
extern crate self as practice_url_shortener;

pub use chat_service::store::memory::Memory as MyStore;
pub use inventory_locking::answer::memory::Memory as MyInventory;
pub use job_queue::store::memory::Memory as MyQueues;
pub use lru_cache::SmallestLru as MyLru;
pub use url_shortener::store::memory::Memory as MyLinks;

mod my_codes;
pub use my_codes::MyCodes;
mod my_limiter;
pub use my_limiter::{ALGORITHM, Buckets, MyLimiter};

#[path = "../../chat-service/src/main.rs"]
mod grade_chat_service;
#[path = "../../inventory-locking/src/main.rs"]
mod grade_inventory_locking;
#[path = "../../job-queue/src/main.rs"]
mod grade_job_queue;
#[path = "../../lru-cache/src/main.rs"]
mod grade_lru_cache;
#[path = "../../rate-limiter/src/main.rs"]
mod grade_rate_limiter;
#[path = "../../url-shortener/src/main.rs"]
mod grade_url_shortener;

fn main() -> ExitCode {
    let system = std::env::args().nth(1).unwrap_or_default();
    match system.as_str() {
        "rate-limiter" => grade_rate_limiter::main(),
        "lru-cache" => grade_lru_cache::main(),
        "url-shortener" => grade_url_shortener::main(),
        "job-queue" => grade_job_queue::main(),
        "inventory-locking" => grade_inventory_locking::main(),
        "chat-service" => grade_chat_service::main(),
        _ => {
            eprintln!(
                "error: name a system: rate-limiter, lru-cache, url-shortener, job-queue, inventory-locking or chat-service"
            );
            ExitCode::FAILURE
        }
    }
}
