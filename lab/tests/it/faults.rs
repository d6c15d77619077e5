//! The page with every fault switch: what is switched there happens, and shows where it happens.

use serde_json::json;

use crate::browser::{self, Tab};
use crate::running::Lab;

/// A switch by its place, and how it stands.
async fn turns(tab: &mut Tab, selector: &str, on: bool) {
    tab.eval(&format!("document.querySelector('{selector}').click()")).await;
    let pressed = format!("document.querySelector('{selector}').ariaPressed === '{on}'");
    tab.wait(&format!("{selector} is {on}"), &pressed).await;
}

#[tokio::test]
async fn faults_are_switched_in_one_place() {
    let Some((lab, mut tab)) = browser::visit("/faults", 1000).await else { return };
    let server = "[data-key=server-A]";
    tab.wait("the servers are there", &format!("document.querySelector('{server}')")).await;
    turns(&mut tab, server, true).await;
    turns(&mut tab, "[data-person=bob] [data-key=partition]", true).await;
    tab.screenshot("faults.png").await;

    // The system's own page says the same.
    tab.goto(&lab.url("/chat-service/")).await;
    let status = "document.querySelector('#status').textContent";
    tab.wait("it shows there", &format!("{status} === 'Server A was killed.'")).await;
    tab.goto(&lab.url("/faults")).await;
    tab.wait(
        "it is still so",
        &format!("document.querySelector('{server}')?.ariaPressed === 'true'"),
    )
    .await;
    turns(&mut tab, server, false).await;
    turns(&mut tab, "[data-person=bob] [data-key=partition]", false).await;

    if infra::found().await.redis.is_usable() {
        redis_is_broken_from_there(&lab, &mut tab).await;
    } else {
        eprintln!("NOT RUN: the part with Redis, because there is none on this machine");
    }
    tab.must_be_clean(&lab.url("")).await;
}

async fn redis_is_broken_from_there(lab: &Lab, tab: &mut Tab) {
    let switches = "document.querySelector('#redis-faults')";
    assert_eq!(tab.eval(&format!("{switches}.disabled")).await, true, "nothing to break yet");
    let settings = json!({
        "algorithm": "token-bucket", "store": "redis", "rate": 50, "per_ms": 1000, "burst": 100,
        "on_store_failure": "local", "requests_per_s": 50, "callers": 1, "hot_percent": 0,
    });
    let (status, problem) = lab.json("POST", "/rate-limiter/lab/traffic", Some(&settings)).await;
    assert_eq!(status, 204, "{problem}");
    tab.wait("Redis can be broken", &format!("!{switches}.disabled")).await;
    turns(tab, "[data-fault=redis-down]", true).await;
    tab.goto(&lab.url("/rate-limiter/")).await;
    tab.wait("the fault is on its chart", "document.querySelector('.fault-name')").await;
    tab.goto(&lab.url("/faults")).await;
    let on = "document.querySelector('[data-fault=redis-down]').ariaPressed === 'true'";
    tab.wait("it is still so", on).await;
    turns(tab, "[data-fault=redis-down]", false).await;
}
