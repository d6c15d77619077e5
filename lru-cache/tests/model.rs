//! Models: the concurrent code under a scheduler that tries interleavings.
//!
//! The files under `src` are compiled a second time here, with `crate::sync` made of shuttle's locks.
//! What is checked is the source that ships, not a copy of its idea. A failure prints the schedule
//! that led to it.

#![allow(missing_docs, dead_code, unreachable_pub, reason = "the library's files, as a test")]
#![allow(unused_imports, reason = "the library's re-exports are not all used here")]

#[path = "../src/cache.rs"]
mod cache;
#[path = "../src/flight.rs"]
mod flight;
#[path = "../src/index.rs"]
mod index;
#[path = "../src/lists.rs"]
mod lists;
#[path = "../src/loading.rs"]
mod loading;
#[path = "../src/lru.rs"]
mod lru;
#[path = "../src/policy/mod.rs"]
mod policy;
#[path = "../src/policy_cache.rs"]
mod policy_cache;
#[path = "../src/queues.rs"]
mod queues;
#[path = "../src/shared.rs"]
mod shared;

/// The module of this name in the library, with shuttle's locks behind the same functions.
mod sync {
    pub use shuttle::future::block_on;
    pub use shuttle::sync::atomic::{AtomicU8, Ordering};

    #[derive(Debug, Default)]
    pub struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    #[derive(Debug, Default)]
    pub struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub fn new(value: T) -> Self {
            Self(shuttle::sync::RwLock::new(value))
        }

        pub fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
            self.0.read().unwrap()
        }

        pub fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
            self.0.write().unwrap()
        }
    }
}

use std::{
    future::pending,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

use cache::Cache;
use loading::Loading;
use lru::LruCache;
use policy::{Clock, S3Fifo, Sieve};
use policy_cache::PolicyCache;
use shared::{ReadShared, Sharded};
use shuttle::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    thread,
};

/// Random schedules per model. Each takes well below a millisecond.
const SCHEDULES: usize = 3_000;

type Subject = Loading<u64, u64, &'static str, Sharded<u64, u64, LruCache<u64, u64>>>;

const KEY: u64 = 7;

fn subject() -> Arc<Subject> {
    Arc::new(Loading::new(Sharded::new(8, 2, |capacity| LruCache::new(capacity as usize))))
}

fn together(work: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = work.into_iter().map(|work| thread::spawn(work)).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A thread that wants the key, counts its load, and must get 42.
fn reader(subject: &Arc<Subject>, loads: &Arc<AtomicUsize>) -> Box<dyn FnOnce() + Send> {
    let (subject, loads) = (Arc::clone(subject), Arc::clone(loads));
    Box::new(move || {
        let got = subject.get_or_load(KEY, || {
            loads.fetch_add(1, SeqCst);
            thread::yield_now();
            Ok(42)
        });
        assert_eq!(got, Ok(42));
    })
}

#[test]
fn any_number_of_threads_cause_one_load() {
    shuttle::check_random(
        || {
            let (subject, loads) = (subject(), Arc::default());
            together((0..4).map(|_| reader(&subject, &loads)).collect());
            assert_eq!(loads.load(SeqCst), 1);
        },
        SCHEDULES,
    );
}

#[test]
fn a_failed_load_has_exactly_one_successor() {
    shuttle::check_random(
        || {
            let (subject, loads) = (subject(), Arc::new(AtomicUsize::new(0)));
            let caller = || -> Box<dyn FnOnce() + Send> {
                let (subject, loads) = (Arc::clone(&subject), Arc::clone(&loads));
                Box::new(move || {
                    _ = subject.get_or_load(KEY, || {
                        let number = loads.fetch_add(1, SeqCst);
                        thread::yield_now();
                        if number == 0 { Err("down") } else { Ok(42) }
                    });
                })
            };
            together((0..4).map(|_| caller()).collect());
            assert_eq!(loads.load(SeqCst), 2, "one that failed and one that followed");
            assert_eq!(subject.get(&KEY), Some(42));
        },
        SCHEDULES,
    );
}

/// Somebody starts to load or to wait, and is dropped at any moment. Nobody else may hang, and the
/// others need one load.
#[test]
fn a_cancelled_caller_leaves_nobody_behind() {
    shuttle::check_random(
        || {
            let (subject, loads) = (subject(), Arc::new(AtomicUsize::new(0)));
            let quitter = Arc::clone(&subject);
            let quit: Box<dyn FnOnce() + Send> = Box::new(move || {
                let never = pin!(quitter.get_or_load_async(KEY, pending));
                _ = never.poll(&mut Context::from_waker(Waker::noop()));
                thread::yield_now();
            });
            let mut work = vec![quit];
            work.extend((0..3).map(|_| reader(&subject, &loads)));
            together(work);
            assert_eq!(loads.load(SeqCst), 1);
        },
        SCHEDULES,
    );
}

#[test]
fn an_explicit_insert_is_never_overwritten_by_a_load() {
    shuttle::check_random(
        || {
            let subject = subject();
            let (loader, writer) = (Arc::clone(&subject), Arc::clone(&subject));
            together(vec![
                Box::new(move || {
                    _ = loader.get_or_load(KEY, || {
                        thread::yield_now();
                        Ok(1)
                    });
                }),
                Box::new(move || writer.insert(KEY, 2)),
            ]);
            assert_eq!(subject.get(&KEY), Some(2));
        },
        SCHEDULES,
    );
}

/// The race of cache-aside: a reader loads the old row, the writer changes the row and invalidates,
/// the reader fills the cache with the old row, and it stays stale until it expires. Not here.
#[test]
fn an_invalidation_leaves_no_stale_value_behind() {
    shuttle::check_random(
        || {
            let (subject, row) = (subject(), Arc::new(AtomicU64::new(1)));
            let mut work: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
            for _ in 0..2 {
                let (subject, row) = (Arc::clone(&subject), Arc::clone(&row));
                work.push(Box::new(move || {
                    _ = subject.get_or_load(KEY, || {
                        let seen = row.load(SeqCst);
                        thread::yield_now();
                        Ok(seen)
                    });
                }));
            }
            let (writer, changed) = (Arc::clone(&subject), Arc::clone(&row));
            work.push(Box::new(move || {
                changed.store(2, SeqCst);
                writer.invalidate(&KEY);
            }));
            together(work);
            assert_ne!(subject.get(&KEY), Some(1), "the row says 2");
        },
        SCHEDULES,
    );
}

/// Readers share the lock, writers do not; the listener uses the cache it is told by.
#[test]
fn readers_and_writers_of_the_shared_cache_agree() {
    shuttle::check_random(
        || {
            let told = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&told);
            let cache = ReadShared::<u64, u64, S3Fifo>::with_shards(3, 1);
            let cache = Arc::new(cache.with_listener(Box::new(move |_| {
                counter.fetch_add(1, SeqCst);
            })));
            let work = (0..3u64).map(|thread| -> Box<dyn FnOnce() + Send> {
                let cache = Arc::clone(&cache);
                Box::new(move || {
                    for number in 0..4 {
                        let key = thread + number;
                        cache.insert(key, key * 10);
                        let read = cache.get(&(key + 1));
                        assert!(read.is_none_or(|value| value == (key + 1) * 10));
                    }
                })
            });
            together(work.collect());
            cache.check().unwrap();
            assert_eq!(told.load(SeqCst) + cache.len(), 12, "everything is in or was told of");
        },
        SCHEDULES,
    );
}

