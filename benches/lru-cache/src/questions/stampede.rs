//! A hot key is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lru_cache::{Loading, LruCache, Sharded};

use measure::{Question, Stage};

pub(super) fn question() -> Question {
    Question {
        system: "lru-cache",
        name: "stampede",
        asks: "The most popular key expires while ten thousand requests want it. What does the \
               database see? And if the one who loads it dies half way?",
        explanation: "With get, load, insert everybody who misses loads: the database gets ten \
            thousand equal queries at its worst moment. With single-flight the first who misses \
            loads and the others wait for that result. The trap is its death: when the leader's \
            request is cancelled, waiters must neither hang nor all start loading at once. Here \
            leadership goes to the one who has waited longest, so one death costs one more load.",
        run: |stage| Box::pin(run(stage)),
    }
}

const CALLERS: u32 = 10_000;
const QUERY: Duration = Duration::from_millis(100);

type Cache = Loading<u64, u64, &'static str, Sharded<u64, u64, LruCache<u64, u64>>>;

/// Counts what reaches it.
#[derive(Default)]
struct Database {
    queries: AtomicU32,
}

impl Database {
    async fn query(&self, key: u64) -> Result<u64, &'static str> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(QUERY).await;
        Ok(key * 2)
    }

    fn queries(&self) -> u32 {
        self.queries.swap(0, Ordering::Relaxed)
    }
}

fn cold() -> Arc<Cache> {
    let shard = |capacity| LruCache::new(capacity as usize);
    Arc::new(Loading::new(Sharded::new(1_000, 1, shard)))
}

async fn run(stage: Stage) -> anyhow::Result<()> {
    stage
        .scene(format!("a cache in process before a database that takes {} ms", QUERY.as_millis()));
    stage.load(format!("{CALLERS} tasks ask for one cold key at once"));
    let database = Arc::new(Database::default());

    let served = callers(&cold(), &database, naively).await?;
    let naive = database.queries();
    stage.observe("get, load, insert", format!("{naive} queries, {served} served"));
    stage.expect("without single-flight nearly everybody queries", naive > CALLERS / 2, naive);

    let served = callers(&cold(), &database, together).await?;
    let queries = database.queries();
    stage.expect("with single-flight one does", queries == 1, format!("{queries} queries"));
    stage.expect("and everybody is served", served == CALLERS, format!("{served} served"));

    stage.fault("leader-cancelled", "the first caller's request is cancelled during its query");
    let cache = cold();
    let leader = {
        let (cache, database) = (Arc::clone(&cache), Arc::clone(&database));
        tokio::spawn(async move { together(cache, database).await })
    };
    while database.queries.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let rest = {
        let (cache, database) = (Arc::clone(&cache), Arc::clone(&database));
        tokio::spawn(async move { callers(&cache, &database, together).await })
    };
    tokio::time::sleep(QUERY / 4).await;
    leader.abort();
    let served = rest.await??;
    let queries = database.queries();
    stage.expect("one waiter takes over", queries == 2, format!("{queries} queries in all"));
    stage.expect("and nobody hangs", served == CALLERS, format!("{served} served"));
    stage.because("the first who misses leaves a note that others find under the same lock");
    Ok(())
}

/// What everybody writes first.
async fn naively(cache: Arc<Cache>, database: Arc<Database>) -> Result<u64, &'static str> {
    if let Some(value) = cache.get(&7) {
        return Ok(value);
    }
    let value = database.query(7).await?;
    cache.insert(7, value);
    Ok(value)
}

async fn together(cache: Arc<Cache>, database: Arc<Database>) -> Result<u64, &'static str> {
    cache.get_or_load_async(7, || database.query(7)).await
}

/// Everybody at once. Returns how many got the right value.
async fn callers<F, Fut>(
    cache: &Arc<Cache>,
    database: &Arc<Database>,
    ask: F,
) -> anyhow::Result<u32>
where
    F: Fn(Arc<Cache>, Arc<Database>) -> Fut,
    Fut: Future<Output = Result<u64, &'static str>> + Send + 'static,
{
    let tasks: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(ask(Arc::clone(cache), Arc::clone(database)))).collect();
    let mut served = 0;
    for task in tasks {
        served += u32::from(task.await? == Ok(14));
    }
    Ok(served)
}
