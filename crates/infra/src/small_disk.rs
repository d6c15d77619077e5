//! A disk that a test can fill: a file system of a few megabytes, really full, of which the
//! machine's other disks notice nothing.
//!
//! It is a tmpfs in a mount namespace of its own, held by a process that ends with this one; the
//! mount ends with it, so that nothing is left behind whatever happens to the test. Programs that
//! are to use it are started inside ([`SmallDisk::enter`]). Linux only, as root or where users may
//! make namespaces.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::{Error, Result};

/// What is written at a time to fill it, down to single bytes.
const BALLAST_BYTES: usize = 64 * 1024;

/// The holder's work: the mount, a word when it is there, and waiting for its input to end.
const HOLD: &str = r#"mount -t tmpfs -o "size=$1" tmpfs "$2" && echo mounted && read -r _"#;

/// A small disk. Dropping it unmounts it, with everything on it.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    directory: tempfile::TempDir,
    as_a_user: bool,
}

impl SmallDisk {
    /// A disk of so many bytes, empty.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where this user may not mount anything, even in a namespace.
    pub fn new(bytes: u64) -> Result<Self> {
        let directory = tempfile::tempdir().map_err(Error::io("making a directory in", "/tmp"))?;
        let mut refused = String::new();
        for as_a_user in [false, true] {
            match hold(bytes, directory.path(), as_a_user) {
                Ok(holder) => return Ok(Self { holder, directory, as_a_user }),
                Err(why) => refused = why,
            }
        }
        Err(Error::Unsupported(format!("no disk to fill can be mounted: {refused}")))
    }

    /// Where it is, for programs that are inside.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where it is, for everybody else.
    pub fn seen_from_outside(&self) -> PathBuf {
        let inside = self.path().strip_prefix("/").unwrap_or(self.path());
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside)
    }

    /// The program and the arguments to put before a command, which then has this disk. Its
    /// process id is that of the command.
    pub fn enter(&self) -> (&'static str, Vec<OsString>) {
        let of_holder = format!("--target={}", self.holder.id());
        let mut arguments = vec![of_holder.into(), "--mount".into()];
        if self.as_a_user {
            arguments.extend(["--user".into(), "--preserve-credentials".into()]);
        }
        ("nsenter", arguments)
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// [`Error::Io`] when that fails in another way than for want of space.
    pub fn fill(&self) -> Result<()> {
        let path = self.ballast();
        let mut ballast = File::create(&path).map_err(Error::io("creating", &path))?;
        let mut piece = BALLAST_BYTES;
        while piece > 0 {
            match ballast.write(&vec![0; piece]) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => piece /= 2,
                Err(error) => return Err(Error::io("writing", &path)(error)),
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// [`Error::Io`] when it was not filled.
    pub fn make_room(&self) -> Result<()> {
        let path = self.ballast();
        fs::remove_file(&path).map_err(Error::io("removing", path))
    }

    fn ballast(&self) -> PathBuf {
        self.seen_from_outside().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The mount goes when the last process inside has ended. Errors: it has ended already.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// Starts the process that holds the mount; what it said if it could not.
fn hold(bytes: u64, directory: &Path, as_a_user: bool) -> Result<Child, String> {
    let mut unshare = Command::new("unshare");
    unshare.arg("--mount");
    if as_a_user {
        unshare.args(["--user", "--map-root-user"]);
    }
    let mut holder = unshare
        .args(["sh", "-c", HOLD, "hold", &bytes.to_string()])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("unshare: {error}"))?;
    let mut line = String::new();
    let said = holder.stdout.as_mut().map(|out| BufReader::new(out).read_line(&mut line));
    if matches!(said, Some(Ok(_))) && line.trim() == "mounted" {
        return Ok(holder);
    }
    let output = holder.wait_with_output().map_err(|error| error.to_string())?;
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