/// Readers raise the counter of one entry together, under the lock they share and with plain loads and
/// stores. A raise may be lost to another one, but never all of them: what was read stays.
#[test]
fn what_readers_hit_together_survives_the_next_eviction() {
    shuttle::check_random(
        || {
            let cache = Arc::new(ReadShared::<u64, u64, Clock>::with_shards(2, 1));
            cache.insert(1, 10);
            cache.insert(2, 20);
            let work = (0..3).map(|_| -> Box<dyn FnOnce() + Send> {
                let cache = Arc::clone(&cache);
                Box::new(move || assert_eq!(cache.get(&1), Some(10)))
            });
            together(work.collect());
            cache.insert(3, 30);
            assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), None));
        },
        SCHEDULES,
    );
}

/// The same while somebody inserts: a reader's value is whole or absent, and an entry that was hit
/// before the eviction is not the one that leaves.
#[test]
fn readers_beside_a_writer_see_whole_values() {
    shuttle::check_random(
        || {
            let cache = Arc::new(ReadShared::<u64, u64, S3Fifo>::with_shards(2, 1));
            cache.insert(1, 10);
            let mut work: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
            for _ in 0..2 {
                let cache = Arc::clone(&cache);
                work.push(Box::new(move || {
                    for _ in 0..3 {
                        assert!(cache.get(&1).is_none_or(|value| value == 10 || value == 11));
                    }
                }));
            }
            let writer = Arc::clone(&cache);
            work.push(Box::new(move || {
                writer.insert(1, 11);
                (2..5).for_each(|key| writer.insert(key, key));
                writer.remove(&4);
            }));
            together(work);
            cache.check().unwrap();
        },
        SCHEDULES,
    );
}

/// A listener that writes to the cache that tells it: with a lock held, shuttle reports a deadlock.
#[test]
fn a_listener_may_write_to_its_cache() {
    shuttle::check_random(
        || {
            let itself: Arc<std::sync::OnceLock<Arc<ReadShared<u64, u64, Sieve>>>> = Arc::default();
            let inside = Arc::clone(&itself);
            let cache = ReadShared::with_shards(2, 1).with_listener(Box::new(move |departure| {
                if let (Some(cache), 0..100) = (inside.get(), departure.key) {
                    cache.insert(departure.key + 100, 0);
                }
            }));
            let cache = Arc::new(cache);
            _ = itself.set(Arc::clone(&cache));
            let work = (0..2u64).map(|thread| -> Box<dyn FnOnce() + Send> {
                let cache = Arc::clone(&cache);
                Box::new(move || (0..3).for_each(|key| cache.insert(thread * 10 + key, key)))
            });
            together(work.collect());
            cache.check().unwrap();
        },
        SCHEDULES,
    );
}
