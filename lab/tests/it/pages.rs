//! The console in a browser, as a person uses it.

use std::path::Path;

use serde_json::json;

use crate::browser::{self, Tab};
use crate::running::Lab;
use crate::stopping::SLOW_QUESTION;

const RUNNING: &str = "!document.querySelector('#stop').disabled";
const SEEN_BOTH: &str = "['allowed', 'denied'].every((key) => \
    Number(document.querySelector(`#figure-${key}`).textContent.replace(',', '')) > 0)";

fn row(source: &str) -> String {
    format!(
        "[...document.querySelectorAll('#sources tr')].find((row) => \
         row.cells[0].textContent === '{source}')"
    )
}

fn set(field: &str, value: &str) -> String {
    format!("void (document.querySelector('#settings').elements['{field}'].value = '{value}')")
}

fn click(selector: &str) -> String {
    format!("document.querySelector('{selector}').click()")
}

#[tokio::test]
async fn traffic_is_seen_live_and_a_killed_redis_shows() {
    let Some((lab, mut tab)) = browser::visit("/rate-limiter/", 1130).await else { return };
    tab.wait("the page is told how things stand", "document.querySelector('#redis').textContent")
        .await;
    tab.eval(&click("#start")).await;
    tab.wait("traffic runs", RUNNING).await;
    tab.wait("allowed and denied requests show", SEEN_BOTH).await;
    tab.eval(&click("[data-show=denied]")).await;
    let response = "document.querySelector('#response').textContent";
    tab.wait(
        "a real denial shows",
        &format!("{response}.includes('HTTP/1.1 429') && {response}.includes('retry-after:')"),
    )
    .await;

    if infra::found().await.redis.is_usable() {
        redis_dies_and_comes_back(&mut tab).await;
    } else {
        eprintln!("NOT RUN: the part with Redis, because there is none on this machine");
    }
    keep_screenshot(&mut tab).await;
    tab.eval(&click("#stop")).await;
    tab.wait("traffic ended", &format!("!({RUNNING})")).await;
    tab.must_be_clean(&lab.url("")).await;
}

async fn redis_dies_and_comes_back(tab: &mut Tab) {
    tab.eval(&set("store", "redis")).await;
    tab.eval(&click("#start")).await;
    let switches = "!document.querySelector('#faults').disabled";
    tab.wait("Redis runs and can be broken", switches).await;
    let by_store = format!("{} && {SEEN_BOTH}", row("store"));
    tab.wait("Redis decides", &by_store).await;
    if is_for_the_readme() {
        tab.wait("the chart has a past", &total_above("store", 3_000)).await;
    }
    tab.eval(&click("[data-fault=redis-down]")).await;
    let down = "document.querySelector('[data-fault=redis-down]').ariaPressed === 'true' && \
                document.querySelector('.fault-name')";
    tab.wait("the fault is marked on the chart", down).await;
    tab.wait("this server decides alone", &row("local-share")).await;
    if is_for_the_readme() {
        tab.wait("the outage lasts", &total_above("local-share", 2_000)).await;
    }
    tab.eval(&click("[data-fault=redis-down]")).await;
    let healed = "document.querySelector('[data-fault=redis-down]').ariaPressed === 'false'";
    tab.wait("Redis is back", healed).await;
    let decides_again = format!("{}.cells[2].textContent !== '0'", row("store"));
    tab.wait("Redis decides again", &decides_again).await;
    if is_for_the_readme() {
        tab.wait("the chart shows the recovery", &total_above("store", 6_000)).await;
    }
}

/// `cargo test -p lab` with this set refreshes `lab/screenshot.png`, with a longer scene.
fn is_for_the_readme() -> bool {
    std::env::var_os("LAB_SCREENSHOT").is_some()
}

fn total_above(source: &str, requests: u32) -> String {
    format!("Number({}?.cells[3].textContent.replace(',', '')) > {requests}", row(source))
}

async fn keep_screenshot(tab: &mut Tab) {
    let kept = tab.screenshot("rate-limiter.png").await;
    if is_for_the_readme() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("screenshot.png");
        std::fs::copy(kept, readme).expect("the screenshot can be written");
    }
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let Some((lab, mut tab)) = browser::visit("/rate-limiter/", 1000).await else { return };
    tab.press("Tab").await;
    let focused = "document.activeElement.className";
    assert_eq!(tab.eval(focused).await, "skip", "the first stop leads past the navigation");
    tab.press("Enter").await;
    tab.wait("the content has the focus", "document.activeElement.id === 'main'").await;
    tab_to(&mut tab, "#start").await;
    tab.press("Enter").await;
    tab.wait("traffic runs", RUNNING).await;
    tab.wait("allowed and denied requests show", SEEN_BOTH).await;
    tab_to(&mut tab, "#stop").await;
    tab.press(" ").await;
    tab.wait("traffic ended", &format!("!({RUNNING})")).await;
    tab_to(&mut tab, "[data-show=denied]").await;
    tab.press("Enter").await;
    let pressed = "document.querySelector('[data-show=denied]').ariaPressed === 'true'";
    tab.wait("the other response is chosen", pressed).await;
    tab.must_be_clean(&lab.url("")).await;
}

