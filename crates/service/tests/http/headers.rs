//! The headers that take thought: idempotency keys, ETags, forwarded addresses.

use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::IntoResponse;
use serde_json::json;
use service::idempotency::{IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_BYTES_MAX, fingerprint};
use service::{Clock, ETag, IdempotencyKey, Preconditions, Problem, TrustedProxies};

fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
    let pair = |value: &&str| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    let mut map = HeaderMap::new();
    for (name, value) in values.iter().map(pair) {
        map.append(name, value);
    }
    map
}

async fn document(problem: Problem) -> serde_json::Value {
    let body = problem.into_response().into_body();
    serde_json::from_slice(&axum::body::to_bytes(body, 4096).await.unwrap()).unwrap()
}

#[tokio::test]
async fn an_idempotency_key_is_visible_ascii_of_bounded_length() {
    let of = |values: &[&str]| IdempotencyKey::of(&headers(&IDEMPOTENCY_KEY, values));
    let longest = "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX);
    for (sent, key) in [("a-1", "a-1"), ("\"a-1\"", "a-1"), (&*longest, &*longest)] {
        assert_eq!(of(&[sent]).unwrap().unwrap().as_str(), key);
    }
    assert_eq!(of(&[]).unwrap(), None);
    let too_long = "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1);
    for bad in [&[""][..], &["\"\""], &["a b"], &["\u{e9}"], &[&too_long], &["a", "a"]] {
        let problem = document(of(bad).unwrap_err()).await;
        assert_eq!(problem["status"], 400, "{bad:?}");
        assert_eq!(problem["errors"][0]["header"], "Idempotency-Key", "{bad:?}");
    }
}

#[test]
fn a_fingerprint_ignores_white_space_and_the_order_of_members_and_nothing_else() {
    let of = |text: &str| fingerprint(&serde_json::from_str(text).unwrap());
    let base = of(r#"{"a":1,"b":[1,{"c":null,"d":"x"}]}"#);
    assert_eq!(base, of(r#" {"b": [1, {"d": "x", "c": null}], "a": 1} "#));
    for other in [
        r#"{"a":1,"b":[{"c":null,"d":"x"},1]}"#,
        r#"{"a":"1","b":[1,{"c":null,"d":"x"}]}"#,
        r#"{"a":1,"b":[1,{"d":"x"}]}"#,
        r#"{"a":1,"b":[1],"c":null,"d":"x"}"#,
    ] {
        assert_ne!(base, of(other), "{other}");
    }
    assert_ne!(fingerprint(&json!(["a,b"])), fingerprint(&json!(["a", "b"])));
}

#[test]
fn if_match_compares_strongly_and_if_none_match_weakly() {
    let allows = |name, value, current: Option<u64>| {
        let preconditions = Preconditions::of(&headers(name, &[value])).unwrap();
        preconditions.check(current.map(ETag)).is_ok()
    };
    for (name, value, current, expected) in [
        (&IF_MATCH, "\"7\"", Some(7), true),
        (&IF_MATCH, "\"6\", \"7\"", Some(7), true),
        (&IF_MATCH, "\"6\"", Some(7), false),
        (&IF_MATCH, "W/\"7\"", Some(7), false),
        (&IF_MATCH, "\"7\"", None, false),
        (&IF_MATCH, "*", Some(7), true),
        (&IF_MATCH, "*", None, false),
        (&IF_NONE_MATCH, "*", None, true),
        (&IF_NONE_MATCH, "*", Some(7), false),
        (&IF_NONE_MATCH, "W/\"7\"", Some(7), false),
        (&IF_NONE_MATCH, "\"a,b\", \"6\"", Some(7), true),
    ] {
        assert_eq!(allows(name, value, current), expected, "{name}: {value} on {current:?}");
    }
    assert!(Preconditions::default().check(None).is_ok(), "no condition always holds");
}

#[tokio::test]
async fn a_failed_precondition_is_412_with_the_current_etag_and_a_missing_one_428() {
    let preconditions = Preconditions::of(&headers(&IF_MATCH, &["\"6\""])).unwrap();
    assert_eq!(preconditions.expected_version(), Some(6));
    let response = preconditions.check(Some(ETag(7))).unwrap_err().into_response();
    assert_eq!(response.status(), 412);
    assert_eq!(response.headers()[ETAG], "\"7\"");
    let problem = document(Preconditions::default().require_if_match().unwrap_err()).await;
    assert_eq!(
        (&problem["status"], &problem["errors"][0]["header"]),
        (&428.into(), &"If-Match".into())
    );
}

#[test]
fn a_read_of_a_known_version_is_304_with_its_etag() {
    let preconditions = Preconditions::of(&headers(&IF_NONE_MATCH, &["\"6\"", "W/\"7\""])).unwrap();
    assert!(preconditions.not_modified(ETag(8)).is_none());
    let response = preconditions.not_modified(ETag(7)).unwrap();
    assert_eq!(response.status(), 304);
    assert_eq!(response.headers()[ETAG], "\"7\"");
    assert!(!preconditions.create_only());
}

#[tokio::test]
async fn a_condition_that_cannot_be_parsed_names_its_header() {
    let many = vec!["\"1\""; service::etag::TAGS_MAX + 1].join(",");
    for bad in ["", "7", "\"7", "\"1\" \"2\"", "\"1\",*", "w/\"1\"", &many] {
        let problem = Preconditions::of(&headers(&IF_MATCH, &[bad])).expect_err(bad);
        let problem = document(problem).await;
        assert_eq!(problem["errors"][0]["header"], "If-Match", "{bad}");
    }
    Preconditions::of(&headers(&IF_MATCH, &["*", "\"1\""])).expect_err("mixed over two lines");
}

#[test]
fn a_forwarded_address_counts_only_as_far_as_trusted_proxies_wrote_it() {
    let proxies: TrustedProxies = "10.0.0.0/8, 2001:db8::1".parse().unwrap();
    let forwarded = HeaderName::from_static("x-forwarded-for");
    for (peer, sent, client) in [
        ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"), // a stranger's header is ignored
        ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.2.3.4"], "198.51.100.1"), // 6.6.6.6 is forged
        ("10.0.0.1", &["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", &["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", &[], "10.0.0.1"),
        ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
        ("2001:db8::1", &["2001:db8::2"], "2001:db8::2"),
        ("2001:db8::2", &["198.51.100.1"], "2001:db8::2"),
    ] {
        let headers = headers(&forwarded, sent);
        let found = proxies.client_ip(peer.parse().unwrap(), &headers);
        assert_eq!(found.to_string(), client, "{peer} with {sent:?}");
    }
    let everybody: TrustedProxies = "0.0.0.0/0".parse().unwrap();
    let headers = headers(&forwarded, &["1.1.1.1, 2.2.2.2"]);
    assert_eq!(everybody.client_ip([9, 9, 9, 9].into(), &headers).to_string(), "1.1.1.1");
    assert!("10.0.0.0/x".parse::<TrustedProxies>().is_err());
}

#[test]
fn a_manual_clock_is_shared_and_goes_where_it_is_told() {
    let clock = Clock::manual(1_000);
    let same = clock.clone();
    clock.advance_ms(500);
    assert_eq!(same.now_ms(), 1_500);
    same.set_ms(10);
    assert_eq!(clock.now_ms(), 10);
    assert!(Clock::system().now_ms() > 1_700_000_000_000, "the system clock tells wall time");
}
