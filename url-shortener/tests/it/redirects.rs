//! Redirects, and the clicks they leave.

use std::sync::Arc;

use axum::body::Body;
use serde_json::json;
use url_shortener::recent::BYTES_MIN;
use url_shortener::store::memory::Memory;

use crate::support::{App, Choices, NOON_MS, app, app_on};

#[tokio::test]
async fn each_status_redirects_with_its_caching_beside_the_router_and_through_it() {
    for (beside_the_router, recent_bytes) in [(true, None), (false, None), (true, Some(BYTES_MIN))]
    {
        let choices = Choices { beside_the_router, recent_bytes, ..Choices::default() };
        each_status_redirects_with_its_caching(&app_on(Arc::default(), choices).await).await;
    }
}

async fn each_status_redirects_with_its_caching(app: &App<Memory>) {
    for (status, caching) in [
        (301, "public, max-age=3600"),
        (302, "private, max-age=0"),
        (307, "private, max-age=0"),
        (308, "public, max-age=3600"),
    ] {
        let body = json!({"url": "https://example.com/x?y=1#z", "redirect": status});
        let code = app.client.create(body).await.code();
        assert_eq!(code.len(), 7);
        let answer = app.client.follow(&code).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("location"), "https://example.com/x?y=1#z");
        assert_eq!(answer.header("cache-control"), caching);
        assert!(answer.headers.contains_key("x-request-id"));
    }
    let unlisted =
        app.client.create(json!({"url": "https://example.com/", "unlisted": true})).await;
    assert_eq!(unlisted.code().len(), 16);
}