/// Presses Tab until `selector` has the focus; every stop on the way must be visible.
async fn tab_to(tab: &mut Tab, selector: &str) {
    for _ in 0..60 {
        tab.press("Tab").await;
        let outline = tab.eval("getComputedStyle(document.activeElement).outlineStyle").await;
        let at = tab.eval("document.activeElement.outerHTML.slice(0, 120)").await;
        assert_ne!(outline, "none", "the focus shows on {at}");
        if tab.eval(&format!("document.activeElement.matches('{selector}')")).await == true {
            return;
        }
    }
    panic!("{selector} cannot be reached with Tab");
}

#[tokio::test]
async fn a_wrong_value_is_marked_at_its_field() {
    let Some((_lab, mut tab)) = browser::visit("/rate-limiter/", 1000).await else { return };
    for (field, value, says) in
        [("requests_per_s", "5001", "must be 1 to 5000"), ("rate", "0", "must be at least 1")]
    {
        tab.eval(&set(field, value)).await;
        tab.eval(&click("#start")).await;
        let invalid = format!("document.querySelector('[name={field}][aria-invalid=true]')");
        tab.wait(&format!("{field} is marked"), &invalid).await;
        let described = format!(
            "document.getElementById({invalid}.getAttribute('aria-describedby')).textContent"
        );
        let text = tab.eval(&described).await;
        assert!(text.as_str().unwrap_or_default().contains(says), "{text}");
        assert_eq!(tab.eval("document.activeElement.name").await, field, "it has the focus");
        tab.eval(&set(field, "10")).await;
    }
    assert_eq!(tab.eval(RUNNING).await, false);
    tab.eval(&click("#start")).await;
    tab.wait("what was wrong is forgotten", "!document.querySelector('[aria-invalid]')").await;
    // The browser itself writes refused requests to its console: two, and nothing else.
    tab.eval("1").await;
    assert!(
        tab.complaints.iter().all(|complaint| complaint.contains("422")),
        "{:?}",
        tab.complaints
    );
    assert_eq!(tab.complaints.len(), 2, "{:?}", tab.complaints);
}

#[tokio::test]
async fn a_question_shows_its_telling_and_can_be_stopped() {
    let Some((lab, mut tab)) = browser::visit("/questions", 1000).await else { return };
    let article = format!("document.querySelector(\"[data-question='{SLOW_QUESTION}']\")");
    let prediction = format!("{article}.querySelector('textarea')");
    tab.eval(&format!(
        "{prediction}.value = 'the limit holds'; {prediction}.dispatchEvent(new Event('input'))"
    ))
    .await;
    for _ in 0..2 {
        // The second time proves that stopping gave the place back.
        tab.eval(&format!("{article}.querySelector('[data-run]').click()")).await;
        let told = format!("{article}.querySelectorAll('[data-log] dt').length >= 2");
        tab.wait("the telling begins", &told).await;
        let open = format!("{article}.querySelector('details').open");
        assert_eq!(tab.eval(&open).await, false, "the explanation stays folded");
        tab.eval(&format!("{article}.querySelector('[data-stop]').click()")).await;
        let verdict = format!("{article}.querySelector('[data-verdict]').textContent");
        tab.wait("it says that it was stopped", &format!("{verdict} === 'stopped'")).await;
    }
    tab.goto(&lab.url("/questions")).await;
    assert_eq!(tab.eval(&format!("{prediction}.value")).await, "the limit holds");
    tab.screenshot("questions.png").await;
    tab.must_be_clean(&lab.url("")).await;
}

#[tokio::test]
async fn a_question_is_told_to_its_end_with_its_verdict() {
    let Some(program) = browser::found() else { return };
    let lab = Lab::start().await;
    let mut tab = Tab::open(&program).await;
    tab.resize(1280, 1180, false).await;
    let question = if is_for_the_readme() {
        "rate-limiter/redis-dies"
    } else {
        "rate-limiter/window-edge-burst"
    };
    tab.goto(&lab.url("/questions")).await;
    let article = format!("document.querySelector(\"[data-question='{question}']\")");
    tab.eval(&format!("{article}.querySelector('[data-run]').click()")).await;
    let verdict = format!("{article}.querySelector('[data-verdict]').textContent");
    tab.wait("its verdict", &format!("{verdict}.includes('expectations held')")).await;
    let words =
        format!("[...{article}.querySelectorAll('[data-log] dt')].map((dt) => dt.textContent)");
    let words = tab.eval(&words).await;
    for word in ["scene", "holds", "because"] {
        assert!(words.as_array().unwrap().contains(&json!(word)), "{words}");
    }
    let passed = format!("{article}.querySelector('[data-verdict]').classList.contains('allowed')");
    assert_eq!(tab.eval(&passed).await, !words.as_array().unwrap().contains(&json!("BROKEN")));
    assert_eq!(tab.eval(&format!("{article}.querySelector('details').open")).await, true);
    tab.eval(&format!("{article}.scrollIntoView()")).await;
    tab.screenshot("question-told.png").await;
    tab.must_be_clean(&lab.url("")).await;
}

