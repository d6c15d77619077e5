//! A reader who is done sees every promise kept and a row of their own, in each system.

use std::process::Command;

fn graded(system: &str, arguments: &[&str]) -> String {
    // Results are written below the directory it runs in.
    let home = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_practice-answered"))
        .arg(system)
        .args(arguments)
        .current_dir(home.path())
        .output()
        .expect("the grader can be run");
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{system}:\n{page}\n{errors}");
    assert!(!page.contains("BROKEN") && !page.contains("to do"), "{page}");
    page
}

/// All promises, then the reader's row beside one of ours.
fn is_beside(system: &str, ours: &str) {
    let page = graded(system, &[]);
    let (promises, compared) = page.split_once("Every promise is kept.").expect("it goes on");
    let kept = promises.lines().rfind(|line| line.ends_with("promises kept")).unwrap_or_default();
    let (some, all) = kept.trim_end_matches(" promises kept").split_once(" of ").expect(kept);
    assert_eq!(some, all, "{page}");
    for row in [ours, "yours"] {
        let is_row = |line: &str| line.trim_start().starts_with(row);
        assert!(compared.lines().any(is_row), "no row {row}:\n{compared}");
    }
}

#[test]
fn a_rate_limiter_that_is_done_is_compared() {
    is_beside("rate-limiter", "memory");
}

#[test]
fn a_cache_that_is_done_is_compared() {
    is_beside("lru-cache", "SmallestLru");
}

#[test]
fn a_shortener_that_is_done_is_compared() {
    is_beside("url-shortener", "memory");
}

#[test]
fn a_queue_that_is_done_is_compared() {
    is_beside("job-queue", "memory");
}

#[test]
fn an_inventory_that_is_done_is_compared() {
    is_beside("inventory-locking", "memory");
}

#[test]
fn a_message_store_that_is_done_is_compared() {
    is_beside("chat-service", "memory");
}

#[test]
fn who_only_wants_to_know_how_far_they_are_waits_for_no_comparison() {
    let page = graded("lru-cache", &["--promises-only"]);
    assert!(page.trim_end().ends_with("promises kept"), "{page}");
}
