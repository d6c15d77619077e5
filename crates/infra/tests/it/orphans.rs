//! What is left when the process that started the servers is SIGKILLed: nothing.
//!
//! The victim is this same test binary, run again for its one test `victim`, which does nothing
//! unless an environment variable asks it to.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sqlx::Connection;

const ROLE: &str = "INFRA_TEST_VICTIM";

/// False for processes that are gone and for zombies, which are gone but not yet reaped.
pub(crate) fn is_running(pid: u32) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

/// Starts servers, tells their process ids, and waits to be killed.
#[tokio::test]
async fn victim() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let options = infra::PostgresOptions::default();
    match role.as_str() {
        "private" => {
            // Forked by a thread that ends at once: with PR_SET_PDEATHSIG the server would end
            // with it, and the line below would never be printed.
            let redis = std::thread::spawn(|| {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                runtime.block_on(infra::redis()).unwrap()
            })
            .join()
            .unwrap();
            let postgres = infra::postgres_with(options).await.unwrap();
            let mut backend = sqlx::PgConnection::connect(postgres.url()).await.unwrap();
            let pid = backend_pid(&mut backend).await;
            postgres.pause().await.unwrap();
            tell(&[redis.pid().unwrap(), postgres.pid().unwrap(), pid]);
            std::future::pending::<()>().await;
        }
        "shared" => {
            let postgres = infra::postgres().await.unwrap();
            let mut backend = sqlx::PgConnection::connect(postgres.url()).await.unwrap();
            tell(&[backend_pid(&mut backend).await]);
            std::future::pending::<()>().await;
        }
        other => panic!("no such role: {other}"),
    }
}

async fn backend_pid(connection: &mut sqlx::PgConnection) -> u32 {
    let pid: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await.unwrap();
    u32::try_from(pid).unwrap()
}

fn tell(pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    // Not println!: the test harness captures that.
    std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("pids {}\n", pids.join(" ")).as_bytes(),
    )
    .unwrap();
}

/// Runs `victim` in its role, with a temporary directory and cache of its own, kills it with
/// SIGKILL once its servers run, and returns their process ids.
fn killed_victim(role: &str, directory: &Path) -> Vec<u32> {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["orphans::victim", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("TMPDIR", directory)
        .env("INFRA_CACHE_DIR", directory.join("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let pids = lines.map_while(Result::ok).find_map(|line| {
        let pids = line.split_once("pids ").map(|(_, pids)| pids.to_owned());
        said.push(line);
        pids
    });
    let pids: Vec<u32> = pids
        .unwrap_or_else(|| panic!("the victim ended early: {said:#?}"))
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    for &pid in &pids {
        assert!(is_running(pid), "server {pid} ended before its owner was killed");
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    pids
}

/// A directory that the unprivileged user of a Postgres started by root may enter.
fn open_directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap()
}

fn run_directories(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("infra-"))
        .collect()
}

#[tokio::test]
async fn a_sigkilled_owner_leaves_no_process_and_no_directory() {
    let directory = open_directory();
    let pids = killed_victim("private", directory.path());
    assert_eq!(pids.len(), 3);
    crate::wait_until("the servers and even the frozen backend to end", || async {
        pids.iter().all(|pid| !is_running(*pid))
    })
    .await;
    crate::wait_until("the run directory to be deleted", || async {
        run_directories(directory.path()).is_empty()
    })
    .await;
}

#[tokio::test]
async fn the_shared_server_ends_after_its_last_user_was_sigkilled() {
    let directory = open_directory();
    let pids = killed_victim("shared", directory.path());
    crate::wait_until("the shared server to end", || async {
        pids.iter().all(|pid| !is_running(*pid)) && generations(directory.path()).is_empty()
    })
    .await;
    // And it can be had again afterwards.
    killed_victim("shared", directory.path());
    crate::wait_until("the second generation to end", || async {
        generations(directory.path()).is_empty()
    })
    .await;
}

fn generations(directory: &Path) -> Vec<PathBuf> {
    let cache = std::fs::read_dir(directory.join("cache")).unwrap();
    cache
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("shared-postgres-"))
        .filter(|path| path.is_dir())
        .flat_map(|shared| std::fs::read_dir(shared).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.is_dir())
        .collect()
}
