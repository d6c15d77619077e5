//! The shortener beside its yardsticks, and its parts beside each other: redirects, clicks, writes,
//! starts, generators of codes.
//!
//! Servers run as programs of their own on one core and this process on another, so the figure to
//! look at is the server's processor time for a request: rates also tell how fast the generator is.

mod codes;
mod half_load;
mod links;
mod servers;
mod wire;

pub(super) use links::terms;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::links::{LINKS, Visitors};
use self::servers::{Pinned, Server};
use measure::harness::{ClosedLoop, Keys};
use measure::{Bench, Comparison, Ready, Scenario, Subject};

/// The registry entry.
pub(super) fn comparison() -> Comparison {
    let about = "redirects beside axum's hello world and nginx; all links in memory or the recent \
                 ones; clicks, writes and starts; six generators of codes";
    Comparison { system: "url-shortener", about, run: |bench| Box::pin(compare(bench)) }
}

/// What the bounded lookup is given: a quarter of the links.
const RECENT_MIB: &str = "96";
/// Rows of one import.
const IMPORT_ROWS: u64 = 100_000;

async fn compare(mut bench: Bench) -> anyhow::Result<()> {
    codes::compare(&bench).await?;
    if bench.wants_any(&["redirects", "half-load", "clicks", "creates", "import", "start"]) {
        over_http(&mut bench).await?;
    }
    Ok(())
}

/// A directory with copies of one database.
struct Databases {
    directory: tempfile::TempDir,
    copies: AtomicU64,
}

impl Databases {
    async fn fill() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        links::fill(&directory.path().join("links.db"), LINKS).await?;
        Ok(Self { directory, copies: AtomicU64::new(0) })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn copy(&self) -> anyhow::Result<PathBuf> {
        let copy = self.copies.fetch_add(1, Ordering::Relaxed);
        let path = self.path().join(format!("copy-{copy}.db"));
        std::fs::copy(self.path().join("links.db"), &path)?;
        Ok(path)
    }
}

async fn over_http(bench: &mut Bench) -> anyhow::Result<()> {
    servers::build()?;
    println!("{LINKS} links are written first; that takes some seconds.\n");
    let databases = Databases::fill().await?;
    let _pinned = Pinned::to_generator_core();
    let all = Arc::new(Server::shortener(&databases.copy()?, &[]).await?);
    if bench.wants_any(&["redirects"]) {
        redirects(bench, &databases, &all).await?;
    }
    if bench.wants_any(&["half-load"]) {
        half_load::compare(bench, &databases, &all).await?;
    }
    if bench.wants_any(&["clicks"]) {
        clicks(bench, &databases, &all).await?;
    }
    drop(all);
    if bench.wants_any(&["creates", "import"]) {
        writes(bench, &databases).await?;
    }
    if bench.wants_any(&["start"]) {
        starts(bench, databases).await?;
    }
    Ok(())
}

