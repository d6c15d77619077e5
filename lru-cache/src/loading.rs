//! Loading on a miss without a stampede.
//!
//! When a popular key is missing, everybody misses it at once. [`Loading`] lets the first one load
//! and the others wait for that one load, whether they are threads or tasks. The promises:
//!
//! * any number of waiters on a cold key cause one load;
//! * a leader that fails, panics or is cancelled causes exactly one successor to load, and nobody
//!   waits for ever;
//! * an explicit [`insert`](Loading::insert) or [`invalidate`](Loading::invalidate) during a load
//!   wins: what was loaded from the past is not put into the cache over it;
//! * an error is never cached. Who wants that says so with the type: let the value be a `Result`,
//!   in a cache that expires.
//!
//! Loaders, listeners and `Drop` run outside all locks.
//!
//! Trade-off: the leader runs the load itself, as part of its own call. Nothing is spawned, any
//! executor will do, and a cancelled request really stops its work; the price is that the successor
//! starts again from the beginning.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crossbeam_utils::CachePadded;
use foldhash::fast::RandomState;

use crate::{
    flight::{Flight, Left, Seat, Ticket},
    shared::SharedCache,
    sync::{Mutex, block_on},
};

/// The table of flights is split so that loads of different keys do not meet at its lock. It holds
/// an entry per key being loaded, which the callers bound by being callers.
const FLIGHT_SHARDS: usize = 16;

/// What an error means for those who wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The leader gets the error, and one waiter tries again. Right when errors are about the
    /// caller or pass quickly; when the origin is down, waiters fail one after the other.
    #[default]
    NextWaiterTries,
    /// Everybody who waited gets the error, the next caller tries again. Right when the origin is
    /// what fails.
    EveryWaiterFails,
}

type Shared<V, E> = Arc<Mutex<Flight<Result<V, E>>>>;
type FlightTable<K, V, E> = HashMap<K, Shared<V, E>, RandomState>;
type FlightShard<K, V, E> = CachePadded<Mutex<FlightTable<K, V, E>>>;

/// A shared cache that loads what it misses, once.
///
/// ```
/// use lru_cache::{Loading, LruCache, Sharded, shared::shards_for};
///
/// let cache = Sharded::new(1000, shards_for(1000), |capacity| LruCache::new(capacity as usize));
/// let users = Loading::new(cache);
/// let name = users.get_or_load(7, || Ok::<_, std::io::Error>("Ada".to_string()).map_err(|e| e.kind()));
/// assert_eq!(name.unwrap(), "Ada");
/// ```
pub struct Loading<K, V, E, C> {
    cache: C,
    flights: Box<[FlightShard<K, V, E>]>,
    on_error: OnError,
    hasher: RandomState,
}

impl<K, V, E, C> Loading<K, V, E, C>
where
    K: Hash + Eq + Clone,
    V: Clone,
    E: Clone,
    C: SharedCache<K, V>,
{
    /// Wraps a cache.
    pub fn new(cache: C) -> Self {
        let flights = (0..FLIGHT_SHARDS).map(|_| CachePadded::default()).collect();
        Self { cache, flights, on_error: OnError::default(), hasher: RandomState::default() }
    }

    /// Chooses what an error means for those who wait.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// The cache inside. Writing to it directly does not win over loads in progress.
    pub fn cache(&self) -> &C {
        &self.cache
    }

    /// The value under `key`: from the cache, from a load in progress, or from `load` on this
    /// thread. Blocks.
    ///
    /// # Errors
    /// What `load`, here or in the thread waited for, returned.
    pub fn get_or_load(&self, key: K, load: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        match block_on(self.join(key)) {
            Joined::Value(result) => result,
            Joined::Lead(leader) => leader.land(load()),
        }
    }

    /// As [`get_or_load`](Loading::get_or_load), waiting without blocking. Dropping the future
    /// cancels the load and hands it to a waiter.
    ///
    /// # Errors
    /// What `load`, here or in the task waited for, returned.
    pub async fn get_or_load_async<F: Future<Output = Result<V, E>>>(
        &self,
        key: K,
        load: impl FnOnce() -> F,
    ) -> Result<V, E> {
        match self.join(key).await {
            Joined::Value(result) => result,
            Joined::Lead(leader) => {
                let result = load().await;
                leader.land(result)
            }
        }
    }

    /// The value under `key` if it is in. Loads nothing.
    pub fn get(&self, key: &K) -> Option<V> {
        self.cache.get(key)
    }

    /// Puts a value in. Who waits for a load of this key gets this value, and what that load
    /// brings is not cached.
    pub fn insert(&self, key: K, value: V) {
        let (leaving, overtaken, wakers);
        {
            let mut flights = self.flights_of(&key).lock();
            overtaken = flights.remove_entry(&key);
            wakers = match &overtaken {
                Some((_, flight)) => flight.lock().land(Ok(value.clone())),
                None => Vec::new(),
            };
            leaving = self.cache.insert_quietly(key, value);
        }
        drop(overtaken);
        wakers.into_iter().for_each(Waker::wake);
        self.cache.tell(leaving);
    }

    /// Takes an entry out. A load in progress still serves those who wait for it, who asked before
    /// this; its value is not cached, and who asks from now on loads again.
    pub fn invalidate(&self, key: &K) -> Option<(K, V)> {
        let (removed, detached);
        {
            let mut flights = self.flights_of(key).lock();
            detached = flights.remove_entry(key);
            removed = self.cache.remove(key);
        }
        drop(detached);
        removed
    }

    fn flights_of(&self, key: &K) -> &Mutex<FlightTable<K, V, E>> {
        let hash = self.hasher.hash_one(key);
        &self.flights[(hash >> 32) as usize % FLIGHT_SHARDS]
    }

    async fn join(&self, key: K) -> Joined<'_, K, V, E, C> {
        if let Some(value) = self.cache.get(&key) {
            return Joined::Value(Ok(value));
        }
        match self.board(key) {
            Ok(waiting) => waiting.await,
            Err(value) => Joined::Value(Ok(value)),
        }
    }

    /// A seat in the flight of `key`, or the value if it has arrived meanwhile.
    fn board(&self, key: K) -> Result<Waiting<'_, K, V, E, C>, V> {
        let mut flights = self.flights_of(&key).lock();
        let (flight, ticket) = match flights.get(&key) {
            Some(flight) => (Arc::clone(flight), flight.lock().join()),
            None => {
                // A load lands in the cache before its flight leaves the table, so a look at the
                // cache under this lock cannot miss it. Without it, the load would be repeated.
                if let Some(value) = self.cache.get(&key) {
                    return Err(value);
                }
                let (flight, ticket) = Flight::take_off();
                let flight = Arc::new(Mutex::new(flight));
                flights.insert(key.clone(), Arc::clone(&flight));
                (flight, ticket)
            }
        };
        drop(flights);
        Ok(Waiting { passenger: Some(Passenger { loading: self, key, flight, ticket }) })
    }
}

