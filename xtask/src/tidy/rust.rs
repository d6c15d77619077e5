//! Rules for one Rust file.

use super::Problem;
use super::source::{functions, only_code};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Code that does not belong here, and what to do instead.
const NOT_HERE: &[(&str, &str)] = &[
    ("todo!(", "write it or leave it out"),
    ("unimplemented!(", "write it or leave it out"),
    ("dbg!(", "use tracing, or remove it"),
    ("#[ignore", "a test that does not run proves nothing: fix it or remove it"),
    (".retry(", "a retry hides a flake: wait for the condition (testkit::wait_until)"),
];

pub(crate) fn check(path: &str, text: &str) -> Vec<Problem> {
    let code = only_code(text);
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        let says = format!("{lines} lines; at most {FILE_LINES_MAX}: one concept per file");
        problems.push(Problem::new(path, 1, says));
    }
    if !text.starts_with("//!") {
        let says = "begin with `//!`: what problem, the idea, the invariant, what it gives up";
        problems.push(Problem::new(path, 1, says));
    }
    for function in functions(&code) {
        if function.lines > FUNCTION_LINES_MAX {
            let says = format!(
                "`{}` has {} lines; at most {FUNCTION_LINES_MAX}: keep the branches, move the rest out",
                function.name, function.lines
            );
            problems.push(Problem::new(path, function.line, says));
        }
    }
    for (number, line) in (1..).zip(code.lines()) {
        // What a practice crate leaves out is what its reader is to write.
        let to_be_written = |pattern: &str| pattern == "todo!(" && path.starts_with("practice/");
        let found = |(pattern, _): &&(&str, _)| line.contains(pattern) && !to_be_written(pattern);
        for (pattern, instead) in NOT_HERE.iter().filter(found) {
            problems.push(Problem::new(path, number, format!("`{pattern}`: {instead}")));
        }
    }
    problems.extend(links_to_the_suite(path, text));
    problems
}

/// The suite is behind a feature: a link to it from outside is broken wherever the feature is off,
/// and the documents of the whole workspace, where it is on, do not show that.
fn links_to_the_suite(path: &str, text: &str) -> Vec<Problem> {
    // In testkit, which makes suites, it is always there.
    if path.contains("/conformance") || path.starts_with("crates/") {
        return vec![];
    }
    let is_prose = |line: &str| line.starts_with("///") || line.starts_with("//!");
    let is_link =
        |line: &str| line.contains("](crate::conformance") || line.contains("[`conformance");
    (1..)
        .zip(text.lines().map(str::trim_start))
        .filter(|(_, line)| is_prose(line) && is_link(line))
        .map(|(number, _)| {
            Problem::new(path, number, "`conformance` is behind a feature: name it, do not link it")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str) -> Vec<String> {
        check("a.rs", text).into_iter().map(|problem| problem.says).collect()
    }

    #[test]
    fn a_file_without_a_purpose_and_one_that_is_too_long_are_reported() {
        assert!(says("//! Why.\nfn a() {}\n").is_empty());
        assert!(says("fn a() {}\n")[0].starts_with("begin with `//!`"));
        assert!(says(&format!("//! Why.\n{}", "\n".repeat(600)))[0].starts_with("601 lines"));
    }

    #[test]
    fn a_function_of_71_lines_is_reported_and_one_of_70_is_not() {
        let function = |lines: usize| format!("//! Why.\nfn a() {{{}}}\n", "\n".repeat(lines - 1));
        assert!(says(&function(70)).is_empty());
        assert!(says(&function(71))[0].starts_with("`a` has 71 lines"));
    }

    #[test]
    fn links_to_the_suite_are_reported_outside_it() {
        for link in ["[`conformance`]", "[the suite](crate::conformance::lookups)"] {
            let text = format!("//! Each a promise of {link}.\n");
            assert_eq!(says(&text), ["`conformance` is behind a feature: name it, do not link it"]);
            assert!(check("x/src/conformance/lookups.rs", &text).is_empty());
        }
        assert!(says("//! Each a promise of `conformance`.\n").is_empty());
    }

    #[test]
    fn unfinished_and_hidden_things_are_reported_in_code_but_not_in_prose() {
        for (pattern, _) in NOT_HERE {
            assert_eq!(says(&format!("//! Why.\nfn a() {{ {pattern}) }}")).len(), 1, "{pattern}");
            assert!(says(&format!("//! No {pattern} here.\n")).is_empty(), "{pattern}");
        }
    }
}
