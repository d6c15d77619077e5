//! A reader's own answer beside the simplest of ours: what `grade` ends with when every promise is
//! kept.

use std::process::ExitCode;

use crate::comparison::{Bench, Length, Options, gather};
use crate::{Role, Row, Table, cli};

/// What the reader's row is called.
pub const YOURS: &str = "yours";

/// The scenario, and the file name of its results.
pub const SCENARIO: &str = "yours";

/// Runs one short scenario of `system` that `run` puts together; fails when the reader's answer
/// broke an invariant under load. Blocks: call it outside any runtime.
pub fn beside<Fut>(system: &'static str, run: impl FnOnce(Bench) -> Fut) -> ExitCode
where
    Fut: Future<Output = anyhow::Result<()>>,
{
    println!("\nEvery promise is kept. Under load, beside the simplest of our answers:\n");
    let compared =
        tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
            let options = Options { length: Length::Quick, only: None, seed: 1 };
            runtime.block_on(gather(system, options, run))
        });
    cli::code(compared.map(|tables| {
        tables.iter().filter_map(in_words).for_each(|words| println!("{words}"));
        ExitCode::SUCCESS
    }))
}

/// The reader's row as a sentence.
fn in_words(table: &Table) -> Option<String> {
    let of = |name: &str| table.rows.iter().find(|row| row.name == name);
    let is_ours = |row: &&Row| row.role == Role::Answer && row.name != YOURS && row.is_valid();
    let (mine, best) =
        (of(YOURS)?, table.rows.iter().filter(is_ours).map(|row| row.per_s).reduce(f64::max)?);
    mine.is_valid().then(|| {
        let times = mine.per_s / best;
        format!("Yours does {times:.2} times what the quickest of ours does. All of it: cargo run --release -- compare {}", table.system)
    })
}
