//! Initialised clusters, made once per user, version and layout, and copied ever after.
//!
//! `initdb` takes from a third of a second to two; copying its thirty megabytes takes a few
//! hundredths. Any number of test processes may ask at the same moment: one makes it under a
//! file lock, and the finished directory gets its name in one step, so that nobody can see a
//! half-made one, whenever its maker is killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::place::{self, User};
use crate::postgres::{Profile, Programs};
use crate::process::run_as;

/// Puts a freshly initialised cluster at `data`, owned by `user`.
pub(super) fn copy_to(
    data: &Path,
    programs: &Programs,
    profile: Profile,
    user: Option<User>,
) -> Result<()> {
    let cluster = initialised(programs, profile, user)?;
    // `cp` runs as the server's user, so the copies belong to it.
    let mut copy = Command::new("cp");
    copy.arg("-R").arg(&cluster).arg(data);
    run_to_success("copying the cluster to", data, &mut copy, user)
}

/// The directory of the cluster to copy from.
fn initialised(programs: &Programs, profile: Profile, user: Option<User>) -> Result<PathBuf> {
    let cache = place::cache_dir()?;
    let version = programs.version().unwrap_or_else(|| "unknown".to_owned());
    // Small log segments make a small copy; a durable server keeps the size it is shipped with.
    let segment_megabytes = if profile == Profile::Fast { 1 } else { 16 };
    let owner = user.map_or_else(place::own_uid, |user| user.uid);
    let name = format!("postgres-{version}-segments-{segment_megabytes}-owner-{owner}");
    let cluster = cache.join(&name);
    let lock_path = cache.join(format!("{name}.lock"));
    let lock = File::create(&lock_path).map_err(Error::io("creating", &lock_path))?;
    lock.lock().map_err(Error::io("locking", &lock_path))?;
    if cluster.exists() {
        return Ok(cluster);
    }
    let unfinished = cache.join(format!("{name}.unfinished"));
    let _ = fs::remove_dir_all(&unfinished);
    place::make_private_dir(&unfinished, user)?;
    let mut initdb = Command::new(&programs.initdb);
    initdb
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .arg(format!("--wal-segsize={segment_megabytes}"))
        .arg("-D")
        .arg(&unfinished);
    run_to_success("initialising", &unfinished, &mut initdb, user)?;
    fs::rename(&unfinished, &cluster).map_err(Error::io("naming", &cluster))?;
    Ok(cluster)
}

fn run_to_success(
    doing: &'static str,
    path: &Path,
    command: &mut Command,
    user: Option<User>,
) -> Result<()> {
    run_as(command, user);
    let output = command.current_dir("/").output().map_err(Error::io(doing, path))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Start {
        server: "postgres".to_owned(),
        why: format!("{doing} {} ended with {}", path.display(), output.status),
        log: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    })
}
