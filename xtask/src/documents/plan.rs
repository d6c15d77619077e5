//! What is done with a command of a document: run, started as a server, looked up, or left alone
//! for a reason.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::written::{Written, is_assignment};
use crate::tidy::members;

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// With the binaries that the tests are built with. Whole systems of questions, and all
    /// comparisons but a part of one, are looked up, and so is what sentences quote.
    Short,
    /// With release binaries, every question, every comparison (`--quick`).
    Release,
}

/// What to do with one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Start it and keep it until the block ends.
    Serve { shell: String, address: String },
    /// Run it to its end.
    Run { shell: String, ends: Ends },
    /// It holds for what follows in its block.
    Remember,
    /// Its package, targets and flags are there (checked already, but for this command line).
    LookedUp { help: Option<String> },
    /// Left alone.
    NotRun { why: &'static str },
}

/// When a command did what the document says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    Well,
    /// A grader says how many promises are kept, whatever that is: the starters keep none.
    Graded,
    /// A question was told to its end. Whether its outcome holds is no matter of documents, and on
    /// a machine busy with other tests a claim about time may not.
    Answered,
}

/// What commands may name.
pub(crate) struct Known {
    pub(crate) form: Form,
    /// Where the binaries are.
    pub(crate) binaries: PathBuf,
    /// `<system>/<question>`, every one.
    pub(crate) questions: Vec<String>,
    /// What `cargo x` without a command prints.
    pub(crate) usage: &'static str,
}

/// The quickest scenario of a system's comparison that needs no peer.
const SMALL_SCENARIO: (&str, &str) = ("rate-limiter", "in-process-one-thread");

/// Commands that want a server of their own kind, which a block starts and a sentence does not.
const CLIENTS: [&str; 5] = ["stats", "peek", "redrive", "work", "chat"];

/// A cargo command in its parts.
#[derive(Debug, Default)]
struct Cargo<'a> {
    verb: &'a str,
    package: Option<&'a str>,
    features: Vec<&'a str>,
    /// `--test`, `--bench` and `--example`, and which.
    targets: Vec<(&'a str, &'a str)>,
    /// What else stands before ` -- `: names of tests, directories.
    names: Vec<&'a str>,
    /// After ` -- `, as written.
    rest: &'a str,
}

impl Known {
    /// What to do with this command; an error when it names something that is not there.
    pub(crate) fn plan(&self, written: &Written) -> Result<Step> {
        let command = self.filled_in(&written.command);
        let bare = command.split_whitespace().skip_while(|word| is_assignment(word));
        let words: Vec<&str> = bare.collect();
        for word in command.split_whitespace().take_while(|word| is_assignment(word)) {
            let name = word.split('=').next().unwrap_or_default();
            ensure!(mentioned(Path::new("."), name)?, "no program reads {name}");
        }
        match words.first().copied().unwrap_or_default() {
            "cargo" => self.cargo(written, &command),
            "export" => Ok(Step::Remember),
            "git" => {
                let path = words.last().copied().unwrap_or_default();
                ensure!(Path::new(path).exists(), "there is no {path}");
                Ok(Step::NotRun { why: "it would throw away what you wrote" })
            }
            "docker" | "docker-compose" => Ok(Step::NotRun {
                why: "it needs a container engine; lab/tests/it/containers.rs reads the files",
            }),
            _ if written.block.is_none() => {
                Ok(Step::NotRun { why: "a sentence quotes it for a server of your own" })
            }
            program if crate::servers::in_path(program).is_none() => {
                Ok(Step::NotRun { why: "the program is not on this machine" })
            }
            _ => Ok(Step::Run { shell: command, ends: Ends::Well }),
        }
    }