#[tokio::test]
async fn every_system_that_speaks_http_describes_itself_and_nobody_else() {
    let lab = Lab::start().await;
    for system in
        ["rate-limiter", "url-shortener", "job-queue", "inventory-locking", "chat-service"]
    {
        let (_, document) = lab.json("GET", &format!("/{system}/openapi.json"), None).await;
        let info = &document["info"];
        assert_eq!((&info["title"], info.get("contact")), (&system.into(), None), "{info}");
        assert_eq!(info.get("description"), None, "{info}");
    }
}

#[tokio::test]
async fn the_chart_of_a_question_marks_its_faults() {
    let Some(program) = browser::found() else { return };
    if !infra::found().await.redis.is_usable() {
        eprintln!("NOT RUN: there is no Redis on this machine to kill");
        return;
    }
    let lab = Lab::start().await;
    let mut tab = Tab::open(&program).await;
    tab.resize(1280, 1180, false).await;
    tab.goto(&lab.url("/questions")).await;
    let article = "document.querySelector(\"[data-question='rate-limiter/redis-dies']\")";
    tab.eval(&format!("{article}.querySelector('[data-run]').click()")).await;
    let marked = format!("{article}.querySelector('[data-chart] svg .fault-name')?.textContent");
    tab.wait("the fault has its name on the chart", &marked).await;
    assert_eq!(tab.eval(&marked).await, "redis-down");
    let line = format!("{article}.querySelectorAll('[data-chart] svg polyline').length > 0");
    tab.wait("what happened is drawn", &line).await;
    tab.eval(&format!("{article}.scrollIntoView()")).await;
    tab.screenshot("question-fault.png").await;
    tab.eval(&format!("{article}.querySelector('[data-stop]').click()")).await;
    tab.must_be_clean(&lab.url("")).await;
}

#[tokio::test]
async fn every_page_fits_a_phone_in_both_themes_and_names_its_controls() {
    let Some(program) = browser::found() else { return };
    let lab = Lab::start().await;
    let mut tab = Tab::open(&program).await;
    let mut pages = vec!["/".to_owned(), "/questions".to_owned(), "/faults".to_owned()];
    pages.extend(benches::systems().iter().map(|system| format!("/{}/", system.name)));
    for page in pages {
        for scheme in ["light", "dark"] {
            tab.prefer(scheme).await;
            tab.resize(360, 780, true).await;
            tab.goto(&lab.url(&page)).await;
            let wide = tab.eval("document.documentElement.scrollWidth").await;
            assert_eq!(wide, json!(360), "{page} can be scrolled sideways");
            let name = page.trim_matches('/').replace('/', "-");
            tab.screenshot(&format!("phone-{name}-{scheme}.png")).await;
        }
        let unnamed = unnamed_controls(&mut tab).await;
        assert!(unnamed.is_empty(), "{page}: {unnamed:#?}");
        let duplicates = "[...document.querySelectorAll('[id]')].map((node) => node.id)\
            .filter((id, index, all) => all.indexOf(id) !== index)";
        assert_eq!(tab.eval(duplicates).await, json!([]), "{page} has an id twice");
    }
    tab.must_be_clean(&lab.url("")).await;
}

/// Controls that a screen reader could not name, from the browser's own accessibility tree.
async fn unnamed_controls(tab: &mut Tab) -> Vec<String> {
    let tree = tab.call("Accessibility.getFullAXTree", json!({})).await;
    let nodes = tree["nodes"].as_array().expect("a tree of nodes");
    let roles = ["button", "link", "textbox", "spinbutton", "combobox", "checkbox", "image"];
    let is_control = |node: &&serde_json::Value| {
        node["ignored"] == false && roles.iter().any(|role| node["role"]["value"] == *role)
    };
    let mut controls = nodes.iter().filter(is_control).peekable();
    assert!(controls.peek().is_some(), "the tree has controls");
    let unnamed = controls.filter(|node| node["name"]["value"].as_str().unwrap_or("").is_empty());
    unnamed.map(ToString::to_string).collect()
}

#[tokio::test]
async fn the_theme_can_be_chosen_and_is_kept() {
    let Some((lab, mut tab)) = browser::visit("/", 1000).await else { return };
    let paper = "getComputedStyle(document.body).backgroundColor";
    let light = tab.eval(paper).await;
    tab.eval("document.querySelector('#theme').click()").await; // light
    tab.eval("document.querySelector('#theme').click()").await; // dark
    assert_ne!(tab.eval(paper).await, light);
    tab.goto(&lab.url("/questions")).await;
    assert_ne!(tab.eval(paper).await, light, "the next page has it too");
    tab.goto(&lab.url("/")).await;
    tab.wait("its services are asked", "document.querySelector('[data-state=ready]')").await;
    tab.screenshot("home-dark.png").await;
    tab.must_be_clean(&lab.url("")).await;
}
