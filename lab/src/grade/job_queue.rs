//! What a queue promises that speaks Amazon SQS (JSON 1.0), in real time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::{Value, json};
use testkit::conformance::{Broken, Promise, Verdict};
use testkit::{ensure, promises};

use super::wire::{Answer, Wire};

/// In the order in which an interviewer would probe: at least once, leases, poison, order,
/// duplicates.
pub(super) fn promises() -> Vec<Promise<Wire>> {
    promises! { Wire;
        what_is_sent_is_received => "A message arrives with its body and the right MD5, and is gone once deleted.",
        a_lease_hides_and_runs_out => "A received message is hidden for its visibility timeout, then delivered again.",
        a_stale_receipt_deletes_nothing => "Who lost the lease cannot delete what somebody else now holds.",
        a_failed_job_comes_back_at_once => "A visibility of zero gives the message back, counted.",
        poison_ends_in_the_dead_letter_queue => "After maxReceiveCount receives a message moves to the dead-letter queue.",
        a_delayed_message_waits => "DelaySeconds hides a message from everybody, then delivers it.",
        a_long_poll_wakes_up => "A waiting receive answers when a message comes, long before its time is up.",
        order_holds_within_a_group => "FIFO: a group is delivered in order, one batch in flight; groups do not wait for each other.",
        a_duplicate_is_dropped => "FIFO: the same deduplication id within five minutes is one message.",
        a_batch_is_answered_entry_by_entry => "One bad entry does not spoil the others: 200 with Successful and Failed.",
        errors_have_their_documented_names => "An unknown queue is QueueDoesNotExist, in both the JSON and the header.",
    }
}

async fn call(wire: &Wire, action: &str, body: &Value) -> Result<Answer, Broken> {
    let target = format!("AmazonSQS.{action}");
    let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", &*target)];
    wire.send(Method::POST, "/", &headers, body).await
}

async fn done(wire: &Wire, action: &str, body: Value) -> Result<Value, Broken> {
    let answer = call(wire, action, &body).await?.is(200)?;
    if answer.body.is_empty() { Ok(Value::Null) } else { answer.json() }
}

/// A new queue's URL.
async fn queue(wire: &Wire, of: &str, attributes: Value) -> Result<Value, Broken> {
    let fifo = attributes.get("FifoQueue").is_some();
    let name = wire.name(of) + if fifo { ".fifo" } else { "" };
    let made =
        done(wire, "CreateQueue", json!({"QueueName": name, "Attributes": attributes})).await?;
    Ok(made["QueueUrl"].clone())
}

async fn send(wire: &Wire, queue: &Value, body: &str) -> Result<Value, Broken> {
    done(wire, "SendMessage", json!({"QueueUrl": queue, "MessageBody": body})).await
}

async fn send_fifo(wire: &Wire, queue: &Value, group: &str, body: &str) -> Result<Value, Broken> {
    let dedup = format!("{group}-{body}");
    let message = json!({"QueueUrl": queue, "MessageBody": body, "MessageGroupId": group,
        "MessageDeduplicationId": dedup});
    done(wire, "SendMessage", message).await
}

/// Up to `max` messages, waiting for the first at most `wait_s`.
async fn receive(wire: &Wire, queue: &Value, max: u32, wait_s: u32) -> Result<Vec<Value>, Broken> {
    let ask = json!({"QueueUrl": queue, "MaxNumberOfMessages": max, "WaitTimeSeconds": wait_s,
        "AttributeNames": ["All"], "MessageSystemAttributeNames": ["All"]});
    let got = done(wire, "ReceiveMessage", ask).await?;
    Ok(got["Messages"].as_array().cloned().unwrap_or_default())
}

async fn one(wire: &Wire, queue: &Value, wait_s: u32) -> Result<Value, Broken> {
    let got = receive(wire, queue, 1, wait_s).await?;
    got.into_iter().next().ok_or_else(|| Broken::because("a message was due, none came"))
}

async fn none(wire: &Wire, queue: &Value, why: &str) -> Verdict {
    let got = receive(wire, queue, 10, 0).await?;
    ensure!(got.is_empty(), "{why}, and yet {} came", got.len());
    Ok(())
}

async fn delete(wire: &Wire, queue: &Value, message: &Value) -> Result<Answer, Broken> {
    let receipt = &message["ReceiptHandle"];
    call(wire, "DeleteMessage", &json!({"QueueUrl": queue, "ReceiptHandle": receipt})).await
}

