//! Generated blocks: figures enter a document only through here.
//!
//! ```text
//! <!-- generated: rate-limiter/steady sha256=5f2c... -->
//! | subject | achieved | p50 | ...
//! <!-- /generated -->
//! ```
//!
//! The name is `<system>/<scenario>`, the body is rendered from
//! `results/<system>/<scenario>.json`, and the hash is of the body, so that a figure edited by
//! hand is found. To add a table write the two comment lines (no hash needed), run `compare`, then
//! `tables`. Results are not kept in the repository: a block whose result is not at hand stays as
//! it is.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::comparison::Length;
use crate::report;
use crate::results::{Table, results_directory, workspace};

const OPEN: &str = "<!-- generated: ";
const CLOSE: &str = "<!-- /generated -->";

/// Directories that hold no documents of ours.
const SKIPPED: [&str; 4] = ["target", ".git", "node_modules", "results"];

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The document.
    pub document: PathBuf,
    /// The block's name.
    pub block: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: block {}: {}", self.document.display(), self.block, self.what)
    }
}

/// Rewrites every block of every markdown file of the workspace whose results are at hand.
/// Returns the documents that changed.
///
/// # Errors
/// Those of the file system, and (nothing is then written to that document) a block without an
/// end, one that was never generated and has no result, and a result that must not be quoted:
/// from a quick or unoptimised run.
pub fn rewrite() -> anyhow::Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for document in documents(&workspace())? {
        let before = std::fs::read_to_string(&document)?;
        let after = rewrite_text(&before, render)
            .map_err(|(block, what)| anyhow::anyhow!("{}: {block}: {what}", document.display()))?;
        if after != before {
            std::fs::write(&document, after)?;
            changed.push(document);
        }
    }
    Ok(changed)
}

/// Finds blocks that were edited by hand or never generated. Needs no results.
///
/// # Errors
/// Those of the file system.
pub fn check() -> anyhow::Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for document in documents(&workspace())? {
        let text = std::fs::read_to_string(&document)?;
        let found = check_text(&text);
        problems.extend(found.into_iter().map(|(block, what)| {
            let document = document.clone();
            Problem { document, block, what }
        }));
    }
    Ok(problems)
}

/// The body of a block, from its results; `None` when they are not at hand.
fn render(name: &str) -> Result<Option<String>, String> {
    let parts: Vec<&str> = name.split('/').collect();
    let plain = |part: &&str| part.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    let [system, scenario] = parts[..] else {
        return Err("a block is named <system>/<scenario>".to_owned());
    };
    if !parts.iter().all(plain) {
        return Err("names are letters, digits and hyphens".to_owned());
    }
    let path = results_directory().join(system).join(format!("{scenario}.json"));
    let table = match Table::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        table => table.map_err(|error| format!("{}: {error}", path.display()))?,
    };
    if table.length == Length::Quick || !table.environment.optimised {
        return Err("its result is from a quick or unoptimised run: not to be quoted".to_owned());
    }
    Ok(Some(report::markdown(&table)))
}

/// A block found in a text: where its lines are, what it is called, what it claims.
struct Block<'a> {
    name: &'a str,
    hash: Option<&'a str>,
    body: &'a str,
    /// Bytes from the first character of the opening line to the last of the closing line.
    span: std::ops::Range<usize>,
}

type Complaint = (String, String);

/// The blocks of `text` in order. Marks inside fenced code are examples, not blocks.
fn blocks(text: &str) -> Result<Vec<Block<'_>>, Complaint> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, usize, &str)> = None;
    let (mut at, mut fenced) = (0, false);
    for line in text.split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        let trimmed = line.trim_end();
        if open.is_none() && trimmed.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        if let Some(head) = trimmed.strip_prefix(OPEN).and_then(|h| h.strip_suffix("-->")) {
            if let Some((_, _, head)) = open {
                return Err((head.to_owned(), "is not closed".to_owned()));
            }
            open = Some((start, end, head.trim()));
        } else if trimmed == CLOSE {
            let Some((from, body, head)) = open.take() else {
                return Err(("?".to_owned(), format!("{CLOSE} without a beginning")));
            };
            let mut words = head.split(' ');
            let name = words.next().unwrap_or_default();
            let hash = words.next().and_then(|word| word.strip_prefix("sha256="));
            let span = from..start + trimmed.len();
            blocks.push(Block { name, hash, body: &text[body..start], span });
        }
    }
    match open {
        Some((_, _, head)) => Err((head.to_owned(), "is not closed".to_owned())),
        None => Ok(blocks),
    }
}

