//! Rules for the crates: who may depend on whom, and what every crate has.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Problem;

/// The six systems. They do not depend on each other, except on these two as libraries.
const SYSTEMS: &[&str] = &[
    "rate-limiter",
    "lru-cache",
    "url-shortener",
    "job-queue",
    "inventory-locking",
    "chat-service",
];
const USED_AS_LIBRARIES: &[&str] = &["rate-limiter", "lru-cache"];

/// What may depend on any system.
const ABOVE_THE_SYSTEMS: &[&str] = &["benches", "lab", "practice"];

/// A crate of the workspace.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) directory: String,
    manifest: String,
}

/// The crates that the root manifest lists.
pub(crate) fn members() -> Result<Vec<Member>> {
    let root = fs::read_to_string("Cargo.toml")?;
    section(&root, "workspace")
        .filter_map(|(_, line)| line.trim().strip_prefix('"')?.split('"').next())
        .map(|directory| {
            let path = Path::new(directory).join("Cargo.toml");
            let manifest = fs::read_to_string(&path)
                .with_context(|| format!("the workspace lists {}", path.display()))?;
            Ok(Member { directory: directory.to_owned(), manifest })
        })
        .collect()
}

impl Member {
    pub(crate) fn has_feature(&self, feature: &str) -> bool {
        section(&self.manifest, "features").any(|(_, line)| key(line) == Some(feature))
    }

    /// A room that is laid out and still empty.
    pub(crate) fn is_a_placeholder(&self) -> bool {
        ["src/lib.rs", "src/main.rs"].iter().any(|file| {
            fs::read_to_string(Path::new(&self.directory).join(file))
                .is_ok_and(|text| text.starts_with("//! Placeholder."))
        })
    }

    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut problems = check_dependencies(&self.directory, &self.manifest);
        let readme = Path::new(&self.directory).join("README.md");
        if !readme.exists() {
            let says = "every crate has a README.md: what it is and when to use it";
            problems.push(Problem::new(&readme.display().to_string(), 1, says));
        }
        problems
    }
}

fn check_dependencies(directory: &str, manifest: &str) -> Vec<Problem> {
    let path = format!("{directory}/Cargo.toml");
    let name = directory.rsplit('/').next().unwrap_or(directory);
    let above = ABOVE_THE_SYSTEMS.iter().any(|floor| Path::new(directory).starts_with(floor));
    let mut problems = Vec::new();
    for (number, line) in ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .flat_map(|kind| section(manifest, kind))
    {
        let Some(dependency) = key(line) else { continue };
        if SYSTEMS.contains(&dependency) && !above && !may_depend(name, dependency) {
            let says = format!("{name} must not depend on {dependency}; share through crates/");
            problems.push(Problem::new(&path, number, says));
        }
        // A crate depends on itself to switch its own features on for its tests.
        if !line.replace(' ', "").contains("workspace=true") && dependency != name {
            let says =
                format!("take {dependency} from the workspace: `{dependency}.workspace = true`");
            problems.push(Problem::new(&path, number, says));
        }
    }
    problems
}

fn may_depend(name: &str, system: &str) -> bool {
    let is_system = SYSTEMS.contains(&name);
    name == system || (is_system && USED_AS_LIBRARIES.contains(&system))
}

/// The root manifest says why each dependency is there.
pub(crate) fn check_root(manifest: &str) -> Vec<Problem> {
    section(manifest, "workspace.dependencies")
        .filter(|(_, line)| key(line).is_some() && !line.contains("path = "))
        .filter(|(_, line)| !line.contains('#'))
        .map(|(number, line)| {
            let says = format!("say in a comment why `{}` is here", key(line).unwrap_or_default());
            Problem::new("Cargo.toml", number, says)
        })
        .collect()
}

/// No test gets a second try.
pub(crate) fn check_nextest(config: &str) -> Vec<Problem> {
    (1..)
        .zip(config.lines())
        .filter(|(_, line)| key(line) == Some("retries") && line.replace(' ', "") != "retries=0")
        .map(|(number, _)| {
            Problem::new(".config/nextest.toml", number, "a retry hides a flake: retries = 0")
        })
        .collect()
}

/// The lines of one section with their numbers; enough of TOML for manifests written by hand.
fn section<'a>(manifest: &'a str, name: &str) -> impl Iterator<Item = (usize, &'a str)> {
    let header = format!("[{name}]");
    let mut inside = false;
    (1..).zip(manifest.lines()).filter(move |(_, line)| {
        if line.starts_with('[') {
            inside = line.trim_end() == header;
            return false;
        }
        inside
    })
}

/// The key of `key = value` or `key.workspace = true`; `None` for comments and the like.
fn key(line: &str) -> Option<&str> {
    let (before, _) = line.split_once('=')?;
    let key = before.trim().trim_end_matches(".workspace").trim_matches('"');
    (!key.starts_with('#') && !key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(directory: &str, dependency: &str) -> usize {
        let manifest = format!("[package]\nname = \"x\"\n\n[dependencies]\n{dependency}\n");
        check_dependencies(directory, &manifest).len()
    }

    #[test]
    fn a_system_depends_on_no_other_system_except_the_two_libraries() {
        assert_eq!(problems("job-queue", "chat-service.workspace = true"), 1);
        assert_eq!(problems("job-queue", "rate-limiter.workspace = true"), 0);
        assert_eq!(problems("crates/service", "rate-limiter.workspace = true"), 1);
        assert_eq!(problems("benches/job-queue", "chat-service = { workspace = true }"), 0);
    }

    #[test]
    fn versions_stand_in_the_root_manifest_each_with_its_reason() {
        assert_eq!(problems("job-queue", "serde = \"1\""), 1);
        assert_eq!(problems("job-queue", "serde = { workspace = true, optional = true }"), 0);
        let root = "[workspace.dependencies]\na = \"1\" # because\nb = \"2\"\n";
        assert_eq!(
            check_root(root),
            [Problem::new("Cargo.toml", 3, "say in a comment why `b` is here")]
        );
    }

    #[test]
    fn a_test_gets_no_second_try() {
        assert!(check_nextest("[profile.default]\nretries = 0\n").is_empty());
        assert_eq!(check_nextest("[profile.default]\nretries = 2\n").len(), 1);
    }
}