fn bodies(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["Body"].as_str()).collect()
}

async fn what_is_sent_is_received(wire: Arc<Wire>) -> Verdict {
    let queue = queue(&wire, "basic", json!({"VisibilityTimeout": "1"})).await?;
    let sent = send(&wire, &queue, "hello").await?;
    // The MD5 of `hello`.
    let md5 = "5d41402abc4b2a76b9719d911017c592";
    ensure!(sent["MD5OfMessageBody"] == md5, "the MD5 of `hello` is {md5}, not {sent}");
    let got = one(&wire, &queue, 2).await?;
    ensure!(got["Body"] == "hello" && got["MD5OfBody"] == md5, "`hello` was sent, {got} came");
    ensure!(got["MessageId"] == sent["MessageId"], "{sent} was sent, {got} came");
    delete(&wire, &queue, &got).await?.is(200)?;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    none(&wire, &queue, "the message was deleted").await
}

async fn a_lease_hides_and_runs_out(wire: Arc<Wire>) -> Verdict {
    let queue = queue(&wire, "lease", json!({"VisibilityTimeout": "1"})).await?;
    send(&wire, &queue, "job").await?;
    let first = one(&wire, &queue, 2).await?;
    none(&wire, &queue, "the only message is leased").await?;
    let again = one(&wire, &queue, 5).await?;
    ensure!(again["MessageId"] == first["MessageId"], "another message came: {again}");
    let count = &again["Attributes"]["ApproximateReceiveCount"];
    ensure!(count == "2", "the second receive is counted as {count}");
    Ok(())
}

async fn a_stale_receipt_deletes_nothing(wire: Arc<Wire>) -> Verdict {
    let queue = queue(&wire, "stale", json!({"VisibilityTimeout": "1"})).await?;
    send(&wire, &queue, "job").await?;
    let slow = one(&wire, &queue, 2).await?;
    let next = one(&wire, &queue, 5).await?;
    // Whether it is told so or not: what matters is that the message is still there.
    delete(&wire, &queue, &slow).await?;
    let back = json!({"QueueUrl": queue, "ReceiptHandle": next["ReceiptHandle"],
        "VisibilityTimeout": 0});
    done(&wire, "ChangeMessageVisibility", back).await?;
    let still = receive(&wire, &queue, 1, 2).await?;
    ensure!(still.len() == 1, "a worker without the lease deleted another's message");
    Ok(())
}

async fn a_failed_job_comes_back_at_once(wire: Arc<Wire>) -> Verdict {
    let queue = queue(&wire, "back", json!({"VisibilityTimeout": "600"})).await?;
    send(&wire, &queue, "job").await?;
    let first = one(&wire, &queue, 2).await?;
    let back = json!({"QueueUrl": queue, "ReceiptHandle": first["ReceiptHandle"],
        "VisibilityTimeout": 0});
    done(&wire, "ChangeMessageVisibility", back).await?;
    let again = one(&wire, &queue, 2).await?;
    ensure!(again["Attributes"]["ApproximateReceiveCount"] == "2", "not counted: {again}");
    Ok(())
}

async fn poison_ends_in_the_dead_letter_queue(wire: Arc<Wire>) -> Verdict {
    let dead = queue(&wire, "dead", json!({})).await?;
    let ask = json!({"QueueUrl": dead, "AttributeNames": ["QueueArn"]});
    let arn = done(&wire, "GetQueueAttributes", ask).await?["Attributes"]["QueueArn"].clone();
    let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": 2}).to_string();
    let work = json!({"VisibilityTimeout": "600", "RedrivePolicy": policy});
    let work = queue(&wire, "poison", work).await?;
    send(&wire, &work, "poison").await?;
    for _ in 0..2 {
        let got = one(&wire, &work, 2).await?;
        let back = json!({"QueueUrl": work, "ReceiptHandle": got["ReceiptHandle"],
            "VisibilityTimeout": 0});
        done(&wire, "ChangeMessageVisibility", back).await?;
    }
    none(&wire, &work, "it was received twice, which is all it may be").await?;
    let got = one(&wire, &dead, 5).await?;
    ensure!(got["Body"] == "poison", "the dead-letter queue holds {got}");
    Ok(())
}

