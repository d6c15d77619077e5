//! Finding the commands in a document.

/// A command as it stands in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) path: String,
    pub(crate) line: usize,
    /// Which fenced block of the document it stands in; a sentence is none.
    pub(crate) block: Option<usize>,
    /// The command without its comment.
    pub(crate) command: String,
    /// The comment: it may say where a server listens.
    pub(crate) comment: String,
    /// Lines that the document shows as its output; `...` stands for anything.
    pub(crate) shows: Vec<String>,
}

/// What may begin a command in a sentence. In a fenced block everything is one.
const PROGRAMS: &[&str] = &[
    "cargo",
    "curl",
    "aws",
    "redis-cli",
    "redis-benchmark",
    "docker",
    "docker-compose",
    "git",
    "npm",
    "pip",
];

/// Every command of a document: the lines of its ```` ```sh ```` blocks, what follows `$ ` in its
/// ```` ```console ```` blocks, and what sentences quote.
pub(crate) fn commands(path: &str, text: &str) -> Vec<Written> {
    let mut found: Vec<Written> = Vec::new();
    let mut fence: Option<&str> = None;
    let mut block = 0;
    for (line, content) in (1..).zip(text.lines()) {
        if let Some(language) = content.trim_start().strip_prefix("```") {
            block += usize::from(fence.is_none());
            fence = if fence.is_some() { None } else { Some(language.trim()) };
            continue;
        }
        let command = |command: &str, block| {
            let (command, comment) = split_comment(command);
            let (path, shows) = (path.to_owned(), Vec::new());
            Written { path, line, block, command, comment, shows }
        };
        match fence {
            None => found.extend(quoted(content).map(|quoted| command(&quoted, None))),
            Some("sh") if content.trim().is_empty() => {}
            Some("sh" | "console") if goes_on(found.last(), block) => {
                let last = found.last_mut().expect("it goes on");
                last.command = format!("{}{}", last.command.trim_end_matches('\\'), content.trim());
            }
            Some("sh") => found.push(command(content, Some(block))),
            Some("console") => match (content.strip_prefix("$ "), found.last_mut()) {
                (Some(typed), _) => found.push(command(typed, Some(block))),
                (None, Some(last)) if last.block == Some(block) => {
                    last.shows.push(content.trim().to_owned());
                }
                (None, _) => {}
            },
            Some(_) => {}
        }
    }
    found
}

/// Whether the line before ended with a backslash.
fn goes_on(last: Option<&Written>, block: usize) -> bool {
    last.is_some_and(|last| last.block == Some(block) && last.command.ends_with('\\'))
}

/// `command  # comment`; a `#` inside quotes or a word is none.
fn split_comment(line: &str) -> (String, String) {
    let mut quote = None;
    let mut before = ' ';
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (None, '#') if before == ' ' => {
                return (line[..at].trim().to_owned(), line[at + 1..].trim().to_owned());
            }
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
        before = letter;
    }
    (line.trim().to_owned(), String::new())
}

/// The commands quoted in a line of text.
fn quoted(line: &str) -> impl Iterator<Item = String> {
    // In a table a bar is escaped.
    line.split('`').skip(1).step_by(2).map(|span| span.replace("\\|", "|")).filter(|span| {
        let mut words = span.split_whitespace().skip_while(|word| is_assignment(word));
        let program = words.next().unwrap_or_default();
        PROGRAMS.contains(&program) && words.next().is_some()
    })
}

/// `NAME=value` before a command.
pub(crate) fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_uppercase() || "_0123456789".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_comments_outputs_and_quotes_are_told_apart() {
        let text = "Say `cargo x tidy` or `A=1 cargo test -p b`, not `cargo` or `serve --x`.\n\
                    ```sh\ncurl 'a#b' # port 80\n\n```\n```text\ncargo no\n```\n\
                    ```console\n$ curl -d \\\n   '{}'\n{\"id\":\"...\"}\n```\n";
        let found = commands("a.md", text);
        let told: Vec<_> = found.iter().map(|w| (w.line, w.block, w.command.as_str())).collect();
        assert_eq!(
            told,
            [
                (1, None, "cargo x tidy"),
                (1, None, "A=1 cargo test -p b"),
                (3, Some(1), "curl 'a#b'"),
                (10, Some(3), "curl -d '{}'"),
            ]
        );
        assert_eq!(found[2].comment, "port 80");
        assert_eq!(found[3].shows, ["{\"id\":\"...\"}"]);
    }
}