fn hash(body: &str) -> String {
    Sha256::digest(body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rewrite_text(
    text: &str,
    render: impl Fn(&str) -> Result<Option<String>, String>,
) -> Result<String, Complaint> {
    let mut after = String::with_capacity(text.len());
    let mut copied = 0;
    for block in blocks(text)? {
        let body = render(block.name).map_err(|what| (block.name.to_owned(), what))?;
        let Some(body) = body else {
            if block.hash.is_some() {
                continue;
            }
            return Err((block.name.to_owned(), "has no result: run `compare` first".to_owned()));
        };
        let hash = hash(&body);
        after += &text[copied..block.span.start];
        after += &format!("{OPEN}{} sha256={hash} -->\n{body}{CLOSE}", block.name);
        copied = block.span.end;
    }
    Ok(after + &text[copied..])
}

fn check_text(text: &str) -> Vec<Complaint> {
    let blocks = match blocks(text) {
        Ok(blocks) => blocks,
        Err(complaint) => return vec![complaint],
    };
    let wrong = |block: &Block<'_>| match block.hash {
        None => Some("was never generated: run `compare`, then `tables`"),
        Some(claimed) if claimed != hash(block.body) => {
            Some("was edited by hand (its hash does not match)")
        }
        Some(_) => None,
    };
    blocks.iter().filter_map(|b| Some((b.name.to_owned(), wrong(b)?.to_owned()))).collect()
}

/// Every markdown file below `root`.
fn documents(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
            if kind.is_dir() && !skipped {
                left.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "before\n<!-- generated: a/b -->\n<!-- /generated -->\nafter\n";

    fn body(name: &str) -> Result<Option<String>, String> {
        Ok(Some(format!("figures of {name}\n")))
    }

    #[test]
    fn an_empty_block_is_filled_and_filling_again_changes_nothing() {
        let filled = rewrite_text(EMPTY, body).expect("the block is well-formed");
        assert!(filled.starts_with("before\n<!-- generated: a/b sha256="));
        assert!(filled.ends_with("\nfigures of a/b\n<!-- /generated -->\nafter\n"));
        assert_eq!(rewrite_text(&filled, body).expect("still well-formed"), filled);
        assert_eq!(check_text(&filled), []);
    }

    #[test]
    fn a_figure_edited_by_hand_and_a_block_never_filled_are_found() {
        let filled = rewrite_text(EMPTY, body).expect("the block is well-formed");
        let found = check_text(&filled.replace("figures", "better figures"));
        assert!(found[0].1.contains("edited by hand"), "{found:?}");
        assert!(check_text(EMPTY)[0].1.contains("never generated"));
    }

    #[test]
    fn without_results_a_filled_block_stays_and_an_empty_one_is_an_error() {
        let filled = rewrite_text(EMPTY, body).expect("the block is well-formed");
        assert_eq!(rewrite_text(&filled, |_| Ok(None)).as_ref(), Ok(&filled));
        assert!(rewrite_text(EMPTY, |_| Ok(None)).is_err());
    }

    #[test]
    fn a_missing_end_is_an_error_and_examples_in_code_are_not_blocks() {
        assert!(rewrite_text("<!-- generated: a/b -->\nrest", body).is_err());
        assert_eq!(check_text("<!-- generated: a/b -->\nrest")[0].0, "a/b");
        let example = format!("```text\n{EMPTY}```\n");
        assert_eq!(rewrite_text(&example, body).as_deref(), Ok(&*example));
    }

    #[test]
    fn a_block_cannot_name_a_file_outside_the_results() {
        assert!(render("../secrets").is_err());
        assert!(render("a/../b").is_err());
        assert!(render("a/.hidden").is_err());
    }
}
