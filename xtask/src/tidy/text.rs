//! Rules for any text file, and for the generated blocks of Markdown.

use super::{Problem, sha256};

/// Paths that exist on one machine only. Put together here so that this file passes.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];

const BLOCK_BEGIN: &str = "<!-- generated: ";
const BLOCK_END: &str = "<!-- /generated -->";

pub(crate) fn check(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(found) = MACHINE_PATHS.iter().find(|found| names_a_machine_path(line, found)) {
            let says = format!("`{found}` is a path of one machine: use a relative one");
            problems.push(Problem::new(path, number, says));
        }
    }
    problems
}

/// `/v1/work/` in a URL is not one: a machine path begins a word.
fn names_a_machine_path(line: &str, path: &str) -> bool {
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.}/".contains(c)))
}

/// A block is `<!-- generated: NAME sha256=HASH -->`, lines, `<!-- /generated -->`, where HASH
/// is of the lines in between. A figure edited by hand no longer matches it.
pub(crate) fn check_generated_blocks(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut open: Option<(usize, &str, String)> = None;
    let mut in_code = false;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if open.is_none() && line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        // A mark inside fenced code is an example.
        if in_code {
            continue;
        }
        match (line.trim_end(), &mut open) {
            (BLOCK_END, None) => {
                problems.push(Problem::new(
                    path,
                    number,
                    "ends a generated block that did not begin",
                ));
            }
            (BLOCK_END, Some((begun, header, content))) => {
                problems.extend(check_block(path, *begun, header, content));
                open = None;
            }
            (begin, None) if begin.starts_with(BLOCK_BEGIN) => {
                open = Some((number, begin, String::new()));
            }
            (begin, Some((begun, ..))) if begin.starts_with(BLOCK_BEGIN) => {
                problems.push(Problem::new(path, *begun, "this generated block does not end"));
                open = Some((number, begin, String::new()));
            }
            (_, Some((.., content))) => content.push_str(line),
            (_, None) => {}
        }
    }
    if let Some((begun, ..)) = open {
        problems.push(Problem::new(path, begun, "this generated block does not end"));
    }
    problems
}

fn check_block(path: &str, line: usize, header: &str, content: &str) -> Option<Problem> {
    let given = header.split_whitespace().find_map(|word| word.strip_prefix("sha256="));
    let says = match given {
        None => "a generated block names its sha256".to_owned(),
        Some(given) if given == sha256(content) => return None,
        Some(_) => "a generated block was edited: generate it again".to_owned(),
    };
    Some(Problem::new(path, line, says))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(hash: &str, content: &str) -> String {
        format!("# T\n{BLOCK_BEGIN}rates sha256={hash} -->\n{content}{BLOCK_END}\ntext\n")
    }

    #[test]
    fn a_generated_block_passes_until_a_figure_in_it_is_edited() {
        let content = "| memory | 7.1 |\n";
        assert!(check_generated_blocks("a.md", &block(&sha256(content), content)).is_empty());
        let edited = check_generated_blocks("a.md", &block(&sha256(content), "| memory | 9.9 |\n"));
        assert_eq!(
            edited,
            [Problem::new("a.md", 2, "a generated block was edited: generate it again")]
        );
    }

    #[test]
    fn a_generated_block_that_does_not_begin_or_end_is_reported() {
        let open = format!("{BLOCK_BEGIN}rates sha256=00 -->\n");
        assert_eq!(check_generated_blocks("a.md", &open).len(), 1);
        assert_eq!(check_generated_blocks("a.md", &format!("{BLOCK_END}\n")).len(), 1);
        assert_eq!(check_generated_blocks("a.md", &open.repeat(2)).len(), 2);
        let example = format!("```text\n{open}```\n");
        assert!(check_generated_blocks("a.md", &example).is_empty());
        assert_eq!(check_generated_blocks("a.md", &format!("{example}{open}")).len(), 1);
    }

    #[test]
    fn a_path_of_one_machine_is_reported_and_a_url_is_not() {
        for path in MACHINE_PATHS {
            assert_eq!(check("a.md", &format!("see {path}me/x")).len(), 1, "{path}");
            assert!(check("a.md", &format!("POST /v1{path}x")).is_empty(), "{path}");
        }
    }
}
