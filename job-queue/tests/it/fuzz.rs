//! Both protocol parsers fed with damaged requests: whatever comes in, an answer with a documented
//! code goes out. Every damage is a list of edits to a request that was right, which reaches
//! further in than noise does; noise is among them.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response};
use http_body_util::BodyExt;
use job_queue::clock::Clock;
use job_queue::http;
use job_queue::sqs::Code;
use job_queue::store::memory::Memory;
use proptest::prelude::*;
use serde_json::Value;
use service::{Limits, Shutdown};
use tower::ServiceExt;

/// Every code a client may be told; what the service documents, and nothing else.
const CODES: [Code; 23] = [
    Code::QueueDoesNotExist,
    Code::QueueNameExists,
    Code::EmptyBatchRequest,
    Code::TooManyEntriesInBatchRequest,
    Code::BatchEntryIdsNotDistinct,
    Code::BatchRequestTooLong,
    Code::InvalidBatchEntryId,
    Code::InvalidMessageContents,
    Code::MessageNotInflight,
    Code::PurgeQueueInProgress,
    Code::ReceiptHandleIsInvalid,
    Code::OverLimit,
    Code::InvalidAttributeName,
    Code::InvalidAttributeValue,
    Code::ResourceNotFoundException,
    Code::UnsupportedOperation,
    Code::InvalidParameterValue,
    Code::MissingParameter,
    Code::InvalidAddress,
    Code::MissingAction,
    Code::InvalidAction,
    Code::SerializationException,
    Code::ServiceUnavailable,
];

/// Right requests of the JSON protocol.
const JSON: [(&str, &str); 8] = [
    (
        "CreateQueue",
        r#"{"QueueName":"n.fifo","Attributes":{"FifoQueue":"true","RedrivePolicy":"{\"maxReceiveCount\":3,\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:d.fifo\"}"},"tags":{"a":"b"}}"#,
    ),
    (
        "SendMessage",
        r#"{"QueueUrl":"/000000000000/q","MessageBody":"b","DelaySeconds":1,"MessageAttributes":{"n":{"DataType":"Number.int","StringValue":"1"},"b":{"DataType":"Binary","BinaryValue":"AAEC"}},"MessageSystemAttributes":{"AWSTraceHeader":{"DataType":"String","StringValue":"t"}}}"#,
    ),
    (
        "SendMessageBatch",
        r#"{"QueueUrl":"/000000000000/q","Entries":[{"Id":"1","MessageBody":"b"},{"Id":"2","MessageBody":"c","DelaySeconds":3}]}"#,
    ),
    (
        "ReceiveMessage",
        r#"{"QueueUrl":"/000000000000/q","MaxNumberOfMessages":10,"VisibilityTimeout":0,"WaitTimeSeconds":0,"AttributeNames":["All"],"MessageAttributeNames":["a.*","All"],"ReceiveRequestAttemptId":"x"}"#,
    ),
    (
        "DeleteMessage",
        r#"{"QueueUrl":"/000000000000/q","ReceiptHandle":"AQAAAAAAAAABAAAAAAAAAAEAAAABWw"}"#,
    ),
    (
        "ChangeMessageVisibilityBatch",
        r#"{"QueueUrl":"/000000000000/q","Entries":[{"Id":"1","ReceiptHandle":"AQAAAAAAAAABAAAAAAAAAAEAAAABWw","VisibilityTimeout":10}]}"#,
    ),
    (
        "SetQueueAttributes",
        r#"{"QueueUrl":"/000000000000/q","Attributes":{"DelaySeconds":"5","RedriveAllowPolicy":"{\"redrivePermission\":\"byQueue\",\"sourceQueueArns\":[\"arn:aws:sqs:us-east-1:000000000000:q\"]}","Policy":""}}"#,
    ),
    (
        "StartMessageMoveTask",
        r#"{"SourceArn":"arn:aws:sqs:us-east-1:000000000000:q","MaxNumberOfMessagesPerSecond":5}"#,
    ),
];

/// Right requests of the query protocol.
const FORMS: [&str; 6] = [
    "Action=CreateQueue&QueueName=n&Attribute.1.Name=DelaySeconds&Attribute.1.Value=5&Tag.1.Key=a&Tag.1.Value=b",
    "Action=SendMessage&MessageBody=b%20%C3%A4&MessageAttribute.1.Name=n&MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value.StringValue=v&DelaySeconds=1",
    "Action=SendMessageBatch&SendMessageBatchRequestEntry.1.Id=1&SendMessageBatchRequestEntry.1.MessageBody=b&SendMessageBatchRequestEntry.2.Id=2&SendMessageBatchRequestEntry.2.MessageBody=c",
    "Action=ReceiveMessage&MaxNumberOfMessages=10&AttributeName.1=All&MessageAttributeName.1=All&VisibilityTimeout=0",
    "Action=DeleteMessageBatch&DeleteMessageBatchRequestEntry.1.Id=1&DeleteMessageBatchRequestEntry.1.ReceiptHandle=AQAAAAAAAAABAAAAAAAAAAEAAAABWw",
    "Action=AddPermission&Label=l&AWSAccountId.1=000000000000&ActionName.1=SendMessage",
];

