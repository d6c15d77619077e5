//! `cargo x documents`: every command of every document is carried out, or looked up, or on a
//! list with the reason why not. A document that says something else than the programs is found
//! here before a reader finds it.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::commands::SpawnAndWait;
use crate::tidy;

mod written;
mod plan;
mod run;

use plan::{Form, Known, Step};
pub(crate) use run::answers;
use run::{Place, Server};
use written::Written;

/// The trace that stands for a reader's own, in the directory where commands run.
const TRACE: &str = "sample.trace";

/// What happened to the commands.
#[derive(Default)]
struct Told {
    carried_out: usize,
    looked_up: usize,
    not_run: Vec<(Written, &'static str)>,
    failed: Vec<String>,
}

/// Builds what documents run, and goes through all of them, or through those that are named.
pub(crate) fn documents(release: bool, features: &[String], only: &[String]) -> Result<()> {
    let mut documents = tidy::files()?;
    documents.retain(|path| path.ends_with(".md") && (only.is_empty() || only.contains(path)));
    if let Some(file) = only.iter().find(|file| !documents.contains(file)) {
        bail!("{file} is no document of the workspace; name it from the root, as git does");
    }
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--workspace", "--bins", "--examples"]).args(features);
    if release {
        build.arg("--release");
    }
    build.spawn_and_wait()?;
    let known = known(release)?;
    let mut told = Told::default();
    // Said twice, it is done once; but a block is done whole.
    let mut done = HashMap::<String, usize>::new();
    for (number, path) in documents.into_iter().enumerate() {
        let commands = written::commands(&path, &fs::read_to_string(&path)?);
        go_through(&known, number, &commands, &mut done, &mut told)?;
    }
    tell(&told, release)
}

fn known(release: bool) -> Result<Known> {
    let form = if release { Form::Release } else { Form::Short };
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = std::env::current_dir()?.join(target);
    let binaries = target.join(if release { "release" } else { "debug" });
    let list = Command::new(binaries.join("lab")).args(["ask", "--list"]).output()?;
    ensure!(list.status.success(), "`lab ask --list` failed");
    let list = String::from_utf8(list.stdout)?;
    let first_word = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let questions = list.lines().map(first_word).collect();
    Ok(Known { form, binaries, questions, usage: crate::USAGE })
}

/// Carries out the commands of one document, one block after the other.
fn go_through(
    known: &Known,
    number: usize,
    commands: &[Written],
    done: &mut HashMap<String, usize>,
    told: &mut Told,
) -> Result<()> {
    let mut place = Place::new(number)?;
    for block in commands.chunk_by(|a, b| a.block.is_some() && a.block == b.block) {
        let mut servers: Vec<(&Written, Server)> = Vec::new();
        let mut exports = String::new();
        for written in block {
            let carried = known.plan(written).and_then(|step| {
                if let Step::Remember = step {
                    exports.push_str(&format!("{}\n", written.command));
                }
                carry_out(&mut place, written, step, &exports, done, told)
            });
            match carried {
                Ok(server) => servers.extend(server.map(|server| (written, server))),
                Err(error) => told.fail(written, &error),
            }
        }
        for (written, server) in servers {
            if let Err(error) = server.stop() {
                told.fail(written, &error);
            }
        }
    }
    Ok(())
}

fn carry_out(
    place: &mut Place,
    written: &Written,
    step: Step,
    exports: &str,
    done: &mut HashMap<String, usize>,
    told: &mut Told,
) -> Result<Option<Server>> {
    let mut again = |shell: &str| {
        let times = done.entry(shell.to_owned()).or_default();
        *times += 1;
        // With output to compare, or after an export, it is another command.
        *times > 1 && written.shows.is_empty() && exports.is_empty()
    };
    match step {
        Step::Serve { shell, address } => {
            let server = place.serve(&format!("{exports}{shell}"), &address)?;
            told.say("served", written, &format!("answered at {address}"));
            told.carried_out += 1;
            return Ok(Some(server));
        }
        Step::Run { shell, ends } => {
            if !again(&shell) {
                let begun = Instant::now();
                place.run(&format!("{exports}{shell}"), ends, &written.shows)?;
                let took = begun.elapsed().as_secs_f64();
                told.say("ran", written, &format!("{}, {took:.0} s", short(&shell)));
            }
            told.carried_out += 1;
        }
        Step::Remember => told.carried_out += 1,
        Step::LookedUp { help } => {
            if let Some(help) = help.filter(|help| !again(help)) {
                place.run(&help, plan::Ends::Well, &[])?;
            }
            told.looked_up += 1;
        }
        Step::NotRun { why } => told.not_run.push((written.clone(), why)),
    }
    Ok(None)
}

/// The command line without the directory of its program.
fn short(shell: &str) -> String {
    match shell.strip_prefix('\'').and_then(|rest| rest.split_once('\'')) {
        Some((path, rest)) => format!("{}{rest}", path.rsplit('/').next().unwrap_or(path)),
        None => shell.to_owned(),
    }
}

impl Told {
    fn say(&self, what: &str, written: &Written, how: &str) {
        let Written { path, line, command, .. } = written;
        println!("{what:<7} {path}:{line}  {command}");
        if how != command {
            println!("          as {how}");
        }
    }

