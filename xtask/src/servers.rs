//! Where the programs of the servers and of a browser are on this machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::commands::succeeds;

/// Tests and lab take a Redis from here before they look for a program.
pub(crate) const REDIS_URL_VARIABLE: &str = "INFRA_REDIS_URL";

/// Tests and lab take a Postgres from here before they look for a program.
pub(crate) const POSTGRES_URL_VARIABLE: &str = "INFRA_POSTGRES_URL";

pub(crate) fn redis_server() -> Option<PathBuf> {
    in_path("redis-server").or_else(|| first_that_exists(&["/opt/homebrew/bin/redis-server"]))
}

/// The directory that holds `postgres`, `initdb` and `pg_ctl`: Debian keeps them out of PATH, one
/// directory per version; the newest wins.
pub(crate) fn postgres_directory() -> Option<PathBuf> {
    let homes = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];
    let mut versions: Vec<(u32, PathBuf)> = homes
        .iter()
        .filter_map(|home| std::fs::read_dir(home).ok())
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.trim_start_matches("postgresql@").parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, directory)| directory.join("initdb").exists())
        .collect();
    versions.sort();
    versions
        .pop()
        .map(|(_, directory)| directory)
        .or_else(|| Some(in_path("initdb")?.parent()?.to_owned()))
}

pub(crate) fn browser() -> Option<PathBuf> {
    if let Some(given) = env::var_os("TEST_BROWSER").map(PathBuf::from).filter(|path| path.exists())
    {
        return Some(given);
    }
    ["chromium", "google-chrome-stable", "google-chrome", "chromium-browser"]
        .into_iter()
        .find_map(in_path)
        .or_else(|| {
            first_that_exists(&[
                "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
                "/Applications/Chromium.app/Contents/MacOS/Chromium",
            ])
        })
}

pub(crate) fn nginx() -> Option<PathBuf> {
    // Debian keeps it where only root's PATH looks.
    in_path("nginx").or_else(|| first_that_exists(&["/usr/sbin/nginx", "/opt/homebrew/bin/nginx"]))
}

/// Whether `python3 -m venv` works. Debian has that module in a package of its own.
pub(crate) fn python_makes_environments() -> bool {
    succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"]))
}

/// Whether a Docker engine answers; a client without an engine does not count.
pub(crate) fn docker_answers() -> bool {
    succeeds(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]))
}

pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

fn first_that_exists(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(Path::new).find(|path| path.exists()).map(Path::to_owned)
}
