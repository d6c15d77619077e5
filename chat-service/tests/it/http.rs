//! The routes: what is refused, and how it is said.

use chat_service::client::{Api, ApiError};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{PASSWORD, Person, Server};

async fn refused(
    api: &Api,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Value,
) -> (u16, String) {
    match api.request(method.clone(), path, token, &body).await {
        Err(ApiError::Refused { status, detail }) => (status, detail),
        other => panic!("{method} {path} {body}: {other:?}"),
    }
}

type BadRequest<'a> = (Method, String, Option<&'a str>, Value, u16, &'static str);

/// Requests that must be refused: by which status, naming which field.
fn bad_bodies<'a>(token: Option<&'a str>, id: &str) -> Vec<BadRequest<'a>> {
    let mut bad = bad_credentials();
    bad.extend(bad_conversations(token, id));
    bad
}

fn bad_credentials<'a>() -> Vec<BadRequest<'a>> {
    vec![
        (
            Method::POST,
            "/v1/register".to_owned(),
            None,
            json!({"user": "Al ice", "password": PASSWORD}),
            422,
            "user",
        ),
        (
            Method::POST,
            "/v1/register".to_owned(),
            None,
            json!({"user": "carol", "password": "short"}),
            422,
            "password",
        ),
        (Method::POST, "/v1/register".to_owned(), None, json!({"user": "carol"}), 422, "password"),
        (
            Method::POST,
            "/v1/register".to_owned(),
            None,
            json!({"user": "alice", "password": PASSWORD}),
            409,
            "user",
        ),
        (
            Method::POST,
            "/v1/login".to_owned(),
            None,
            json!({"user": "alice", "password": "wrong wrong", "device": "x"}),
            401,
            "password",
        ),
        (
            Method::POST,
            "/v1/login".to_owned(),
            None,
            json!({"user": "nobody", "password": PASSWORD, "device": "x"}),
            401,
            "password",
        ),
        (
            Method::POST,
            "/v1/login".to_owned(),
            None,
            json!({"user": "alice", "password": PASSWORD, "device": ""}),
            422,
            "device",
        ),
    ]
}

fn bad_conversations<'a>(token: Option<&'a str>, id: &str) -> Vec<BadRequest<'a>> {
    let long = "x".repeat(200);
    vec![
        (
            Method::POST,
            "/v1/conversations".to_owned(),
            token,
            json!({"with": "alice"}),
            422,
            "with",
        ),
        (
            Method::POST,
            "/v1/conversations".to_owned(),
            token,
            json!({"with": "nobody"}),
            404,
            "with",
        ),
        (Method::POST, "/v1/conversations".to_owned(), token, json!({"with": "A"}), 422, "with"),
        (Method::PUT, format!("/v1/conversations/{id}"), token, json!({"title": ""}), 422, "title"),
        (
            Method::PUT,
            format!("/v1/conversations/{id}"),
            token,
            json!({"title": long}),
            422,
            "title",
        ),
        (
            Method::PUT,
            format!("/v1/conversations/{id}"),
            token,
            json!({"title": "t", "members": ["ok", "N"]}),
            422,
            "members/1",
        ),
        (
            Method::PUT,
            format!("/v1/conversations/{id}"),
            token,
            json!({"title": "t", "members": ["ghost"]}),
            404,
            "members",
        ),
        (Method::PUT, "/v1/conversations/7".to_owned(), token, json!({"title": "t"}), 400, ""),
        (Method::GET, "/v1/conversations?limit=0".to_owned(), token, Value::Null, 400, "limit"),
        (Method::GET, "/v1/conversations?limit=101".to_owned(), token, Value::Null, 400, "limit"),
        (Method::GET, "/v1/conversations?after=x".to_owned(), token, Value::Null, 400, "after"),
        (
            Method::GET,
            format!("/v1/conversations/{id}/messages?before=-1"),
            token,
            Value::Null,
            400,
            "before",
        ),
        (
            Method::GET,
            format!("/v1/conversations/{id}/messages?before=1&after=1"),
            token,
            Value::Null,
            400,
            "after",
        ),
        (Method::DELETE, "/v1/devices/none".to_owned(), token, Value::Null, 404, "device"),
        (Method::GET, "/v1/socket".to_owned(), None, Value::Null, 400, ""),
    ]
}