    fn fail(&mut self, written: &Written, error: &anyhow::Error) {
        let Written { path, line, command, .. } = written;
        println!("FAILED  {path}:{line}  {command}\n  {error:#}");
        self.failed.push(format!("{path}:{line}: {command}"));
    }
}

fn tell(told: &Told, release: bool) -> Result<()> {
    println!("\nnot run, and why:");
    let mut reasons: Vec<&str> = told.not_run.iter().map(|(_, why)| *why).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for reason in reasons {
        println!("  {reason}:");
        for (written, _) in told.not_run.iter().filter(|(_, why)| *why == reason) {
            println!("    {}:{}  {}", written.path, written.line, written.command);
        }
    }
    if !release {
        println!(
            "this was the short form: binaries of the dev profile stand for --release; questions,"
        );
        println!("graders and one comparison that stand in blocks are run, the others looked up.");
        println!("`cargo x documents --release` runs all of it.");
    }
    println!(
        "\ndocuments: {} commands carried out, {} looked up, {} not run, {} failed",
        told.carried_out,
        told.looked_up,
        told.not_run.len(),
        told.failed.len()
    );
    if !told.failed.is_empty() {
        bail!("documents: these do not do what is written:\n  {}", told.failed.join("\n  "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(command: &str, block: Option<usize>) -> Result<Step> {
        planned_as(Form::Short, command, block)
    }

    fn planned_as(form: Form, command: &str, block: Option<usize>) -> Result<Step> {
        crate::commands::go_to_workspace_root()?;
        let known = Known {
            form,
            binaries: "target/debug".into(),
            questions: vec!["lru-cache/loop".to_owned(), "rate-limiter/hot-key".to_owned()],
            usage: crate::USAGE,
        };
        let (command, comment) = (command.to_owned(), String::new());
        let (path, shows) = ("a.md".to_owned(), Vec::new());
        known.plan(&Written { path, line: 1, block, command, comment, shows })
    }

    #[test]
    fn a_sentence_starts_no_server_for_a_client() {
        let (stats, demo) = ("cargo run -p job-queue -- stats", "cargo run -p job-queue -- demo");
        let plan = |command, block| planned_as(Form::Release, command, block).expect("a plan");
        assert!(matches!(plan(stats, None), Step::LookedUp { help: Some(_) }));
        assert!(matches!(plan(stats, Some(1)), Step::Run { .. }));
        assert!(matches!(plan(demo, None), Step::Run { .. }));
    }

    #[test]
    fn a_command_that_names_what_is_not_there_is_refused() {
        for (command, says) in [
            ("cargo run --release -- ask lru-cache/no-such-question", "no question"),
            ("cargo run --release -- ask", "wants a question"),
            ("cargo run --release -- compare no-such-system", "no system"),
            ("cargo run --release -p no-such-package -- serve", "no package"),
            ("cargo run --features no-such-feature -- compare lru-cache", "no feature"),
            ("cargo test -p lru-cache --test no_such_target", "there is no"),
            (concat!("cargo test -p lru-cache no_such", "_test_name"), "no test"),
            (concat!("NO_SUCH", "_VARIABLE=1 cargo test -p lru-cache"), "no program reads"),
            ("cargo x no-such-command", "knows no"),
            ("cargo x test --no-such-flag", "knows no"),
            ("cargo fix", "no document needs"),
        ] {
            let error = planned(command, Some(1)).expect_err(command).to_string();
            assert!(error.contains(says), "{command}: {error}");
        }
    }

    #[test]
    fn placeholders_are_filled_in_and_servers_are_told_from_commands() {
        let step = planned("cargo run --release -- ask lru-cache/<question>", Some(1));
        let Ok(Step::Run { shell, .. }) = step else { panic!("{step:?}") };
        assert!(shell.ends_with("lab' ask lru-cache/loop"), "{shell}");
        let line = "cargo run --release -p lru-cache -- serve --listen 127.0.0.1:7";
        let step = planned(line, Some(1));
        assert!(
            matches!(&step, Ok(Step::Serve { address, .. }) if address == "127.0.0.1:7"),
            "{step:?}"
        );
        assert!(matches!(planned(line, None), Ok(Step::LookedUp { help: Some(_) })));
        assert!(matches!(
            planned("git checkout practice/lru-cache", None),
            Ok(Step::NotRun { .. })
        ));
    }
}