fn keys() -> [(&'static str, Keys); 2] {
    [("redirects-uniform", Keys::uniform(LINKS)), ("redirects-zipf", Keys::zipf(LINKS, 1.0))]
}

async fn redirects(
    bench: &mut Bench,
    databases: &Databases,
    all: &Arc<Server>,
) -> anyhow::Result<()> {
    let few = ["--recent-mib", RECENT_MIB];
    let recent = Arc::new(Server::shortener(&databases.copy()?, &few).await?);
    let hello = Arc::new(Server::hello_world().await?);
    let nginx = match servers::nginx() {
        Some(nginx) => {
            bench.version("nginx", servers::nginx_version(&nginx).unwrap_or_default());
            Some(Arc::new(Server::nginx(&nginx, databases.path(), LINKS).await?))
        }
        None => {
            println!("No nginx here, so no row for it: `cargo x setup --peers` installs it.\n");
            None
        }
    };
    for (name, keys) in keys() {
        let mut subjects = vec![
            links::hello_world(&hello),
            links::shortener("all links", &Visitors::of(all, keys)),
            links::shortener(&format!("{RECENT_MIB} MiB of links"), &Visitors::of(&recent, keys)),
        ];
        subjects.extend(nginx.as_ref().map(|nginx| links::nginx(nginx, keys)));
        let about = format!("follow a link, 32 connections; {}", keys.describe());
        let scenario = Scenario {
            rounds: Some(bench.pick(3, 5, 10)),
            ..Scenario::new(name, about, "axum hello world")
        };
        bench.closed(scenario, load(bench, 32, 1_000), subjects).await?;
    }
    Ok(())
}

fn load(bench: &Bench, workers: usize, normal_ms: u64) -> ClosedLoop {
    let duration = Duration::from_millis(bench.pick(normal_ms / 2, normal_ms, 4 * normal_ms));
    ClosedLoop { workers, duration, seed: bench.seed() }
}

/// What it costs that a redirect waits until its click is on disk.
async fn clicks(bench: &Bench, databases: &Databases, all: &Arc<Server>) -> anyhow::Result<()> {
    let keys = Keys::zipf(LINKS, 1.0);
    let durable = ["--durable-clicks"];
    let durable = Arc::new(Server::shortener(&databases.copy()?, &durable).await?);
    let subjects = vec![
        links::shortener("clicks in batches", &Visitors::of(all, keys)),
        links::shortener("durable clicks", &Visitors::of(&durable, keys)),
    ];
    let about = format!("follow a link, 64 connections; {}", keys.describe());
    let rounds = Some(bench.pick(3, 4, 8));
    let scenario = Scenario { rounds, ..Scenario::new("clicks", about, "clicks in batches") };
    bench.closed(scenario, load(bench, 64, 1_000), subjects).await
}

async fn writes(bench: &Bench, databases: &Databases) -> anyhow::Result<()> {
    let empty = databases.path().join("empty.db");
    let server = Arc::new(Server::shortener(&empty, &[]).await?);
    let next = Arc::new(AtomicU64::new(0));
    if bench.wants_any(&["creates"]) {
        let about = "create a link, 64 connections; answered when it is on disk";
        let rounds = Some(bench.pick(3, 4, 8));
        let scenario = Scenario { rounds, ..Scenario::new("creates", about, "SQLite") };
        let subject = creates(&server, &next);
        bench.closed(scenario, load(bench, 64, 1_000), vec![subject]).await?;
    }
    if bench.wants_any(&["import"]) {
        let about = format!("one request with {IMPORT_ROWS} links; each answered when on disk");
        let rounds = Some(bench.pick(3, 4, 8));
        let warm_up = Duration::ZERO;
        let scenario = Scenario { rounds, warm_up, ..Scenario::new("import", about, "SQLite") };
        bench.closed(scenario, load(bench, 1, 2_000), vec![imports(&server, &next)]).await?;
    }
    Ok(())
}

fn creates(server: &Arc<Server>, next: &Arc<AtomicU64>) -> Subject {
    let (server, next) = (Arc::clone(server), Arc::clone(next));
    Subject::answer("SQLite", move || {
        let (server, next) = (Arc::clone(&server), Arc::clone(&next));
        let process = server.process();
        let create = move |_| {
            let (server, next) = (Arc::clone(&server), Arc::clone(&next));
            async move {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let body = format!("{{\"url\":\"{}\"}}", links::target(number));
                let request = |buffer: &mut Vec<u8>| {
                    let head = format!(
                        "POST /v1/links HTTP/1.1\r\nhost: s\r\ncontent-type: application/json\r\n\
                         content-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    buffer.extend(head.bytes());
                };
                match server.wire.exchange(request, |reply| reply.status).await {
                    Ok(201) => Ok("201"),
                    Ok(_) => Err("refused"),
                    Err(_) => Err("no answer"),
                }
            }
        };
        let check = |summary: measure::harness::Summary| async move {
            (summary.failed == 0).then_some(()).ok_or_else(|| format!("{} failed", summary.failed))
        };
        async move { Ok(Ready::new(create, check).served_by(process)) }
    })
}

fn imports(server: &Arc<Server>, next: &Arc<AtomicU64>) -> Subject {
    let (server, next) = (Arc::clone(server), Arc::clone(next));
    Subject::answer("SQLite", move || {
        let (server, next) = (Arc::clone(&server), Arc::clone(&next));
        let process = server.process();
        let import = move |_| {
            let (server, next) = (Arc::clone(&server), Arc::clone(&next));
            async move {
                let first = next.fetch_add(IMPORT_ROWS, Ordering::Relaxed);
                let imported = links::import(&server, first, IMPORT_ROWS).await;
                imported.map(|()| "imported").map_err(|_| "not all rows were created")
            }
        };
        async move { Ok(Ready::new(import, |_| async { Ok(()) }).served_by(process)) }
    })
}

/// From the start of the program to the first redirect.
async fn starts(bench: &Bench, databases: Databases) -> anyhow::Result<()> {
    let databases = Arc::new(databases);
    let subject = |name: &str, more: &'static [&'static str]| {
        let databases = Arc::clone(&databases);
        Subject::answer(name, move || {
            let databases = Arc::clone(&databases);
            async move {
                let database = databases.copy()?;
                let start = move |_| {
                    let database = database.clone();
                    async move {
                        let first = format!("/{}", links::code(LINKS - 1));
                        let server = Server::shortener_until(&database, more, (&first, 302)).await;
                        server.map(|_| "ready").map_err(|_| "did not start")
                    }
                };
                Ok(Ready::new(start, |_| async { Ok(()) }))
            }
        })
    };
    let subjects =
        vec![subject("all links", &[]), subject("96 MiB of links", &["--recent-mib", RECENT_MIB])];
    let about = format!("start the program over {LINKS} links until the first redirect");
    let (rounds, warm_up) = (Some(bench.pick(3, 3, 8)), Duration::ZERO);
    let scenario = Scenario { rounds, warm_up, ..Scenario::new("start", about, "all links") };
    bench.closed(scenario, load(bench, 1, 2_000), subjects).await
}
