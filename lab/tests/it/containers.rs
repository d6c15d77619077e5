//! The container files, as far as they can be checked without an engine: the health check runs, the
//! dashboard asks for metrics that exist, and every service is pinned, bounded and watched.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use testkit::wait_until;
use tokio::process::Command;

use crate::running::{LIMIT, Lab};

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The words of the Dockerfile's HEALTHCHECK.
fn health_check() -> Vec<String> {
    let dockerfile = file("Dockerfile");
    let (_, after) = dockerfile.split_once("HEALTHCHECK").expect("there is a health check");
    let (_, words) = after.split_once("CMD ").expect("it has a command");
    let line = words.lines().next().unwrap_or_default();
    serde_json::from_str(line).expect("the command is a list of strings")
}

#[tokio::test]
async fn the_health_check_of_the_image_says_yes_and_no() {
    let lab = Lab::start().await;
    let port = lab.address.port().to_string();
    let words: Vec<_> = health_check().iter().map(|word| word.replace("8080", &port)).collect();
    let check = || async {
        let run = Command::new(&words[0]).args(&words[1..]).output().await;
        run.expect("the check can be run").status.success()
    };
    assert!(check().await, "{words:?} says that a healthy lab is not");
    drop(lab);
    assert!(!check().await, "{words:?} says that a lab is healthy that is gone");
}

/// Names of metrics in the dashboard's expressions.
fn metrics_asked_for() -> BTreeSet<String> {
    let dashboard: Value =
        serde_json::from_str(&file("docker/grafana/dashboards/lab.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let words = targets.flat_map(|target| {
        let expression = target["expr"].as_str().expect("an expression");
        expression.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_')
    });
    let ends = ["_total", "_bucket", "_sum", "_count"];
    words.filter(|word| ends.iter().any(|end| word.ends_with(end))).map(str::to_owned).collect()
}

#[tokio::test]
async fn every_metric_of_the_dashboard_exists() {
    let asked_for = metrics_asked_for();
    assert!(asked_for.len() >= 5, "{asked_for:?}");
    let lab = Lab::start().await;
    let policy = json!({"limits": [{"algorithm": "gcra", "rate": 5, "per_ms": 1_000}]});
    lab.ask("PUT", "/rate-limiter/v1/policies/seen", &[], Some(&policy)).await;
    let check = json!({"policy": "seen", "key": "ann"});
    lab.ask("POST", "/rate-limiter/v1/check", &[], Some(&check)).await;
    let link = json!({"url": "https://example.com/"});
    lab.ask("POST", "/url-shortener/v1/links", &[], Some(&link)).await;
    wait_until(&format!("/metrics has {asked_for:?}"), LIMIT, || async {
        let (_, _, body) = lab.ask("GET", "/metrics", &[], None).await;
        let body = String::from_utf8_lossy(&body).into_owned();
        let there = |name: &String| body.lines().any(|line| line.starts_with(name.as_str()));
        asked_for.iter().all(there)
    })
    .await;
}

#[test]
fn every_service_is_pinned_bounded_and_watched() {
    let compose = file("docker-compose.yml");
    let (_, services) = compose.split_once("\nservices:\n").expect("services");
    let (services, _) = services.split_once("\nvolumes:\n").expect("volumes come last");
    // A service begins with two spaces and its name; `{ <<: *redis-node, .. }` takes all from there.
    let mut blocks: Vec<(String, String)> = Vec::new();
    for line in services.lines() {
        match line.strip_prefix("  ").filter(|rest| rest.starts_with(char::is_alphabetic)) {
            Some(head) => blocks.push((head.to_owned(), String::new())),
            None => {
                let (_, body) = blocks.last_mut().expect("a name comes first");
                body.push_str(line);
                body.push('\n');
            }
        }
    }
    assert!(blocks.len() >= 10, "{blocks:?}");
    for (head, body) in blocks {
        let whole = format!("{head}\n{body}");
        if whole.contains("<<: *redis-node") {
            continue; // the anchor is checked below
        }
        assert!(whole.contains("mem_limit: "), "{head} has no memory limit");
        let own_image = whole.contains("build: .");
        assert!(own_image || whole.contains("healthcheck:"), "{head} has no health check");
    }
    let (_, anchor) = compose.split_once("x-redis-node:").expect("the anchor");
    assert!(anchor.contains("mem_limit: 128m"));
    for image in compose.lines().filter_map(|line| line.trim().strip_prefix("image: ")) {
        let default = image.strip_prefix("${").and_then(|image| image.split_once(":-"));
        let (_, default) = default.unwrap_or_else(|| panic!("{image} is not a variable"));
        let tag = default.trim_end_matches('}').rsplit_once(':').expect("a tag").1;
        let ours = image.contains("LAB_IMAGE");
        assert!(ours || tag != "latest", "{image} is not pinned");
    }
}