/// One damage.
#[derive(Clone, Debug)]
enum Edit {
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Cut(usize),
    Repeat(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let word = prop_oneof![
        Just(b"\"\\u0000\"".to_vec()),
        Just(b"99999999999999999999".to_vec()),
        Just(b"-1".to_vec()),
        Just(b"[[[[[[[[".to_vec()),
        Just(b"%zz%00%ff".to_vec()),
        Just(b"&&==.1.1.".to_vec()),
        Just("\u{fffe}\u{10ffff}".as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..8),
    ];
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, bits)| Edit::Flip(at, bits)),
        (any::<usize>(), word).prop_map(|(at, word)| Edit::Insert(at, word)),
        (any::<usize>(), 1..20_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        any::<usize>().prop_map(Edit::Cut),
        (any::<usize>(), 1..60_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
    ]
}

fn damaged(right: &str, edits: &[Edit]) -> Vec<u8> {
    let mut bytes = right.as_bytes().to_vec();
    for edit in edits {
        let length = bytes.len().max(1);
        match edit {
            Edit::Flip(at, bits) => {
                if let Some(byte) = bytes.get_mut(at % length) {
                    *byte ^= bits;
                }
            }
            Edit::Insert(at, word) => {
                let at = (at % length).min(bytes.len());
                bytes.splice(at..at, word.iter().copied());
            }
            Edit::Remove(at, count) => {
                let at = (at % length).min(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Edit::Cut(at) => bytes.truncate(at % length),
            Edit::Repeat(at, count) => {
                let at = (at % length).min(bytes.len());
                let part = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

fn router() -> Router {
    let router = http::router(Memory::new(Clock::system()), "000000000000", &Shutdown::new());
    service::harden(router, http::limits(Limits::default()))
}

/// What came out: never a 5xx, and if not a success then a documented code in its protocol.
async fn judge(response: Response<Body>) -> Result<(), String> {
    let status = response.status();
    let kind = response.headers().get("content-type").and_then(|it| it.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    let text = String::from_utf8(body.to_vec()).map_err(|error| error.to_string())?;
    if status.is_success() {
        let is_whole = kind.contains("xml") && text.ends_with('>')
            || kind.contains("json")
                && (text.is_empty() || serde_json::from_str::<Value>(&text).is_ok());
        return if is_whole { Ok(()) } else { Err(format!("{status} {kind}: {text}")) };
    }
    let is_documented = if kind.contains("xml") {
        CODES.iter().any(|code| text.contains(&format!("<Code>{}</Code>", code.legacy())))
    } else {
        let error: Value = serde_json::from_str(&text).map_err(|it| format!("{it}: {text}"))?;
        let shape = error["__type"].as_str().and_then(|it| it.strip_prefix("com.amazonaws.sqs#"));
        // What never reached the protocol (a path or a head that is none) is a problem document.
        let is_problem = kind == "application/problem+json" && error["status"] == status.as_u16();
        is_problem || shape.is_some_and(|it| CODES.iter().any(|code| code.shape() == it))
    };
    match is_documented && status.is_client_error() {
        true => Ok(()),
        false => Err(format!("{status} {kind}: {text}")),
    }
}

fn answered(requests: Vec<Request<Body>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let router = router();
        let create = r#"{"QueueName":"q"}"#;
        let create = Request::post("/")
            .header("x-amz-target", "AmazonSQS.CreateQueue")
            .body(Body::from(create))
            .unwrap();
        judge(router.clone().oneshot(create).await.unwrap()).await.map_err(TestCaseError::fail)?;
        for request in requests {
            let response = router.clone().oneshot(request).await.unwrap();
            judge(response).await.map_err(TestCaseError::fail)?;
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn damaged_json_gets_a_documented_answer(
        which in 0..JSON.len(), edits in prop::collection::vec(edit(), 0..6),
        action in prop_oneof![4 => Just(None), 1 => "[A-Za-z.#]{0,30}".prop_map(Some)],
    ) {
        let (right, body) = JSON[which];
        let target = action.unwrap_or_else(|| right.to_owned());
        let request = Request::post("/")
            .header("x-amz-target", format!("AmazonSQS.{target}"))
            .header("content-type", "application/x-amz-json-1.0")
            .body(Body::from(damaged(body, &edits)))
            .unwrap();
        answered(vec![request])?;
    }

    #[test]
    fn a_damaged_form_gets_a_documented_answer(
        which in 0..FORMS.len(), edits in prop::collection::vec(edit(), 0..6),
        at_queue in any::<bool>(),
        method in prop::sample::select(vec![Method::POST, Method::GET, Method::PUT]),
    ) {
        let form = damaged(FORMS[which], &edits);
        let path = if at_queue { "/000000000000/q" } else { "/" };
        let posted = Request::builder().method(method).uri(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form.clone()))
            .unwrap();
        let mut requests = vec![posted];
        // The same in the address, as far as it is one.
        let uri = format!("{path}?{}", String::from_utf8_lossy(&form));
        requests.extend(Request::get(uri).body(Body::empty()).ok());
        answered(requests)?;
    }
}