async fn a_delayed_message_waits(wire: Arc<Wire>) -> Verdict {
    let queue = queue(&wire, "delay", json!({})).await?;
    let message = json!({"QueueUrl": queue, "MessageBody": "later", "DelaySeconds": 1});
    done(&wire, "SendMessage", message).await?;
    none(&wire, &queue, "the message is delayed").await?;
    one(&wire, &queue, 5).await?;
    Ok(())
}

async fn a_long_poll_wakes_up(wire: Arc<Wire>) -> Verdict {
    let queue = queue(&wire, "poll", json!({})).await?;
    let started = Instant::now();
    let send_later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        send(&wire, &queue, "news").await
    };
    let (got, sent) = tokio::join!(receive(&wire, &queue, 1, 8), send_later);
    sent?;
    ensure!(got?.len() == 1, "a receive that waits 8 s missed a message sent after 0.3 s");
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(4), "it answered after {took:?}: polling, not waiting");
    Ok(())
}

async fn order_holds_within_a_group(wire: Arc<Wire>) -> Verdict {
    let queue = queue(&wire, "order", json!({"FifoQueue": "true"})).await?;
    for body in ["1", "2", "3"] {
        send_fifo(&wire, &queue, "a", body).await?;
    }
    send_fifo(&wire, &queue, "b", "4").await?;
    let first = one(&wire, &queue, 2).await?;
    ensure!(first["Body"] == "1", "1, 2, 3 were sent, {} came first", first["Body"]);
    let others = receive(&wire, &queue, 10, 0).await?;
    let came = bodies(&others);
    ensure!(
        came == ["4"],
        "while group a has 1 in flight only 4 of group b may come, not {came:?}"
    );
    delete(&wire, &queue, &first).await?.is(200)?;
    let rest = receive(&wire, &queue, 10, 2).await?;
    let came = bodies(&rest);
    ensure!(came == ["2", "3"], "after 1 was deleted 2 and 3 are next, not {came:?}");
    Ok(())
}

async fn a_duplicate_is_dropped(wire: Arc<Wire>) -> Verdict {
    let queue = queue(&wire, "dedup", json!({"FifoQueue": "true"})).await?;
    let first = send_fifo(&wire, &queue, "a", "1").await?;
    let again = send_fifo(&wire, &queue, "a", "1").await?;
    ensure!(first["MessageId"] == again["MessageId"], "one message, two ids: {first}, {again}");
    let got = receive(&wire, &queue, 10, 2).await?;
    ensure!(got.len() == 1, "one message was sent twice and came {} times", got.len());
    Ok(())
}

async fn a_batch_is_answered_entry_by_entry(wire: Arc<Wire>) -> Verdict {
    let queue = queue(&wire, "batch", json!({})).await?;
    let entries = json!([
        {"Id": "good", "MessageBody": "1"},
        {"Id": "bad", "MessageBody": "2", "DelaySeconds": 100_000},
        {"Id": "fine", "MessageBody": "3"},
    ]);
    let answer =
        done(&wire, "SendMessageBatch", json!({"QueueUrl": queue, "Entries": entries})).await?;
    let count = |of: &str| answer[of].as_array().map_or(0, Vec::len);
    let (good, bad) = (count("Successful"), count("Failed"));
    ensure!(good == 2 && bad == 1, "two of three entries are good: {answer}");
    let mut got = receive(&wire, &queue, 10, 2).await?;
    got.extend(receive(&wire, &queue, 10, 0).await?);
    let mut came = bodies(&got);
    came.sort_unstable();
    ensure!(came == ["1", "3"], "entries 1 and 3 were accepted, {came:?} came");
    Ok(())
}

async fn errors_have_their_documented_names(wire: Arc<Wire>) -> Verdict {
    let name = wire.name("nobody-made-this");
    let answer = call(&wire, "GetQueueUrl", &json!({"QueueName": name})).await?.is(400)?;
    let kind = answer.json()?["__type"].as_str().unwrap_or_default().to_owned();
    ensure!(kind.ends_with("QueueDoesNotExist"), "an unknown queue is told as {answer}");
    let header = answer.header("x-amzn-query-error");
    ensure!(
        header.starts_with("AWS.SimpleQueueService.NonExistentQueue"),
        "older SDKs read x-amzn-query-error, which is {header:?}"
    );
    let answer = call(&wire, "NoSuchAction", &json!({})).await?;
    ensure!((400..500).contains(&answer.status), "an unknown action: {answer}");
    Ok(())
}