    /// The command with something in the place of what a reader fills in.
    fn filled_in(&self, command: &str) -> String {
        let first_of = |system: &str| {
            let mut of = self.questions.iter().filter(|it| it.starts_with(&format!("{system}/")));
            of.next().map(|path| path.rsplit('/').next().unwrap_or_default().to_owned())
        };
        let words = command.split(' ').map(|word| match word.split_once('/') {
            Some((system, "<question>" | "NAME")) => {
                first_of(system).map_or(word.to_owned(), |name| format!("{system}/{name}"))
            }
            _ => match word {
                "<system>" => "lru-cache".to_owned(),
                "DIRECTORY" => ".".to_owned(),
                "FILE" => super::TRACE.to_owned(),
                word => word.to_owned(),
            },
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn cargo(&self, written: &Written, command: &str) -> Result<Step> {
        let cargo = parse(command)?;
        if cargo.verb == "x" {
            return self.xtask(&cargo);
        }
        let directory = match cargo.package {
            Some(package) => directory_of(package)?,
            None => PathBuf::from(if cargo.verb == "run" { "lab" } else { "." }),
        };
        look_up(&cargo, &directory)?;
        match cargo.verb {
            "run" => self.run(written, command, &cargo),
            "test" | "nextest" | "bench" | "build" => Ok(Step::LookedUp { help: None }),
            verb => bail!("no document needs `cargo {verb}`"),
        }
    }

    fn xtask(&self, cargo: &Cargo<'_>) -> Result<Step> {
        for (at, name) in cargo.names.iter().enumerate() {
            let there = match (name.starts_with("--"), at) {
                (true, _) => self.usage.contains(&format!("  {name} ")),
                (false, 0) => self.usage.contains(&format!("cargo x {name} ")),
                (false, _) if cargo.names[0] == "documents" => std::path::Path::new(name).is_file(),
                (false, _) => crate::cold::PARTS.contains(name),
            };
            ensure!(there, "`cargo x` knows no {name}");
        }
        match cargo.names.first() {
            Some(&"tidy") => Ok(Step::Run { shell: self.shell("xtask", "tidy"), ends: Ends::Well }),
            _ => Ok(Step::NotRun {
                why: "it installs, rewrites, takes minutes, or is what runs this",
            }),
        }
    }

    fn run(&self, written: &Written, command: &str, cargo: &Cargo<'_>) -> Result<Step> {
        if let Some(&(_, example)) = cargo.targets.first() {
            let shell = self.shell(&format!("examples/{example}"), &cargo.names.join(" "));
            return Ok(match self.form {
                Form::Short => Step::LookedUp { help: None },
                Form::Release => Step::Run { shell, ends: Ends::Well },
            });
        }
        let program = cargo.package.unwrap_or("lab");
        let words: Vec<&str> = cargo.rest.split_whitespace().collect();
        // A flag that is not there is refused before the help is shown.
        let help = self.shell(program, &format!("{} --help", cargo.rest));
        let looked_up = Step::LookedUp { help: Some(help) };
        let shell = self.shell(program, cargo.rest);
        let in_block = written.block.is_some();
        let run = match words.first().copied() {
            Some("ask") => {
                let ends = match self.form {
                    Form::Short if !words.contains(&"--list") => Ends::Answered,
                    _ => Ends::Well,
                };
                self.ask(&words, in_block)?.then_some((shell, ends))
            }
            Some("compare") => self.compare(command, cargo, program, &words, in_block)?,
            Some("grade") => self.grade(program, &words, in_block)?,
            Some("tables") => None,
            None | Some("serve") if in_block => {
                let address = self.address(written, program, &words)?;
                return Ok(Step::Serve { shell: format!("exec {shell}"), address });
            }
            None | Some("serve") => None,
            Some(client) if !in_block && CLIENTS.contains(&client) => None,
            Some(_) => (in_block || self.form == Form::Release).then_some((shell, Ends::Well)),
        };
        Ok(run.map_or(looked_up, |(shell, ends)| Step::Run { shell, ends }))
    }

    /// Whether the question is asked here.
    fn ask(&self, words: &[&str], in_block: bool) -> Result<bool> {
        self.check_question(words)?;
        let is_one = words.get(1).is_some_and(|path| path.contains('/'));
        let is_short = words.contains(&"--list") || is_one;
        Ok(self.form == Form::Release || (in_block && is_short))
    }

    /// How the comparison is run, if it is: `--quick`, and in the short form a small part of one.
    fn compare(
        &self,
        command: &str,
        cargo: &Cargo<'_>,
        program: &str,
        words: &[&str],
        in_block: bool,
    ) -> Result<Option<(String, Ends)>> {
        self.check_system(words, program)?;
        let (system, scenario) = SMALL_SCENARIO;
        let shell = match self.form {
            Form::Short if in_block && words.get(1) == Some(&system) => {
                self.shell(program, &format!("{} --quick --only {scenario}", cargo.rest))
            }
            Form::Short => return Ok(None),
            Form::Release if cargo.features.is_empty() => {
                self.shell(program, &format!("{} --quick", cargo.rest))
            }
            // Peers are a feature: cargo builds them.
            Form::Release => {
                let manifest = std::env::current_dir()?.join("Cargo.toml");
                let at = format!("cargo run --manifest-path '{}'", manifest.display());
                command.replacen("cargo run", &at, 1) + " --quick"
            }
        };
        Ok(Some((shell, Ends::Well)))
    }

    /// How `practice/` is graded. A service at a URL would be the reader's: the lab's tests grade
    /// ours in its place.
    fn grade(
        &self,
        program: &str,
        words: &[&str],
        in_block: bool,
    ) -> Result<Option<(String, Ends)>> {
        self.check_system(words, program)?;
        if words.contains(&"--url") || !in_block {
            return Ok(None);
        }
        let shell = match self.form {
            Form::Short => self.shell(&format!("practice-{}", words[1]), ""),
            Form::Release => self.shell(program, &words.join(" ")),
        };
        Ok(Some((shell, Ends::Graded)))
    }

    fn check_question(&self, words: &[&str]) -> Result<()> {
        let Some(&path) = words.get(1) else {
            bail!("`ask` wants a question, or --list, or --all");
        };
        let known = path.starts_with("--")
            || self.questions.iter().any(|it| it == path || it.starts_with(&format!("{path}/")));
        ensure!(known, "there is no question {path}");
        Ok(())
    }

    /// The program of one system compares it without being told its name.
    fn check_system(&self, words: &[&str], program: &str) -> Result<()> {
        let system = match (program.strip_prefix("bench-"), words.get(1)) {
            (Some(system), _) => system,
            (None, Some(system)) => system,
            (None, None) => bail!("`{}` wants a system", words[0]),
        };
        let known = system == "harness"
            || self.questions.iter().any(|it| it.starts_with(&format!("{system}/")));
        ensure!(known, "there is no system {system}");
        Ok(())
    }

    /// Where a server listens: as its flags, its comment or its own help say.
    fn address(&self, written: &Written, program: &str, words: &[&str]) -> Result<String> {
        if let Some(at) = words.iter().position(|word| *word == "--listen") {
            return Ok(words.get(at + 1).context("--listen says where")?.to_string());
        }
        let said = written.comment.split_once("http://").map(|(_, after)| after);
        let is_end = |c: char| !c.is_ascii_digit() && c != '.' && c != ':';
        let said = said.and_then(|after| after.split(is_end).next());
        if let Some(said) = said {
            return Ok(said.trim_end_matches([':', '.']).to_owned());
        }
        let help = std::process::Command::new(self.binaries.join(program))
            .args(["serve", "--help"])
            .output()?;
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let (_, after) = help.split_once("--listen").context("a server has --listen")?;
        let (_, default) = after.split_once("[default: ").context("--listen has a default")?;
        Ok(default.split(']').next().unwrap_or_default().to_owned())
    }

    fn shell(&self, program: &str, rest: &str) -> String {
        format!("'{}' {rest}", self.binaries.join(program).display()).trim_end().to_owned()
    }
}

fn parse(command: &str) -> Result<Cargo<'_>> {
    let (before, rest) = command.split_once(" -- ").unwrap_or((command, ""));
    let mut words = before.split_whitespace().skip_while(|word| *word != "cargo").skip(1);
    let mut cargo = Cargo { verb: words.next().context("cargo what?")?, rest, ..Cargo::default() };
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} wants a value"));
        match word {
            "run" if cargo.verb == "nextest" => {}
            "-p" | "--package" => cargo.package = Some(value()?),
            "--features" => cargo.features.extend(value()?.split(',')),
            "--test" | "--bench" | "--example" => cargo.targets.push((word, value()?)),
            "--release" | "--workspace" => {}
            name if cargo.verb == "x" || !name.starts_with('-') => cargo.names.push(name),
            flag => bail!("cargo {} has no flag {flag} that documents use", cargo.verb),
        }
    }
    Ok(cargo)
}

