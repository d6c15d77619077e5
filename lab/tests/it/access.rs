//! Every page for everybody: axe-core, which checks what a program can check of WCAG, finds nothing
//! serious, on a desk and on a phone, in light and in dark.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::browser::{self, Tab};
use crate::running::Lab;

/// Where `cargo x setup` puts it, below the workspace.
const INSTALLED: &str = "../target/axe/node_modules/axe-core/axe.min.js";

const PAGES: [&str; 10] = [
    "/",
    "/questions",
    "/faults",
    "/comparisons",
    "/rate-limiter/",
    "/lru-cache/",
    "/url-shortener/",
    "/job-queue/",
    "/inventory-locking/",
    "/chat-service/",
];

/// The serious and critical ones, each with the elements it is about.
const VIOLATIONS: &str = "axe.run().then(({ passes, violations }) => (passes.length ? violations : \
    [{ impact: 'serious', id: 'nothing was checked', help: '', nodes: [] }]).filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) => \
    `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html).slice(0, 3).join(' ')}`))";

/// `TEST_AXE=absent` says that it cannot be had here, which is said aloud.
fn axe() -> Option<String> {
    if std::env::var_os("TEST_AXE").is_some_and(|given| given == "absent") {
        eprintln!("NOT RUN: there is no axe-core on this machine (TEST_AXE=absent)");
        return None;
    }
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(INSTALLED);
    let script = std::fs::read_to_string(&path);
    Some(script.unwrap_or_else(|error| {
        panic!("{}: {error}: run `cargo x setup`, or set TEST_AXE=absent", path.display())
    }))
}

#[tokio::test]
async fn no_page_has_a_serious_barrier() {
    let (Some(program), Some(axe)) = (browser::found(), axe()) else { return };
    let lab = Lab::start().await;
    let mut tab = Tab::open(&program).await;
    let mut barriers = Vec::new();
    for (width, mobile, scheme) in [(1280, false, "light"), (390, true, "dark")] {
        tab.resize(width, 900, mobile).await;
        tab.prefer(scheme).await;
        for page in PAGES {
            tab.goto(&lab.url(page)).await;
            tab.eval(&format!("{axe}; undefined")).await;
            let found = tab.eval(VIOLATIONS).await;
            let found = found.as_array().expect("axe returns a list");
            let told = found.iter().filter_map(Value::as_str);
            barriers.extend(told.map(|barrier| format!("{page} at {width}: {barrier}")));
        }
    }
    assert!(barriers.is_empty(), "{barriers:#?}");
}

/// The check above is only worth something if it can say no.
#[tokio::test]
async fn a_barrier_is_found() {
    let (Some(program), Some(axe)) = (browser::found(), axe()) else { return };
    let lab = Lab::start().await;
    let mut tab = Tab::open(&program).await;
    tab.goto(&lab.url("/questions")).await;
    tab.eval("document.querySelectorAll('label').forEach((label) => label.remove())").await;
    tab.eval("document.querySelector('main').append(document.createElement('select'))").await;
    tab.eval(&format!("{axe}; undefined")).await;
    let found = tab.eval(VIOLATIONS).await.to_string();
    assert!(found.contains("select-name"), "{found}");
}