/// How a call to `get_or_load` goes on.
enum Joined<'a, K: Hash + Eq + Clone, V: Clone, E: Clone, C: SharedCache<K, V>> {
    Value(Result<V, E>),
    Lead(Leader<'a, K, V, E, C>),
}

/// A participant. Dropping it hands over whatever it leads.
struct Passenger<'a, K: Hash + Eq + Clone, V: Clone, E: Clone, C: SharedCache<K, V>> {
    loading: &'a Loading<K, V, E, C>,
    key: K,
    flight: Shared<V, E>,
    ticket: Ticket,
}

impl<K: Hash + Eq + Clone, V: Clone, E: Clone, C: SharedCache<K, V>> Drop
    for Passenger<'_, K, V, E, C>
{
    fn drop(&mut self) {
        let ended;
        let left = {
            let mut flights = self.loading.flights_of(&self.key).lock();
            let left = self.flight.lock().leave(self.ticket);
            let is_current =
                flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
            let is_over = matches!(left, Left::Empty) && is_current;
            ended = is_over.then(|| flights.remove_entry(&self.key));
            left
        };
        drop(ended);
        if let Left::HandedOver(Some(waker)) = left {
            waker.wake();
        }
    }
}

/// Waits until there is a value, or it is this one's turn to load.
struct Waiting<'a, K: Hash + Eq + Clone, V: Clone, E: Clone, C: SharedCache<K, V>> {
    /// Taken when it is over.
    passenger: Option<Passenger<'a, K, V, E, C>>,
}

impl<K: Hash + Eq + Clone, V: Clone, E: Clone, C: SharedCache<K, V>> Unpin
    for Waiting<'_, K, V, E, C>
{
}

impl<'a, K: Hash + Eq + Clone, V: Clone, E: Clone, C: SharedCache<K, V>> Future
    for Waiting<'a, K, V, E, C>
{
    type Output = Joined<'a, K, V, E, C>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let passenger = self.passenger.as_ref().expect("a finished future is not polled again");
        let seat = passenger.flight.lock().seat(passenger.ticket, context.waker());
        match seat {
            Seat::Wait => Poll::Pending,
            Seat::Landed(result) => {
                self.passenger = None;
                Poll::Ready(Joined::Value(result))
            }
            Seat::Lead => {
                let passenger = self.passenger.take().expect("checked above");
                Poll::Ready(Joined::Lead(Leader(passenger)))
            }
        }
    }
}

/// The one who loads. Dropping it, in a panic or a cancellation, hands over.
struct Leader<'a, K: Hash + Eq + Clone, V: Clone, E: Clone, C: SharedCache<K, V>>(
    Passenger<'a, K, V, E, C>,
);

impl<K: Hash + Eq + Clone, V: Clone, E: Clone, C: SharedCache<K, V>> Leader<'_, K, V, E, C> {
    /// Ends the load, and returns what the leader's own caller gets.
    fn land(self, result: Result<V, E>) -> Result<V, E> {
        let Leader(passenger) = self;
        let Passenger { loading, key, flight, .. } = &passenger;
        if result.is_err() && loading.on_error == OnError::NextWaiterTries {
            // Dropping the passenger hands over.
            return result;
        }
        let (mut leaving, mut ended) = (None, None);
        let wakers;
        let answer;
        {
            let mut flights = loading.flights_of(key).lock();
            let is_current = flights.get(key).is_some_and(|current| Arc::ptr_eq(current, flight));
            if is_current {
                ended = flights.remove_entry(key);
                if let Ok(value) = &result {
                    leaving = Some(loading.cache.insert_quietly(key.clone(), value.clone()));
                }
            }
            let mut flight = flight.lock();
            // Overtaken by an explicit insert: that value is the newer one, for this caller too.
            answer = flight.landed().cloned().unwrap_or(result);
            wakers = flight.land(answer.clone());
        }
        drop(ended);
        wakers.into_iter().for_each(Waker::wake);
        if let Some(leaving) = leaving {
            loading.cache.tell(leaving);
        }
        answer
    }
}
