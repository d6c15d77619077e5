//! A slow disk, emulated where it hurts: in `fsync`.
//!
//! What it emulates, exactly: a device whose flush takes a given time longer than this
//! machine's. A shim (`slow_fsync.c`, preloaded into the server) calls the real `fsync` or
//! `fdatasync` and then sleeps for the delay before it returns. The server holds the same locks
//! meanwhile as on such a device, so group commit forms the same groups. It does not emulate slow
//! reads, slow writes, limited throughput, or a device whose flushes queue behind each other.
//!
//! Postgres has settings that look like this and are not: `commit_delay` sleeps *before* the
//! flush and only when other transactions are active, which helps group commit instead of
//! testing it.
//!
//! The shim is compiled by `cc` on first use, a few lines of C, and kept in the cache. Linux
//! only: elsewhere the servers sync through other calls.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::place;

const SOURCE: &str = include_str!("slow_fsync.c");

/// The switch of an emulated slow disk. The delay can be changed while the server runs, so one
/// run can show both sides.
#[derive(Debug)]
pub struct SlowFsync {
    shim: PathBuf,
    /// Eight bytes that the server has mapped: the delay in microseconds.
    control: tempfile::NamedTempFile,
}

impl SlowFsync {
    pub(crate) fn prepare(delay: Duration) -> Result<Self> {
        let shim = shim()?;
        let temporary = std::env::temp_dir();
        let control = tempfile::Builder::new()
            .prefix("infra-fsync-")
            // The server may run as another user, and only reads.
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(&temporary)
            .map_err(Error::io("making a file in", temporary))?;
        let slow_fsync = Self { shim, control };
        slow_fsync.set_delay(delay)?;
        Ok(slow_fsync)
    }

    /// Sets what every sync takes on top of the real one, from the next sync on. Zero turns the
    /// slow disk off.
    ///
    /// # Errors
    /// [`Error::Io`] when the control file cannot be written.
    pub fn set_delay(&self, delay: Duration) -> Result<()> {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.control
            .as_file()
            .write_all_at(&delay_us.to_ne_bytes(), 0)
            .map_err(Error::io("writing", self.control.path()))
    }

    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.shim.clone().into()),
            ("INFRA_FSYNC_DELAY_FILE", self.control.path().into()),
        ]
    }
}

/// The compiled shim, from the cache or freshly made.
fn shim() -> Result<PathBuf> {
    if !cfg!(target_os = "linux") {
        let why = "the slow-fsync emulation preloads a library, which works on Linux only";
        return Err(Error::Unsupported(why.to_owned()));
    }
    let cache = place::cache_dir()?;
    let shim = cache.join(format!("slow-fsync-{:016x}.so", place::fingerprint(&[SOURCE])));
    let lock_path = cache.join("slow-fsync.lock");
    let lock = File::create(&lock_path).map_err(Error::io("creating", &lock_path))?;
    lock.lock().map_err(Error::io("locking", &lock_path))?;
    if !shim.exists() {
        compile(&cache, &shim)?;
    }
    Ok(shim)
}

fn compile(cache: &Path, shim: &Path) -> Result<()> {
    let source = cache.join("slow-fsync.c");
    fs::write(&source, SOURCE).map_err(Error::io("writing", &source))?;
    // Renamed into place when complete: a half-written library would crash every server.
    let unfinished = shim.with_extension("unfinished");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(&compiler)
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&unfinished)
        .arg(&source)
        .arg("-ldl")
        .output()
        .map_err(Error::io("running the C compiler", &compiler))?;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::Unsupported(format!("{} failed: {printed}", source.display())));
    }
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("opening", &unfinished))?;
    fs::rename(&unfinished, shim).map_err(Error::io("naming", shim))
}
