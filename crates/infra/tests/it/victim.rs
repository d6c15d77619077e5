//! This test binary, run again as a process of its own, to be killed or to live in another
//! environment.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use sqlx::{Connection, PgConnection};

const ROLE: &str = "INFRA_TEST_VICTIM";
const PREFIX: &str = "victim says: ";

/// A process that plays a role and tells what it did, a line each. Dropping it kills it.
pub(crate) struct Victim {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Victim {
    /// Starts a process in this role, with a temporary directory and a cache of its own.
    pub(crate) fn start(role: &str, directory: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["victim::victim", "--exact", "--nocapture", "--test-threads=1"])
            .env("TMPDIR", directory)
            .env("INFRA_CACHE_DIR", directory.join("cache"))
            .env(ROLE, role)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next thing the process tells.
    pub(crate) fn next(&mut self) -> String {
        let mut heard = Vec::new();
        for line in self.lines.by_ref().map_while(Result::ok) {
            // The test harness may have printed the test's name on the same line.
            if let Some((_, said)) = line.split_once(PREFIX) {
                return said.to_owned();
            }
            heard.push(line);
        }
        panic!("the process ended without a word: {heard:#?}");
    }

    /// Kills the process with SIGKILL and returns when it is gone.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(what: impl std::fmt::Display) {
    // Not println!: the test harness captures that.
    let one_line = what.to_string().replace('\n', " ");
    std::io::stderr().write_all(format!("{PREFIX}{one_line}\n").as_bytes()).unwrap();
}

/// Does nothing, unless the environment asks it to play a role.
#[tokio::test]
async fn victim() {
    let Ok(role) = std::env::var(ROLE) else { return };
    match role.as_str() {
        "private servers" => private_servers().await,
        "shared server" => shared_server().await,
        "resolution" => resolution().await,
        other => panic!("no such role: {other}"),
    }
}

async fn private_servers() {
    // Started from a thread that ends at once. With PR_SET_PDEATHSIG the server would end with
    // it, and would be found dead before this process is killed.
    let redis = std::thread::spawn(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(infra::redis()).unwrap()
    })
    .join()
    .unwrap();
    let postgres = infra::postgres_with(infra::PostgresOptions::default()).await.unwrap();
    let mut backend = PgConnection::connect(postgres.url()).await.unwrap();
    let backend = backend_pid(&mut backend).await;
    postgres.pause().await.unwrap();
    say(format!("{} {} {backend}", redis.pid().unwrap(), postgres.pid().unwrap()));
    std::future::pending::<()>().await;
}

async fn shared_server() {
    let postgres = infra::postgres().await.unwrap();
    let mut backend = PgConnection::connect(postgres.url()).await.unwrap();
    say(backend_pid(&mut backend).await);
    say(postgres.url());
    std::future::pending::<()>().await;
}

async fn resolution() {
    match infra::redis().await {
        Ok(redis) => {
            say(redis.url());
            say(redis.kill9().await.unwrap_err());
        }
        Err(error) => say(error),
    }
    match infra::postgres().await {
        Ok(postgres) => say(postgres.url()),
        Err(error) => say(error),
    }
    let found = infra::found().await;
    say(format!("redis: {}, postgres: {}", found.redis, found.postgres));
}

async fn backend_pid(connection: &mut PgConnection) -> u32 {
    let query = sqlx::query_scalar("select pg_backend_pid()");
    let pid: i32 = query.fetch_one(connection).await.unwrap();
    u32::try_from(pid).unwrap()
}
