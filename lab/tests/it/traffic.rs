//! The rate limiter's page over HTTP: what it refuses, and what its traffic does.

use serde_json::{Value, json};

use crate::running::{Events, Lab, program};

const TRAFFIC: &str = "/rate-limiter/lab/traffic";
const EVENTS: &str = "/rate-limiter/lab/events";

/// Settings under which some requests are allowed and some denied.
pub(crate) fn settings() -> Value {
    json!({
        "algorithm": "token-bucket", "store": "in-process", "rate": 10, "per_ms": 1000,
        "burst": 20, "on_store_failure": "local", "requests_per_s": 200, "callers": 5,
        "hot_percent": 50,
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut settings = settings();
    settings[field] = value;
    settings
}

#[tokio::test]
async fn what_is_wrong_with_the_settings_is_said_by_field_and_changes_nothing() {
    let lab = Lab::start().await;
    for (field, value, pointer) in [
        ("requests_per_s", json!(0), "/requests_per_s"),
        ("requests_per_s", json!(5001), "/requests_per_s"),
        ("requests_per_s", json!(-1), "/requests_per_s"),
        ("requests_per_s", json!(null), "/requests_per_s"),
        ("callers", json!(0), "/callers"),
        ("callers", json!(100_001), "/callers"),
        ("hot_percent", json!(101), "/hot_percent"),
        ("rate", json!(0), "/limits/0/rate"),
        ("per_ms", json!(0), "/limits/0/per_ms"),
        ("burst", json!(0), "/limits/0/burst"),
        ("algorithm", json!("magic"), "/algorithm"),
        ("store", json!("disk"), "/store"),
    ] {
        let (status, problem) = lab.json("POST", TRAFFIC, Some(&with(field, value.clone()))).await;
        assert_eq!(status, 422, "{field} {value}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{field} {value}: {problem}");
    }
    let fixed_window = with("algorithm", json!("fixed-window"));
    let (status, problem) = lab.json("POST", TRAFFIC, Some(&fixed_window)).await;
    assert_eq!(
        (status.as_u16(), &problem["errors"][0]["pointer"]),
        (422, &json!("/limits/0/burst"))
    );
    let (_, policies) = lab.json("GET", "/rate-limiter/v1/policies", None).await;
    assert_eq!(policies, json!([]), "no policy came of it");
    let switch = json!({ "on": true });
    let fault = lab.json("PUT", "/rate-limiter/lab/faults/redis-down", Some(&switch)).await;
    assert_eq!(fault.0, 409, "there is no Redis to break yet");
    let (status, _) = lab.json("PUT", "/rate-limiter/lab/faults/flood", Some(&switch)).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn traffic_is_real_is_limited_and_ends_when_nobody_watches() {
    let lab = Lab::start().await;
    let mut events = Events::of(lab.open("GET", EVENTS, &[], None).await);
    let (status, _) = lab.json("POST", TRAFFIC, Some(&settings())).await;
    assert_eq!(status, 204);
    let saw = |class: &'static str| {
        move |event: &Value| event["classes"][class].as_u64().unwrap_or_default() > 0
    };
    events.until("an allowed request", saw("allowed store")).await;
    events.until("a denied request", saw("denied store")).await;
    let denied = events.until("a denial in full", |event| event["name"] == "denied").await;
    assert_eq!(denied["data"]["status"], 429);
    let headers = denied["data"]["headers"].to_string();
    assert!(headers.contains("retry-after") && headers.contains("ratelimit"), "{headers}");
    assert_eq!(denied["data"]["body"]["allowed"], false);

    // The service counted them: they were requests like any other.
    let (_, _, metrics) = lab.ask("GET", "/rate-limiter/metrics", &[], None).await;
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("rate_limiter_decisions_total") && line.contains("denied"));
    assert!(counted.is_some(), "{metrics}");

    drop(events);
    testkit::wait_until("the traffic ended", crate::running::LIMIT, || async {
        lab.json("GET", TRAFFIC, None).await.1 == json!({ "running": false })
    })
    .await;
    let mut events = Events::of(lab.open("GET", EVENTS, &[], None).await);
    let stopped = events.until("the end", |event| event["kind"] == "stopped").await;
    assert_eq!(stopped["why"], "nobody was watching");
}

#[tokio::test]
async fn a_bounded_number_of_pages_may_watch() {
    let lab = Lab::start().await;
    let mut watching = Vec::new();
    for _ in 0..16 {
        watching.push(Events::of(lab.open("GET", EVENTS, &[], None).await));
    }
    assert_eq!(lab.open("GET", EVENTS, &[], None).await.status(), 503);
    watching.pop();
    testkit::wait_until("a place is free again", crate::running::LIMIT, || async {
        lab.open("GET", EVENTS, &[], None).await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_said_at_the_field_and_leaves_the_store_as_it_was() {
    let nobody = testkit::crash::free_address();
    let url = format!("redis://{nobody}/");
    let lab = Lab::start_with(program().env("INFRA_REDIS_URL", url)).await;
    let (status, problem) = lab.json("POST", TRAFFIC, Some(&with("store", json!("redis")))).await;
    assert_eq!(status, 503, "{problem}");
    assert_eq!(problem["errors"][0]["pointer"], "/store");
    assert_eq!(lab.json("GET", TRAFFIC, None).await.1, json!({ "running": false }));
    let (status, _) = lab.json("POST", TRAFFIC, Some(&settings())).await;
    assert_eq!(status, 204, "in process it goes on");
}

#[tokio::test]
async fn every_fault_shows_in_who_decides_or_how_long_it_takes() {
    let lab = Lab::start().await;
    let mut events = Events::of(lab.open("GET", EVENTS, &[], None).await);
    let (status, problem) = lab.json("POST", TRAFFIC, Some(&with("store", json!("redis")))).await;
    assert_eq!(status, 204, "{problem}");
    let switch = async |name: &str, how: Value| {
        let path = format!("/rate-limiter/lab/faults/{name}");
        lab.json("PUT", &path, Some(&how)).await
    };
    let decided_by = |source: &'static str| {
        move |event: &Value| {
            let classes = event["classes"].as_object();
            classes.is_some_and(|all| all.keys().any(|class| class.ends_with(source)))
        }
    };
    events.until("Redis deciding", decided_by("store")).await;

    for name in ["partition", "redis-down"] {
        assert_eq!(switch(name, json!({ "on": true })).await.0, 204);
        let marked = |event: &Value| event["kind"] == "mark" && event["begins"] == true;
        assert_eq!(events.until("its mark", marked).await["name"], name);
        events.until("this server deciding alone", decided_by("local-share")).await;
        assert_eq!(switch(name, json!({ "on": false })).await.0, 204);
        events.until("Redis deciding again", decided_by("store")).await;
    }

    let (status, problem) = switch("latency", json!({ "on": true, "latency_ms": 1001 })).await;
    assert_eq!((status.as_u16(), &problem["errors"][0]["pointer"]), (422, &json!("/latency_ms")));
    assert_eq!(switch("latency", json!({ "on": true, "latency_ms": 30 })).await.0, 204);
    let late = |event: &Value| event["p50_ns"].as_u64().unwrap_or_default() >= 60_000_000;
    let tick = events.until("a median above two ways of 30 ms", late).await;
    assert!(decided_by("store")(&tick), "slow is not down: {tick}");
}
