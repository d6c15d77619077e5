//! The comparisons, as measured: the generated tables of the READMEs with a bar for each ratio.
//!
//! The READMEs are the one place that holds figures, so this page reads them and stores nothing.

use std::fmt::Write as _;

use super::html::{asset, escape, frame};
use crate::pages::Page;

/// The README of every system, as it was when the lab was built.
const READMES: [(&str, &str); 6] = [
    ("rate-limiter", include_str!("../../../rate-limiter/README.md")),
    ("lru-cache", include_str!("../../../lru-cache/README.md")),
    ("url-shortener", include_str!("../../../url-shortener/README.md")),
    ("job-queue", include_str!("../../../job-queue/README.md")),
    ("inventory-locking", include_str!("../../../inventory-locking/README.md")),
    ("chat-service", include_str!("../../../chat-service/README.md")),
];

/// One generated block: `<!-- generated: NAME sha256=.. -->` up to `<!-- /generated -->`.
struct Block<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
}

/// The page.
pub(super) fn page(pages: &[Page]) -> String {
    let mut sections = String::new();
    for page in pages {
        let blocks = blocks(page.system);
        let (id, title) = (page.system, escape(page.title));
        let _ = write!(sections, "<section id=\"{id}\">\n<h2>{title}</h2>\n");
        if blocks.is_empty() {
            let _ = writeln!(sections, "<p class=\"quiet\">Not measured yet.</p>");
        }
        blocks.iter().for_each(|block| sections.push_str(&markup(block)));
        let _ = write!(
            sections,
            "<p class=\"meta\">The same on your machine: \
             <code>cargo run --release -- compare {id}</code></p>\n</section>\n"
        );
    }
    let index: String = pages
        .iter()
        .map(|page| format!("<a href=\"#{}\">{}</a>\n", page.system, escape(page.title)))
        .collect();
    let main =
        asset("comparisons.html").replace("{{index}}", &index).replace("{{sections}}", &sections);
    frame("Comparisons", "/comparisons", &main, &[])
}

/// What the first comparison of a system says of its first subject: `token-bucket: 14.6M/s`.
pub(super) fn headline(system: &str) -> Option<String> {
    let blocks = blocks(system);
    let row = blocks.iter().find_map(|block| rows(block).nth(1))?;
    Some(format!("{}: {}", row.first()?, row.get(1)?))
}

fn blocks(system: &str) -> Vec<Block<'static>> {
    let readme = READMES.iter().find(|(name, _)| *name == system).map_or("", |(_, text)| text);
    let mut blocks = Vec::new();
    let mut open: Option<Block<'static>> = None;
    for line in readme.lines() {
        if let Some(head) = line.strip_prefix("<!-- generated: ") {
            let name = head.split_whitespace().next().unwrap_or_default();
            open = Some(Block { name, lines: Vec::new() });
        } else if line.starts_with("<!-- /generated") {
            blocks.extend(open.take());
        } else if let Some(block) = &mut open {
            block.lines.push(line);
        }
    }
    blocks
}

/// The cells of every row of the block's table, the head first.
fn rows<'a>(block: &Block<'a>) -> impl Iterator<Item = Vec<&'a str>> {
    let is_rule = |line: &str| line.chars().all(|letter| "|-: ".contains(letter));
    let lines = block.lines.clone().into_iter();
    lines
        .filter(move |line| line.starts_with('|') && !is_rule(line))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

fn markup(block: &Block<'_>) -> String {
    let (_, title) = block.name.split_once('/').unwrap_or(("", block.name));
    let mut out = format!("<h3 class=\"comparison\">{}</h3>\n", escape(&title.replace('-', " ")));
    let rows: Vec<_> = rows(block).collect();
    let is_table = |line: &&str| line.starts_with('|');
    let before = block.lines.iter().take_while(|line| !is_table(line));
    before.for_each(|line| out.push_str(&paragraph(line)));
    if let Some((head, body)) = rows.split_first() {
        out.push_str(&table(title, head, body));
    }
    let after = block.lines.iter().skip(block.lines.iter().take_while(|l| !is_table(l)).count());
    after.filter(|line| !is_table(line)).for_each(|line| out.push_str(&paragraph(line)));
    out
}

fn paragraph(line: &str) -> String {
    match line.trim() {
        "" => String::new(),
        text => format!("<p class=\"meta\">{}</p>\n", inline(text)),
    }
}

fn table(title: &str, head: &[&str], body: &[Vec<&str>]) -> String {
    let ratios: Vec<Option<f64>> = body.iter().map(|row| ratio(row.last()?)).collect();
    let longest = ratios.iter().flatten().copied().fold(0.0, f64::max);
    let mut out = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\">\n<table>\n\
         <thead><tr>",
        escape(title)
    );
    head.iter().for_each(|cell| out.push_str(&format!("<th scope=\"col\">{}</th>", inline(cell))));
    if longest > 0.0 {
        out.push_str("<td></td>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for (row, ratio) in body.iter().zip(&ratios) {
        out.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let (open, close) =
                if at == 0 { ("<th scope=\"row\">", "</th>") } else { ("<td>", "</td>") };
            let _ = write!(out, "{open}{}{close}", inline(cell));
        }
        if longest > 0.0 {
            let width = ratio.map_or(0.0, |ratio| 100.0 * ratio / longest);
            // Only repeats the ratio beside it, so nothing is lost on who cannot see it.
            let _ = write!(
                out,
                "<td><svg class=\"ratio\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" \
                 aria-hidden=\"true\"><rect width=\"{width:.1}\" height=\"10\"/></svg></td>"
            );
        }
        out.push_str("</tr>\n");
    }
    out + "</tbody>\n</table>\n</div>\n"
}

/// `1.31x [1.14, 1.54]` and `1 (baseline)` as a number.
fn ratio(cell: &str) -> Option<f64> {
    let first = cell.split_whitespace().next()?;
    let is_baseline = cell.contains("baseline");
    let number = first.strip_suffix('x').or(is_baseline.then_some(first))?;
    number.parse().ok()
}

/// Text with `code` and **bold** in Markdown's way.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in escape(text).split('`').enumerate() {
        match at % 2 {
            0 => out.push_str(&part.replace("**", "")),
            _ => out.push_str(&format!("<code>{part}</code>")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_read_and_other_cells_are_not() {
        assert_eq!(ratio("1.31x [1.14, 1.54]"), Some(1.31));
        assert_eq!(ratio("1 (baseline)"), Some(1.0));
        assert_eq!(ratio("68 ns"), None);
        assert_eq!(ratio(""), None);
    }

    #[test]
    fn a_block_becomes_a_table_with_a_bar_for_each_ratio() {
        let lines = vec![
            "load `x`",
            "",
            "| subject | vs |",
            "|---|--:|",
            "| <a> | 2x |",
            "| b | 1 (baseline) |",
        ];
        let html = markup(&Block { name: "s/one-thread", lines });
        assert!(html.contains("one thread</h3>\n<p class=\"meta\">load <code>x</code></p>"));
        assert!(html.contains("<th scope=\"row\">&lt;a&gt;</th>"), "{html}");
        assert!(html.contains("<rect width=\"100.0\"") && html.contains("<rect width=\"50.0\""));
    }

    #[test]
    fn the_rate_limiter_has_comparisons_and_a_headline() {
        assert!(blocks("rate-limiter").len() > 3);
        let headline = headline("rate-limiter").expect("a first row");
        assert!(headline.contains("/s"), "{headline}");
    }
}
