//! Two servers over one Postgres: what one changes, the other redirects to within a second, also
//! when the connection that listens was cut.

use std::sync::Arc;
use std::time::Duration;

use faultline::Proxy;
use serde_json::json;
use testkit::wait_until;
use url_shortener::keys::Keys;
use url_shortener::link::Version;
use url_shortener::lookup::{Found, Lookup as _};
use url_shortener::store::postgres::{Postgres, SCHEMA};

use crate::support::{App, Choices, app_on};

/// How long the second server may lag, with some room for a busy machine.
const STALE_MAX: Duration = Duration::from_secs(5);

async fn redirects_to(app: &App<Postgres>, code: &str, target: &str) {
    wait_until(&format!("{code} leads to {target}"), STALE_MAX, || async {
        let answer = app.client.follow(code).await;
        answer.status == 302 && answer.header("location") == target
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_at_one_server_is_followed_at_the_other() {
    a_change_is_followed_elsewhere(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_at_one_server_is_followed_at_the_other_with_recent_links_only() {
    a_change_is_followed_elsewhere(Some(url_shortener::recent::BYTES_MIN)).await;
}

async fn a_change_is_followed_elsewhere(recent_bytes: Option<u64>) {
    let choices = || Choices { recent_bytes, ..Choices::default() };
    let server = infra::postgres().await.unwrap();
    let database = server.database("url_shortener", SCHEMA).await.unwrap();
    let proxy = Proxy::start(database.url()).await.unwrap();
    let through_proxy = proxy.url_of(database.url());

    let one = app_on(Arc::new(Postgres::connect(database.url()).await.unwrap()), choices()).await;
    let two = app_on(Arc::new(Postgres::connect(&through_proxy).await.unwrap()), choices()).await;
    one.shortener.keys().replace(one.shortener.store().keys().await.unwrap());

    let code = one.client.create(json!({"url": "https://example.com/a"})).await.code();
    redirects_to(&two, &code, "https://example.com/a").await;
    let path = format!("/v1/links/{code}");
    let change = json!({"url": "https://example.com/b"});
    let changed = one.client.json("PATCH", &path, &[("if-match", "\"1\"")], &change).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    redirects_to(&two, &code, "https://example.com/b").await;

    // With recent links only, a reading that a notification overtook is not kept: the next one is.
    wait_until("the second server knows the change", STALE_MAX, || async {
        two.client.follow(&code).await;
        two.shortener.lookup().find_now(&code, |entry| entry.version) == Found::Here(Version(2))
    })
    .await;

    // The second server loses the database. It goes on redirecting with what it knows; what it
    // misses meanwhile it finds when the database is back.
    proxy.cut();
    let change = json!({"url": "https://example.com/c"});
    let changed = one.client.json("PATCH", &path, &[("if-match", "\"2\"")], &change).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(two.client.follow(&code).await.header("location"), "https://example.com/b");
    proxy.heal();
    wait_until("the change that was missed arrives", Duration::from_secs(20), || async {
        two.client.follow(&code).await.header("location") == "https://example.com/c"
    })
    .await;
    let deleted =
        one.client.send("DELETE", &path, &[("if-match", "*")], axum::body::Body::empty()).await;
    assert_eq!(deleted.status, 204);
    wait_until("the deletion arrives", STALE_MAX, || async {
        two.client.follow(&code).await.status == 404
    })
    .await;
}
