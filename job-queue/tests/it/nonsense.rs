//! Requests that make no sense get an answer that says so: never a panic, never a 5xx.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use job_queue::clock::Clock;
use job_queue::http;
use job_queue::store::memory::Memory;
use proptest::prelude::*;
use service::{Limits, Shutdown};
use tower::ServiceExt;

fn router() -> Router {
    let router = http::router(Memory::new(Clock::system()), "000000000000", &Shutdown::new());
    service::harden(router, http::limits(Limits::default()))
}

async fn json(router: &Router, action: &str, body: &str) -> (StatusCode, String, String) {
    let request = Request::post("/")
        .header("x-amz-target", format!("AmazonSQS.{action}"))
        .header("content-type", "application/x-amz-json-1.0")
        .body(Body::from(body.to_owned()))
        .unwrap();
    answer(router, request).await
}

async fn form(router: &Router, path: &str, body: &str) -> (StatusCode, String, String) {
    let request = Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body.to_owned()))
        .unwrap();
    answer(router, request).await
}

async fn answer(router: &Router, request: Request<Body>) -> (StatusCode, String, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let legacy = headers.get("x-amzn-query-error").and_then(|it| it.to_str().ok());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    (status, legacy.unwrap_or_default().to_owned(), body)
}

/// Operation, body, the older error code, and what the message must name.
const BAD_JSON: &[(&str, &str, &str, &str)] = &[
    ("CreateQueue", "{", "SerializationException", "EOF"),
    ("CreateQueue", r#"{"QueueName":7}"#, "SerializationException", "QueueName"),
    ("CreateQueue", "{}", "MissingParameter", "QueueName"),
    ("CreateQueue", r#"{"QueueName":"a b"}"#, "InvalidParameterValue", "QueueName"),
    ("SendMessage", r#"{"QueueUrl":"/q"}"#, "MissingParameter", "MessageBody"),
    ("SendMessage", r#"{"MessageBody":"x"}"#, "MissingParameter", "QueueUrl"),
    (
        "SendMessage",
        r#"{"QueueUrl":"/no","MessageBody":"x"}"#,
        "AWS.SimpleQueueService.NonExistentQueue",
        "queue",
    ),
    (
        "SendMessage",
        r#"{"QueueUrl":"/q","MessageBody":"x","DelaySeconds":901}"#,
        "InvalidParameterValue",
        "DelaySeconds",
    ),
    (
        "SendMessage",
        r#"{"QueueUrl":"/q","MessageBody":"x","DelaySeconds":-1}"#,
        "InvalidParameterValue",
        "DelaySeconds",
    ),
    (
        "ReceiveMessage",
        r#"{"QueueUrl":"/q","MaxNumberOfMessages":11}"#,
        "InvalidParameterValue",
        "MaxNumberOfMessages",
    ),
    (
        "ReceiveMessage",
        r#"{"QueueUrl":"/q","WaitTimeSeconds":21}"#,
        "InvalidParameterValue",
        "WaitTimeSeconds",
    ),
    (
        "ReceiveMessage",
        r#"{"QueueUrl":"/q","AttributeNames":["Nope"]}"#,
        "InvalidAttributeName",
        "Nope",
    ),
    (
        "DeleteMessage",
        r#"{"QueueUrl":"/q","ReceiptHandle":"x"}"#,
        "ReceiptHandleIsInvalid",
        "receipt handle",
    ),
    ("Nonsense", "{}", "InvalidAction", "Nonsense"),
];

/// Path, form, status, error code.
const BAD_FORMS: &[(&str, &str, u16, &str)] = &[
    ("/", "", 400, "MissingAction"),
    ("/", "Action=Nope", 400, "InvalidAction"),
    ("/", "Action=CreateQueue", 400, "MissingParameter"),
    ("/000000000000/no", "Action=SendMessage&MessageBody=x", 400, "NonExistentQueue"),
    (
        "/000000000000/q",
        "Action=ReceiveMessage&MaxNumberOfMessages=x",
        400,
        "InvalidParameterValue",
    ),
    ("/000000000000/q", "Action=DeleteMessage&ReceiptHandle=x", 404, "ReceiptHandleIsInvalid"),
];

#[tokio::test]
async fn errors_name_the_field_in_both_protocols() {
    let router = router();
    json(&router, "CreateQueue", r#"{"QueueName":"q"}"#).await;
    for (action, body, code, names) in BAD_JSON {
        let (status, legacy, message) = json(&router, action, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{action} {body}: {message}");
        assert_eq!(legacy, format!("{code};Sender"), "{action} {body}: {message}");
        assert!(message.contains(names), "{action} {body}: {message}");
    }
    for (path, body, status, code) in BAD_FORMS {
        let (found, _, message) = form(&router, path, body).await;
        assert_eq!(found.as_u16(), *status, "{body}: {message}");
        assert!(message.contains(&format!("{code}</Code>")), "{body}: {message}");
    }
    let get = Request::get("/?Action=ListQueues").body(Body::empty()).unwrap();
    let (status, _, body) = answer(&router, get).await;
    assert!(status.is_success() && body.contains("<QueueUrl>"), "{status} {body}");
}

const ACTIONS: [&str; 23] = [
    "AddPermission",
    "CancelMessageMoveTask",
    "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
    "CreateQueue",
    "DeleteMessage",
    "DeleteMessageBatch",
    "DeleteQueue",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "ListMessageMoveTasks",
    "ListQueueTags",
    "ListQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "RemovePermission",
    "SendMessage",
    "SendMessageBatch",
    "SetQueueAttributes",
    "StartMessageMoveTask",
    "TagQueue",
    "UntagQueue",
];

const FIELDS: [&str; 17] = [
    "QueueUrl",
    "QueueName",
    "Attributes",
    "MessageBody",
    "MessageAttributes",
    "Entries",
    "Id",
    "ReceiptHandle",
    "VisibilityTimeout",
    "DelaySeconds",
    "MaxNumberOfMessages",
    "Tags",
    "AttributeNames",
    "SourceArn",
    "MessageGroupId",
    "NextToken",
    "Label",
];

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "\\PC{0,12}".prop_map(Into::into),
        Just("/q".into()),
        Just("http://x/000000000000/q".into()),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let name = prop_oneof![
            prop::sample::select(&FIELDS[..]).prop_map(str::to_owned),
            "[A-Za-z.]{0,8}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(name, inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn check(status: StatusCode, what: &str, body: &str) -> Result<(), TestCaseError> {
    let is_fine = status.is_success() || status.is_client_error();
    prop_assert!(is_fine, "{} for {}: {}", status, what, body);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_json_breaks_the_service(action in prop::sample::select(&ACTIONS[..]), body in any_json()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let router = router();
            json(&router, "CreateQueue", r#"{"QueueName":"q"}"#).await;
            let body = body.to_string();
            let (status, _, answer) = json(&router, action, &body).await;
            check(status, &format!("{action} {body}"), &answer)
        })?;
    }

    #[test]
    fn no_form_breaks_the_service(
        action in prop::sample::select(&ACTIONS[..]),
        pairs in prop::collection::vec(("[A-Za-z]{0,24}(\\.[0-9A-Za-z]{0,10}){0,4}", "\\PC{0,10}"), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let router = router();
            json(&router, "CreateQueue", r#"{"QueueName":"q"}"#).await;
            let mut body = form_urlencoded::Serializer::new(String::new());
            body.append_pair("Action", action).extend_pairs(pairs);
            let body = body.finish();
            let (status, _, answer) = form(&router, "/000000000000/q", &body).await;
            check(status, &body, &answer)
        })?;
    }
}
