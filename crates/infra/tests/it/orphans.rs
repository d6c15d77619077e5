//! What is left when the process that started the servers is SIGKILLed: nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::victim::Victim;
use crate::wait_until;

/// False for processes that are gone and for zombies, which are gone but not yet reaped.
pub(crate) fn is_running(pid: u32) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

/// A directory that the unprivileged user of a Postgres started by root may enter.
pub(crate) fn open_directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().permissions(permissions).tempdir().unwrap()
}

fn entries(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix))
        .filter(|path| path.is_dir())
        .collect()
}

/// The directories of shared servers that have not been ended.
fn generations(directory: &Path) -> Vec<PathBuf> {
    let shared = entries(&directory.join("cache"), "shared-postgres-");
    shared.iter().flat_map(|shared| entries(shared, "generation-")).collect()
}

#[tokio::test]
async fn a_sigkilled_owner_leaves_no_process_and_no_directory() {
    let directory = open_directory();
    let mut victim = Victim::start("private servers", directory.path(), &[]);
    let said = victim.next();
    let pids: Vec<u32> = said.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3, "Redis, Postgres and one frozen backend");
    for &pid in &pids {
        assert!(is_running(pid), "server {pid} of [{said}] ended before its owner was killed");
    }
    assert_eq!(entries(directory.path(), "infra-").len(), 1);

    victim.kill9();
    wait_until("the servers and even the frozen backend to end", || async {
        pids.iter().all(|pid| !is_running(*pid))
    })
    .await;
    wait_until("the run directory to be deleted", || async {
        entries(directory.path(), "infra-").is_empty()
    })
    .await;
}

#[tokio::test]
async fn processes_share_one_server_until_the_last_of_them_is_sigkilled() {
    let directory = open_directory();
    let start = || Victim::start("shared server", directory.path(), &[]);
    // At the same moment, with nothing initialised yet: one of them does it, the other waits.
    let (mut one, mut other) = (start(), start());
    let backends = [one.next(), other.next()].map(|pid| pid.parse::<u32>().unwrap());
    assert_eq!(one.next(), other.next(), "both are given the same server");
    assert_eq!(generations(directory.path()).len(), 1);

    one.kill9();
    wait_until("the first user's backend to end", || async { !is_running(backends[0]) }).await;
    assert!(is_running(backends[1]), "the second user's server ended with the first user");

    other.kill9();
    wait_until("the shared server to end", || async {
        !is_running(backends[1]) && generations(directory.path()).is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_shared_server_can_be_had_again_after_it_ended() {
    let directory = open_directory();
    for _ in 0..2 {
        let mut victim = Victim::start("shared server", directory.path(), &[]);
        let backend: u32 = victim.next().parse().unwrap();
        assert!(is_running(backend));
        victim.kill9();
        wait_until("the shared server to end", || async {
            generations(directory.path()).is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_whose_keeper_was_killed_is_cleared_away_by_the_next_user() {
    let directory = open_directory();
    let mut victim = Victim::start("shared server", directory.path(), &[]);
    let postmaster = parent_of(victim.next().parse().unwrap());
    let abandoned = generations(directory.path());
    let kill = Command::new("kill").args(["-9", &parent_of(postmaster).to_string()]).status();
    assert!(kill.unwrap().success());
    victim.kill9();
    assert!(is_running(postmaster), "nobody was left to end it");

    let mut next = Victim::start("shared server", directory.path(), &[]);
    let backend: u32 = next.next().parse().unwrap();
    assert!(!is_running(postmaster));
    assert_ne!(generations(directory.path()), abandoned);
    next.kill9();
    wait_until("the second server to end", || async {
        !is_running(backend) && generations(directory.path()).is_empty()
    })
    .await;
}

fn parent_of(pid: u32) -> u32 {
    let output = Command::new("ps").args(["-o", "ppid=", "-p", &pid.to_string()]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}