#[tokio::test]
async fn what_does_not_redirect_says_why() {
    let app = app().await;
    let create = async |extra: serde_json::Value| {
        let mut body = json!({"url": "https://example.com/"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        app.client.create(body).await.code()
    };
    let expiring = create(json!({"expires_at": "2026-11-22T12:00:10Z"})).await;
    let disabled = create(json!({})).await;
    let path = format!("/v1/links/{disabled}");
    app.client.json("PATCH", &path, &[("if-match", "*")], &json!({"enabled": false})).await;
    assert_eq!(app.client.follow(&expiring).await.status, 302);
    app.clock.set_ms(NOON_MS + 10_000);
    for (code, status, detail) in [
        (expiring.as_str(), 410, "expired"),
        (disabled.as_str(), 410, "disabled"),
        ("nothing", 404, "no link"),
        ("not.a.code", 400, "letters"),
    ] {
        let answer = app.client.follow(code).await;
        assert_eq!(answer.status, status, "{code}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(answer.text().contains(detail), "{}", answer.text());
        assert!(!answer.headers.contains_key("location"));
    }
    assert_eq!(app.client.json("POST", "/nothing", &[], &json!({})).await.status, 405);
}

#[tokio::test]
async fn stats_tell_people_from_programs_and_count_no_head() {
    let app = app().await;
    let code = app.client.create(json!({"url": "https://example.com/"})).await.code();
    let path = format!("/{code}");
    let visit = async |method: &str, agent: &str, referer: &str| {
        let headers = [("user-agent", agent), ("referer", referer)];
        let answer = app.client.send(method, &path, &headers, Body::empty()).await;
        assert_eq!(answer.status, 302);
        assert_eq!(answer.header("location"), "https://example.com/");
    };
    visit("GET", "Firefox/144", "https://News.example/a").await;
    visit("GET", "Firefox/144", "https://news.example/b").await;
    visit("GET", "Chrome/141 Safari/537", "nonsense").await;
    visit("GET", "Googlebot/2.1", "https://google.example/").await;
    visit("HEAD", "Firefox/144", "https://news.example/").await;
    app.clock.advance_ms(86_400_000);
    visit("GET", "Firefox/144", "").await;
    app.shortener.flush_clicks().await.unwrap();
    let stats = app.client.get(&format!("/v1/links/{code}/stats")).await.json();
    let expected = json!({
        "total": 4, "unique": 2, "bots": 1,
        "days": [
            {"date": "2026-11-22", "clicks": 3, "unique": 2, "bots": 1},
            {"date": "2026-11-23", "clicks": 1, "unique": 1, "bots": 0},
        ],
        "referrers": {"news.example": 2},
        "browsers": {"chrome": 1, "safari": 0, "firefox": 3, "edge": 0, "other": 0},
    });
    assert_eq!(stats, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_limited_link_redirects_exactly_that_often() {
    let app = app().await;
    let code =
        app.client.create(json!({"url": "https://example.com/", "max_visits": 10})).await.code();
    let head = app.client.send("HEAD", &format!("/{code}"), &[], Body::empty()).await;
    assert_eq!(head.status, 302, "a HEAD is no visit");
    let visitors: Vec<_> = (0..64)
        .map(|_| {
            let (client, code) = (app.client.clone(), code.clone());
            tokio::spawn(async move { client.follow(&code).await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for visitor in visitors {
        statuses.push(visitor.await.unwrap());
    }
    let redirected = statuses.iter().filter(|status| **status == 302).count();
    assert_eq!(redirected, 10, "{statuses:?}");
    assert!(statuses.iter().all(|status| [302, 410].contains(status)), "{statuses:?}");
    assert_eq!(app.client.send("HEAD", &format!("/{code}"), &[], Body::empty()).await.status, 410);
}

#[tokio::test]
async fn a_scanner_is_told_to_stop_and_still_follows_links() {
    let choices = Choices { unknown_per_minute: 20, ..Choices::default() };
    let app = app_on(Arc::<Memory>::default(), choices).await;
    let code = app.client.create(json!({"url": "https://example.com/"})).await.code();
    let mut statuses = Vec::new();
    for number in 0..40 {
        statuses.push(app.client.follow(&format!("guess{number}")).await.status);
    }
    assert_eq!(statuses[..20], [404; 20]);
    assert!(statuses[25..].iter().all(|status| *status == 429), "{statuses:?}");
    assert_eq!(app.client.follow(&code).await.status, 302);
}

#[tokio::test]
async fn with_recent_links_only_a_scanner_gets_no_more_look_ups() {
    let choices =
        Choices { unknown_per_minute: 20, recent_bytes: Some(BYTES_MIN), ..Choices::default() };
    let app = app_on(Arc::<Memory>::default(), choices).await;
    let known = app.client.create(json!({"url": "https://example.com/"})).await.code();
    let other = app.client.create(json!({"url": "https://example.com/"})).await.code();
    assert_eq!(app.client.follow(&known).await.status, 302);
    for number in 0..40 {
        app.client.follow(&format!("guess{number}")).await;
    }
    let held = app.shortener.lookup().len();
    assert_eq!(app.client.follow("one-more").await.status, 429);
    assert_eq!(app.client.follow(&other).await.status, 429, "it would take a look-up");
    assert_eq!(app.client.follow(&known).await.status, 302, "it is in memory");
    assert_eq!(app.shortener.lookup().len(), held, "somebody was asked");
}

#[tokio::test]
async fn in_durable_mode_a_click_is_committed_when_the_redirect_arrives() {
    let choices = Choices { durable_clicks: true, ..Choices::default() };
    let app = app_on(Arc::<Memory>::default(), choices).await;
    let code = app.client.create(json!({"url": "https://example.com/"})).await.code();
    for clicks in 1..=3 {
        assert_eq!(app.client.follow(&code).await.status, 302);
        let stats = app.client.get(&format!("/v1/links/{code}/stats")).await.json();
        assert_eq!(stats["total"], clicks);
    }
}

#[tokio::test]
async fn a_drain_commits_the_last_clicks() {
    let app = app().await;
    let code = app.client.create(json!({"url": "https://example.com/"})).await.code();
    for _ in 0..100 {
        app.client.follow(&code).await;
    }
    let shortener = Arc::clone(&app.shortener);
    app.shutdown.begin();
    let owner = url_shortener::link::Owner(shortener.store().keys_id().await);
    let code = url_shortener::Code::parse(&code).unwrap();
    testkit::wait_until(
        "the drain committed all clicks",
        std::time::Duration::from_secs(5),
        || async {
            let days = shortener.clicks(&owner, &code).await.unwrap();
            days.iter().map(|(_, day)| day.clicks).sum::<u64>() == 100
        },
    )
    .await;
}

trait OnlyKey {
    async fn keys_id(&self) -> String;
}

impl<S: url_shortener::keys::Keys> OnlyKey for S {
    /// The id of the one key there is.
    async fn keys_id(&self) -> String {
        self.keys().await.unwrap().remove(0).id
    }
}
