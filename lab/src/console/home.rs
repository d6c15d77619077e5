//! The home page: the six questions, what each runs on, whether it is up, and where to go.

use super::comparisons;
use super::html::{asset, escape, frame};
use crate::pages::Page;

/// Built once: what it shows of a system does not change while the lab runs. Health is asked by
/// the page itself.
pub(super) fn page(pages: &[Page]) -> String {
    let systems: String = pages.iter().map(entry).collect();
    frame(
        "Working answers",
        "/",
        &asset("home.html").replace("{{systems}}", &systems),
        &["home.js"],
    )
}

fn entry(page: &Page) -> String {
    let built = page.router.is_some();
    let (system, title) = (page.system, escape(page.title));
    let stored_on =
        if built { format!("<span>{}</span>", escape(&page.stored_on)) } else { String::new() };
    let health = if built {
        format!("<span class=\"health\" data-health=\"/{system}/readyz\">asking</span>")
    } else {
        "<span class=\"health\">not built yet</span>".to_owned()
    };
    let questions = benches::system(system).map_or(0, |system| system.questions.len());
    let questions = match questions {
        0 => String::new(),
        1 => format!("<a href=\"/questions#{system}\">1 follow-up question</a>"),
        n => format!("<a href=\"/questions#{system}\">{n} follow-up questions</a>"),
    };
    let headline = comparisons::headline(system).map(|figure| {
        format!("<a href=\"/comparisons#{system}\">measured: {}</a>", escape(&figure))
    });
    format!(
        "<li class=\"entry\">\n<h2><a href=\"/{system}/\">{title}</a></h2>\n\
         <p class=\"asks\">{question}</p>\n\
         <p class=\"meta\">{health}{stored_on}{questions}{headline}</p>\n</li>\n",
        headline = headline.unwrap_or_default(),
        question = escape(page.question),
    )
}