/// Whether what the command names is there: features, targets, and tests of that name.
fn look_up(cargo: &Cargo<'_>, directory: &Path) -> Result<()> {
    let members = members()?;
    let member = members.iter().find(|member| Path::new(&member.directory) == directory);
    for feature in &cargo.features {
        let there = member.is_some_and(|member| member.has_feature(feature));
        ensure!(there, "{} has no feature {feature}", directory.display());
    }
    for (kind, name) in &cargo.targets {
        let folder = directory.join(match *kind {
            "--test" => "tests",
            "--bench" => "benches",
            _ => "examples",
        });
        let one = [folder.join(format!("{name}.rs")), folder.join(name).join("main.rs")];
        ensure!(one.iter().any(|file| file.exists()), "there is no {}", one[0].display());
    }
    if matches!(cargo.verb, "test" | "nextest" | "bench") {
        for name in cargo.names.iter().filter(|name| **name != "...") {
            let there = mentioned(directory, name)?
                || directory.join("tests/it").join(format!("{name}.rs")).exists();
            ensure!(there, "no test in {} has {name} in its name", directory.display());
        }
    }
    Ok(())
}

fn directory_of(package: &str) -> Result<PathBuf> {
    for member in members()? {
        let manifest = fs::read_to_string(Path::new(&member.directory).join("Cargo.toml"))?;
        if manifest.contains(&format!("\nname = \"{package}\"\n")) {
            return Ok(PathBuf::from(member.directory));
        }
    }
    bail!("there is no package {package}")
}

/// Whether a Rust file below `directory` has this text.
fn mentioned(directory: &Path, text: &str) -> Result<bool> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = if path.is_dir() {
            name != "target" && !name.starts_with('.') && mentioned(&path, text)?
        } else {
            name.ends_with(".rs") && fs::read_to_string(&path).is_ok_and(|it| it.contains(text))
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