#[tokio::test]
async fn bad_bodies_are_refused_by_field() {
    let server = Server::memory().await;
    let api = server.api();
    let alice = Person::enter(&api, "alice", "laptop").await;
    let token = Some(alice.token.as_str());
    let id = chat_service::ConversationId::fresh();
    for (method, path, token, body, status, field) in bad_bodies(token, &id.to_string()) {
        let path = &path;
        let (got, detail) = refused(&api, method.clone(), path, token, body.clone()).await;
        assert_eq!(got, status, "{method} {path} {body}: {detail}");
        assert!(detail.contains(field), "{method} {path} {body}: {detail:?} does not name {field}");
    }
    let listed = api.request(Method::GET, "/v1/conversations", token, &Value::Null).await.unwrap();
    assert_eq!(listed["items"], json!([]), "a refused request left something");
}

#[tokio::test]
async fn nobody_reads_or_changes_what_is_not_theirs() {
    let server = Server::memory().await;
    let api = server.api();
    let alice = Person::enter(&api, "alice", "laptop").await;
    let _bob = Person::enter(&api, "bob", "phone").await;
    let eve = Person::enter(&api, "eve", "laptop").await;
    let direct = api.direct(&alice.token, "bob").await.unwrap();
    let group = api.group(&alice.token, "plans", &["bob"]).await.unwrap();
    for conversation in [direct, group] {
        let at = format!("/v1/conversations/{conversation}");
        for (method, path, body) in [
            (Method::GET, format!("{at}/messages"), Value::Null),
            (Method::GET, format!("{at}/members"), Value::Null),
            (Method::POST, format!("{at}/members"), json!({"members": ["eve"]})),
            (Method::DELETE, format!("{at}/members/bob"), Value::Null),
        ] {
            let (status, _) =
                refused(&api, method.clone(), &path, Some(&eve.token), body.clone()).await;
            assert_eq!(status, 404, "eve: {method} {path}");
            let (status, _) = refused(&api, method, &path, None, body).await;
            assert_eq!(status, 401, "without a token: {path}");
        }
    }
    let forged = format!("{}x", eve.token);
    let (status, _) = refused(&api, Method::GET, "/v1/devices", Some(&forged), Value::Null).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn creating_a_group_twice_is_once_and_members_come_and_go() {
    let server = Server::memory().await;
    let api = server.api();
    let alice = Person::enter(&api, "alice", "laptop").await;
    Person::enter(&api, "bob", "phone").await;
    let token = Some(alice.token.as_str());
    let path = format!("/v1/conversations/{}", chat_service::ConversationId::fresh());
    for _ in 0..2 {
        let body = json!({"title": "plans", "members": []});
        api.request(Method::PUT, &path, token, &body).await.unwrap();
    }
    let members = format!("{path}/members");
    api.request(Method::POST, &members, token, &json!({"members": ["bob"]})).await.unwrap();
    let listed = api.request(Method::GET, &members, token, &Value::Null).await.unwrap();
    assert_eq!(listed["members"].as_array().unwrap().len(), 2, "{listed}");
    let removed = api.request(Method::DELETE, &format!("{members}/bob"), token, &Value::Null).await;
    assert_eq!(removed.unwrap(), Value::Null);
    let messages =
        api.request(Method::GET, &format!("{path}/messages"), token, &Value::Null).await.unwrap();
    let kinds: Vec<_> = messages["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (&m["joined"], &m["left"]))
        .collect();
    assert_eq!(kinds, [(&json!("bob"), &Value::Null), (&Value::Null, &json!("bob"))]);
}

#[tokio::test]
async fn a_removed_device_is_out_at_once() {
    let server = Server::memory().await;
    let api = server.api();
    let laptop = Person::enter(&api, "alice", "laptop").await;
    let phone = Person::enter(&api, "alice", "phone").await;
    let mut socket = phone.connect(&server.base, 10).await;
    let token = Some(laptop.token.as_str());
    api.request(Method::DELETE, "/v1/devices/phone", token, &Value::Null).await.unwrap();
    assert_eq!(crate::support::code(&crate::support::end(&mut socket).await), 4401);
    let (status, _) =
        refused(&api, Method::GET, "/v1/devices", Some(&phone.token), Value::Null).await;
    assert_eq!(status, 401);
}
