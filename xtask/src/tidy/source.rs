//! Rust source with everything that is not code blanked out, and the functions in it.
//!
//! A word in a string or a comment is not code, and a brace in one does not open a block. This
//! is not a parser: it knows just enough of the lexical grammar to count braces.

/// A function: where it begins, and how many lines it takes from `fn` to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// The same text, line by line, with strings, characters and comments replaced by spaces.
pub(crate) fn only_code(text: &str) -> String {
    let source: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < source.len() {
        let end = at + length_of_no_code(&source[at..], at.checked_sub(1).map(|i| source[i]));
        if end == at {
            code.push(source[at]);
            at += 1;
        } else {
            code.extend(source[at..end].iter().map(|&c| if c == '\n' { c } else { ' ' }));
            at = end;
        }
    }
    code
}

/// How long the comment, string or character is that begins here; 0 for code.
fn length_of_no_code(rest: &[char], before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    match rest {
        ['/', '/', ..] => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => quoted(rest, '"'),
        ['\'', ..] => character(rest),
        ['r', ..] if !in_word => raw_string(rest, 1),
        ['b' | 'c', 'r', ..] if !in_word => raw_string(rest, 2),
        _ => 0,
    }
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal, or 0 for a lifetime.
fn character(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] => quoted(rest, '\''),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

fn raw_string(rest: &[char], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|&&c| c == '#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&'"') {
        return 0;
    }
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let body = &rest[open + 1..];
    match body.windows(end.len()).position(|window| window == end) {
        Some(position) => open + 1 + position + end.len(),
        None => rest.len(),
    }
}

/// Every function with a body, nested ones too. `code` comes from [`only_code`].
pub(crate) fn functions(code: &str) -> Vec<Function> {
    code.match_indices("fn ")
        .filter(|&(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .filter_map(|(at, _)| {
            let signature = code[at + 3..].trim_start();
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let name: String = signature.chars().take_while(|&c| is_word(c)).collect();
            // `fn(A) -> B` is a type, `fn $name` a macro's business.
            let body = (!name.is_empty()).then(|| body(&code[at..]))??;
            let line = code[..at].matches('\n').count() + 1;
            Some(Function { name, line, lines: body.matches('\n').count() + 1 })
        })
        .collect()
}

/// From `fn` to the brace that closes the body; `None` for a declaration.
fn body(from_fn: &str) -> Option<&str> {
    let (mut brackets, mut braces) = (0_i32, 0_i32);
    for (at, c) in from_fn.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            // Inside brackets: the length of an array, `[u8; 4]`.
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 && brackets == 0 {
                    return Some(&from_fn[..=at]);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_and_words_in_strings_comments_and_characters_are_not_code() {
        for not_code in [
            "// fn a() { todo!()",
            "/* { /* { */ { */",
            r#""{ \" { todo!()""#,
            r##"r#"{ " {"#"##,
            r#"br"{\""#,
            "'{'",
            r"'\''",
            r"'\u{7b}'",
        ] {
            assert_eq!(only_code(not_code).trim(), "", "{not_code}");
        }
        assert_eq!(only_code("fn a<'a>(b: &'a str) {}"), "fn a<'a>(b: &'a str) {}");
        assert_eq!(only_code("for r in bar {}"), "for r in bar {}");
        assert_eq!(only_code("r#type"), "r#type");
        assert_eq!(only_code("\"a\nb\" + c"), "  \n   + c");
    }

    #[test]
    fn functions_are_measured_from_fn_to_their_closing_brace() {
        let source = "trait T {\n    fn declared(&self, a: [u8; 4]);\n}\n\
                      fn outer(f: fn(u8) -> u8) -> [u8; 2]\nwhere\n    u8: Copy,\n{\n    \
                      fn inner() {}\n    let a = \"}\";\n    if a == \"{\" {\n    }\n}\n";
        let found = functions(&only_code(source));
        let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(found, [("outer", 4, 9), ("inner", 8, 1)]);
    }
}
