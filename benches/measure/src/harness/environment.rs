//! Where a number was made. A figure without its machine, versions and load is an anecdote.

use std::collections::BTreeMap;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine and the code, captured when a comparison starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Environment {
    /// `model name` of the first processor.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Frequency governor, or `unknown` (virtual machines do not say).
    pub governor: String,
    /// Kernel release.
    pub kernel: String,
    /// The compiler of this binary.
    pub rustc: String,
    /// Whether this binary is optimised.
    pub optimised: bool,
    /// Short commit hash.
    pub commit: String,
    /// Whether files other than documents and results differ from that commit.
    pub dirty: bool,
    /// Load average over one minute, before the run: above the number of cores, somebody else
    /// was running.
    pub load_average: Option<f64>,
    /// The shortest and the longest time that a message took from one core to another and back,
    /// of those taken before each round, in nanoseconds.
    #[serde(default)]
    pub cores_apart_ns: Option<(u64, u64)>,
    /// Versions of servers and peers that took part.
    pub versions: BTreeMap<String, String>,
}

impl Environment {
    /// Looks around. What cannot be found is `unknown`, never guessed.
    pub fn capture() -> Environment {
        let read = |path: &str| std::fs::read_to_string(path).ok().map(|s| s.trim().to_owned());
        let unknown = || "unknown".to_owned();
        let status = git(&["status", "--porcelain", "--", ".", ":!results", ":!*.md"]);
        Environment {
            cpu: cpu_model().unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .unwrap_or_else(unknown),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            rustc: env!("BUILT_WITH_RUSTC").to_owned(),
            optimised: !cfg!(debug_assertions),
            commit: git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(unknown),
            dirty: status.is_none_or(|changes| !changes.is_empty()),
            load_average: load_average(),
            cores_apart_ns: None,
            versions: BTreeMap::new(),
        }
    }

    /// Takes note of how far apart the cores are now.
    pub fn note_distance(&mut self, there_and_back_ns: Option<u64>) {
        if let Some(ns) = there_and_back_ns {
            let (least, most) = self.cores_apart_ns.unwrap_or((ns, ns));
            self.cores_apart_ns = Some((least.min(ns), most.max(ns)));
        }
    }

    /// One line for a report: `2 cores of X, kernel, rustc, commit, load`.
    pub fn describe(&self) -> String {
        let dirty = if self.dirty { " (modified)" } else { "" };
        let debug = if self.optimised { "" } else { ", NOT OPTIMISED" };
        let load = self.load_average.map_or("unknown".to_owned(), |load| format!("{load:.1}"));
        let versions = self.versions.iter().map(|(name, version)| format!(", {name} {version}"));
        let apart = self.cores_apart_ns.map_or(String::new(), |(least, most)| {
            format!(" ({least} to {most} ns from one to the other and back)")
        });
        format!(
            "{} cores of {}{apart}, governor {}, Linux {}, {}{debug}{}, commit {}{dirty}, load {load}",
            self.cores,
            self.cpu,
            self.governor,
            self.kernel,
            self.rustc.split(" (").next().unwrap_or(&self.rustc),
            versions.collect::<String>(),
            self.commit,
        )
    }
}

fn cpu_model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The one-minute load average.
pub fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = output.status.success().then_some(output.stdout)?;
    Some(String::from_utf8(text).ok()?.trim().to_owned())
}
