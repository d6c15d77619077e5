//! Where things live on disk: a cache that outlives us, a run directory that does not, the
//! programs of the machine, and the user that servers run as.
//!
//! Trap: Postgres refuses to run as root, and a user other than root cannot look into root's
//! home directory or into a `0700` temporary directory. So root's cache is under `/var/cache`,
//! and run directories may be entered (not listed) by everybody.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// The identity servers run under, where it is not our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The effective user of this process.
pub(crate) fn own_uid() -> u32 {
    // std has no getuid; a file we have just made carries it.
    static UID: OnceLock<u32> = OnceLock::new();
    *UID.get_or_init(|| {
        tempfile::tempfile().and_then(|file| file.metadata()).map_or(0, |metadata| metadata.uid())
    })
}

/// Who Postgres runs as: nobody else when we are an ordinary user; `postgres`, else `nobody`,
/// when we are root.
pub(crate) fn unprivileged_user() -> Option<User> {
    if own_uid() != 0 {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.len() > 3 && fields[0] == name)
                .then(|| Some(User { uid: fields[2].parse().ok()?, gid: fields[3].parse().ok()? }))
                .flatten()
        })
    };
    find("postgres").or_else(|| find("nobody"))
}

/// The directory that is kept between runs: initialised Postgres clusters, the slow-fsync shim,
/// port leases. `INFRA_CACHE_DIR` overrides it.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let home = |tail: &str| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(tail));
    let set = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let directory = match set("INFRA_CACHE_DIR") {
        Some(given) => given,
        None if own_uid() == 0 => PathBuf::from("/var/cache/working-answers"),
        None => set("XDG_CACHE_HOME")
            .or_else(|| home(".cache"))
            .unwrap_or_else(|| std::env::temp_dir().join(format!("infra-{}", own_uid())))
            .join("working-answers"),
    };
    fs::create_dir_all(&directory).map_err(Error::io("creating", &directory))?;
    let metadata = fs::metadata(&directory).map_err(Error::io("reading", &directory))?;
    if metadata.uid() != own_uid() {
        // Somebody else's directory under a predictable name: they could plant a program there.
        return Err(Error::Unsupported(format!(
            "{} belongs to another user; set INFRA_CACHE_DIR to a directory of yours",
            directory.display()
        )));
    }
    Ok(directory)
}

/// Makes `directory`, owned by `user` where given and closed to everybody else.
pub(crate) fn make_private_dir(directory: &Path, user: Option<User>) -> Result<()> {
    fs::create_dir_all(directory).map_err(Error::io("creating", directory))?;
    fs::set_permissions(directory, Permissions::from_mode(0o700))
        .map_err(Error::io("closing", directory))?;
    if let Some(user) = user {
        std::os::unix::fs::chown(directory, Some(user.uid), Some(user.gid))
            .map_err(Error::io("giving away", directory))?;
    }
    Ok(())
}

/// A program found in `PATH`, under the name it was found by.
///
/// Trap: resolving symbolic links here would break Redis on Debian, where `redis-server` is a
/// link to `redis-check-rdb` and the program goes by the name it is called by.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    programs(name).into_iter().next()
}

/// Every program of that name in `PATH`.
pub(crate) fn programs(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .filter(|candidate| is_executable(candidate))
        .collect()
}

pub(crate) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}

/// The first thing in `text` that looks like a version: `"Redis server v=7.0.15 sha=.."` gives
/// `"7.0.15"`.
pub(crate) fn version_in(text: &str) -> Option<String> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(|word| word.trim_end_matches('.').to_owned())
}

/// What `program --version` says, reduced to the version.
pub(crate) fn version_of(program: &Path) -> Option<String> {
    let output = std::process::Command::new(program).arg("--version").output().ok()?;
    version_in(&String::from_utf8_lossy(&output.stdout))
}

/// A short, stable digest (FNV-1a) that names cached things after what they were made from.
pub(crate) fn fingerprint(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_out_of_what_the_programs_print() {
        let cases = [
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", Some("7.0.15")),
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some("15.18")),
            ("nothing of the kind", None),
        ];
        for (printed, version) in cases {
            assert_eq!(version_in(printed).as_deref(), version, "{printed}");
        }
    }
}
