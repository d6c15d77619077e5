//! Pages as text: one frame around every page, and the two helpers a template needs.

use super::assets;
use crate::pages::Page;

/// The frame with its holes filled. `main` is markup of ours, everything else is text.
pub(crate) fn frame(title: &str, here: &str, main: &str, scripts: &[&str]) -> String {
    let scripts: String = scripts
        .iter()
        .map(|name| format!("<script type=\"module\" src=\"/assets/{name}\"></script>\n"))
        .collect();
    let current = |path: &str| if path == here { " aria-current=\"page\"" } else { "" };
    asset("frame.html")
        .replace("{{title}}", &escape(title))
        .replace("{{home}}", current("/"))
        .replace("{{questions}}", current("/questions"))
        .replace("{{comparisons}}", current("/comparisons"))
        .replace("{{faults}}", current("/faults"))
        .replace("{{scripts}}", &scripts)
        .replace("{{main}}", main)
}

/// The page of a system: its template, or an honest word where there is none yet.
pub(crate) fn page_of_system(page: &Page) -> String {
    let script = format!("{}.js", page.system);
    let built = page.router.is_some().then(|| assets::text(&format!("{}.html", page.system)));
    let built = built.flatten();
    let body = built.clone().unwrap_or_else(|| asset("not-built.html"));
    let main = asset("system.html")
        .replace("{{body}}", &body)
        .replace("{{system}}", page.system)
        .replace("{{title}}", &escape(page.title))
        .replace("{{question}}", &escape(page.question))
        .replace("{{stored_on}}", &escape(&page.stored_on));
    let scripts: &[&str] =
        if built.is_some() && assets::text(&script).is_some() { &[&script] } else { &[] };
    frame(page.title, page.system, &main, scripts)
}

/// A template of this crate.
pub(crate) fn asset(name: &str) -> String {
    assets::text(name).expect("templates are embedded at build time")
}

/// Text as markup that shows it.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
