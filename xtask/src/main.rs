//! `cargo x`: the commands of this repository, so that nobody has to remember them and CI runs
//! exactly what a person runs.

use std::process::ExitCode;

use anyhow::{Result, bail};

mod commands;
mod cold;
mod setup;
mod servers;
mod up;
mod tidy;
mod practice;
mod documents;

const USAGE: &str = "\
cargo x test [-- FILTER..]   set up, then run every test and doctest
cargo x setup                install what the tests need and this machine lacks
cargo x lint                 fmt, tidy, clippy and rustdoc, all without a warning
cargo x ci                   lint + test
cargo x tidy                 the house rules that a program can check
cargo x documents [FILE..]   carry out every command of every document (--release: and all of it)
cargo x tables               write what `compare` measured into the documents
cargo x practice             how far your answers in practice/ are, system by system
cargo x cold [PART..]        time what a newcomer waits for: build (from nothing), start, tests
cargo x up                   start a Redis and a Postgres for the lab, print their addresses
cargo x down                 stop them again

  --yes          install without asking (setup, test, ci, up); nothing is asked without a terminal
  --containers   use Docker instead of installing servers (setup, test, ci, up)
  --peers        with the servers that comparisons measure ours beside: nginx (setup)
  --kafka        with what needs librdkafka and a Kafka broker (setup, test, ci)
  --sdk          with the AWS SDK for Rust as a client of the job queue (test, ci)
  --release      with release binaries, every question and every comparison (documents)";

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    command: String,
    how: How,
    rest: Vec<String>,
}

/// The flags.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct How {
    /// Install without asking.
    yes: bool,
    /// Take servers from Docker.
    containers: bool,
    /// With the servers that comparisons measure ours beside.
    peers: bool,
    /// With the Kafka bus and a broker for it.
    kafka: bool,
    /// With the AWS SDK for Rust, which takes minutes to build.
    sdk: bool,
    /// Documents in full.
    release: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|asked| run(&asked)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(asked: &Asked) -> Result<()> {
    commands::go_to_workspace_root()?;
    match asked.command.as_str() {
        "setup" => setup::setup(asked.how).map(drop),
        "test" => commands::test(asked.how, &asked.rest),
        "lint" => commands::lint(asked.how),
        "ci" => commands::ci(asked.how),
        "tidy" => tidy::tidy(),
        "tables" => commands::tables(),
        "practice" => practice::practice(),
        "documents" => {
            let features = commands::features(asked.how)?;
            documents::documents(asked.how.release, &features, &asked.rest)
        }
        "cold" => cold::cold(&asked.rest, asked.how),
        "up" => up::up(asked.how),
        "down" => up::down(),
        _ => {
            println!("{USAGE}");
            Ok(())
        }
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Asked> {
    let mut asked = Asked::default();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--yes" | "-y" => asked.how.yes = true,
            "--containers" => asked.how.containers = true,
            "--peers" => asked.how.peers = true,
            "--kafka" => asked.how.kafka = true,
            "--sdk" => asked.how.sdk = true,
            "--release" => asked.how.release = true,
            "--help" | "-h" => asked.command = "help".to_owned(),
            "--" => {
                asked.rest = arguments.collect();
                break;
            }
            command
                if asked.command.is_empty() && USAGE.contains(&format!("cargo x {command}")) =>
            {
                asked.command = argument;
            }
            part if asked.command == "cold" && cold::PARTS.contains(&part) => {
                asked.rest.push(argument);
            }
            file if asked.command == "documents" && file.ends_with(".md") => {
                asked.rest.push(argument);
            }
            unknown => bail!("`{unknown}` is not known here\n\n{USAGE}"),
        }
    }
    if !asked.rest.is_empty() && !["test", "cold", "documents"].contains(&asked.command.as_str()) {
        bail!("only `cargo x test` takes arguments after `--`\n\n{USAGE}");
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Asked> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_may_stand_anywhere_and_the_rest_goes_to_the_tests() {
        let asked = parsed("test --yes -- -p testkit --containers").expect("a valid line");
        assert_eq!(asked.command, "test");
        assert!(asked.how.yes && !asked.how.containers);
        assert_eq!(asked.rest, ["-p", "testkit", "--containers"]);
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_usage() {
        let error = parsed("tets").expect_err("not a command").to_string();
        assert!(error.contains("`tets`") && error.contains("cargo x test"), "{error}");
        assert!(parsed("lint -- --fix").is_err());
        assert_eq!(parsed("cold start tests").expect("parts").rest, ["start", "tests"]);
        assert_eq!(parsed("documents README.md").expect("a file").rest, ["README.md"]);
        assert!(parsed("documents readme").is_err() && parsed("tidy README.md").is_err());
        assert!(parsed("cold stat").is_err() && parsed("lint start").is_err());
    }
}
