//! `ask`: list questions, run one, run them all.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

use crate::{Asked, Event, Question, Stage, System, What, report, results_directory, transcript};

/// Which questions, and how.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// `<system>/<question>`, or `<system>` for all of its questions.
    #[arg(conflicts_with_all = ["list", "all"])]
    question: Option<String>,
    /// Print every question, one a line.
    #[arg(long)]
    list: bool,
    /// Ask every question, one after the other.
    #[arg(long, conflicts_with = "list")]
    all: bool,
    /// The long form, where that says more.
    #[arg(long)]
    long: bool,
    /// Repeat a telling with the seed it printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Also write `results/<system>/ask-<question>.html`, with charts and the faults marked.
    #[arg(long)]
    report: bool,
}

/// Asks what was chosen of the questions of `systems`; a failure when one did not hold.
pub async fn run(systems: Vec<System>, arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        list(&systems);
        return Ok(ExitCode::SUCCESS);
    }
    let which = arguments.question.is_some() || arguments.all;
    anyhow::ensure!(which, "which question? `ask --list` prints them, `ask --all` asks them all");
    let questions = chosen(systems, arguments.question.as_deref())?;
    anyhow::ensure!(!questions.is_empty(), "there is nothing to ask yet");
    let mut failed = Vec::new();
    for question in &questions {
        if !ask_one(question, &arguments).await?.passed() {
            failed.push(question.path());
        }
    }
    if questions.len() > 1 {
        println!("{} of {} answered as promised", questions.len() - failed.len(), questions.len());
        failed.iter().for_each(|path| println!("  NOT: {path}"));
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(systems: &[System]) {
    let questions: Vec<_> = systems.iter().flat_map(|system| &system.questions).collect();
    let width = questions.iter().map(|q| q.path().len()).max().unwrap_or(0);
    questions.iter().for_each(|q| println!("{:<width$}  {}", q.path(), q.asks));
}

fn chosen(systems: Vec<System>, path: Option<&str>) -> anyhow::Result<Vec<Question>> {
    let Some(path) = path else {
        return Ok(systems.into_iter().flat_map(|system| system.questions).collect());
    };
    let question = systems.iter().flat_map(|system| &system.questions).find(|q| q.path() == path);
    if let Some(question) = question {
        return Ok(vec![*question]);
    }
    let system = systems.into_iter().find(|system| system.name == path);
    let system = system.with_context(|| format!("no question {path} (see: ask --list)"))?;
    anyhow::ensure!(!system.questions.is_empty(), "{path} has no questions yet");
    Ok(system.questions)
}

async fn ask_one(question: &Question, arguments: &Arguments) -> anyhow::Result<Asked> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let told: Arc<Mutex<Vec<Event>>> = Arc::default();
    let (keep, print) = (Arc::clone(&told), transcript::printer());
    let stage = Stage::new(seed, arguments.long, move |event| {
        print(event);
        if !matches!(event.what, What::Progress { .. }) {
            keep.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        }
    });
    let asked = crate::ask(question, stage.clone()).await;
    if arguments.report {
        let events = told.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = results_directory().join(question.system);
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(format!("ask-{}.html", question.name));
        std::fs::write(&path, report::page_of_question(question, &stage, &events))?;
        println!("  report   {}", path.display());
    }
    Ok(asked)
}
