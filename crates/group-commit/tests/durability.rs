//! Every call that was answered survives SIGKILL.
//!
//! A child process inserts with many concurrent callers and prints each number *after* its call
//! returned `Ok`; it is killed in the middle of that. SIGKILL does not empty the page cache, so
//! this proves the order (commit, then answer), not the fsync; the fsync is SQLite's
//! `synchronous=FULL`, which `a_file_database_is_opened_in_the_durable_mode` checks.

use std::collections::HashSet;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use group_commit::{Options, Writer};
use libtest_mimic::{Arguments, Failed, Trial};
use testkit::Seed;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS numbers (n INTEGER PRIMARY KEY, body BLOB)";
const CALLERS: i64 = 64;
const KILLS: u64 = 5;

/// Tells a process that it is the child, and which database is its own.
const CHILD_DATABASE: &str = "GROUP_COMMIT_CHILD_DATABASE";

fn main() -> ExitCode {
    if let Some(database) = std::env::var_os(CHILD_DATABASE) {
        insert_for_ever(Path::new(&database)).expect("the child inserts until it is killed");
    }
    let trial = Trial::test("every_answered_call_survives_sigkill", || {
        let seed = Seed::from_env_or_fresh();
        kill_and_check(&seed).map_err(|error| Failed::from(format!("{error} ({seed:?})")))
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

fn kill_and_check(seed: &Seed) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let database = directory.path().join("test.db");
    let mut rng = seed.rng();
    let mut answered = HashSet::new();
    // One database for all kills: what survived the first must survive the next, too.
    for kill in 0..KILLS {
        let before = answered.len();
        load_until_killed(&database, rng.usize(1..2_000), &mut answered)?;
        if answered.len() == before {
            return Err(format!("kill {kill}: nothing was answered, so nothing was proved").into());
        }
        let there = numbers(&database)?;
        let lost = answered.difference(&there).count();
        if lost > 0 {
            return Err(format!("kill {kill}: {lost} of {} are lost", answered.len()).into());
        }
    }
    println!("{KILLS} kills, {} answered calls, none lost", answered.len());
    Ok(())
}

/// Kills the child after it has answered so many calls; collects all that it answered.
fn load_until_killed(
    database: &Path,
    kill_after: usize,
    answered: &mut HashSet<i64>,
) -> Result<(), Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(CHILD_DATABASE, database)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(child.stdout.take().ok_or("stdout is piped")?);
    let mut killed = Ok(());
    for (count, line) in output.lines().enumerate() {
        if count == kill_after {
            killed = child.kill();
        }
        // The kill may cut the last line short; a prefix of a number is another number.
        if let Some(number) = line?.strip_suffix('.') {
            answered.insert(number.parse()?);
        }
    }
    killed?;
    let status = child.wait()?;
    if status.code().is_some() {
        return Err(format!("the child ended by itself: {status}").into());
    }
    Ok(())
}

fn numbers(database: &Path) -> Result<HashSet<i64>, Box<dyn Error>> {
    let writer = Writer::open(database.to_owned(), SCHEMA, Options::default())?;
    let numbers = writer.read_blocking(|conn| {
        let healthy: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        assert_eq!(healthy, "ok");
        let mut select = conn.prepare("SELECT n FROM numbers")?;
        let numbers = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok::<_, group_commit::Error>(numbers)
    })?;
    Ok(numbers)
}

fn insert_for_ever(database: &Path) -> Result<(), Box<dyn Error>> {
    let writer = Writer::open(database.to_owned(), SCHEMA, Options::default())?;
    let first: i64 = writer.read_blocking(|conn| {
        let last = "SELECT coalesce(max(n), 0) + 1 FROM numbers";
        Ok::<_, group_commit::Error>(conn.query_row(last, [], |row| row.get(0))?)
    })?;
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let writer = &writer;
            scope.spawn(move || {
                for n in (first + caller..).step_by(CALLERS as usize) {
                    let done = writer.call_blocking(move |tx| {
                        tx.prepare_cached("INSERT INTO numbers VALUES (?1, zeroblob(100))")?
                            .execute([n])?;
                        Ok::<_, group_commit::Error>(())
                    });
                    if done.is_ok() {
                        let mut out = std::io::stdout().lock();
                        // Without its parent the child has nobody to insert for.
                        if writeln!(out, "{n}.").and_then(|()| out.flush()).is_err() {
                            std::process::exit(1);
                        }
                    }
                }
            });
        }
    });
    Ok(())
}
