"""Drives a running server with boto3, the AWS SDK for Python, operation by operation.

usage: boto3_client.py ENDPOINT

Every check prints a line; the last line is `passed N`. boto3 speaks the JSON protocol.
"""

import json
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint = sys.argv[1]
passed = 0


def client(region="us-east-1"):
    return boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 1}),
    )


def check(what, condition):
    global passed
    if not condition:
        raise SystemExit(f"FAILED: {what}")
    passed += 1
    print("ok", what)


def refused(what, code, call):
    try:
        call()
    except ClientError as error:
        found = error.response["Error"]["Code"]
        check(f"{what}: {code}", found == code or print("  found", found, error))
    else:
        raise SystemExit(f"FAILED: {what} was not refused")


sqs = client()
url = sqs.create_queue(QueueName="boto", Attributes={"VisibilityTimeout": "5"}, tags={"team": "a"})["QueueUrl"]
check("the queue's address is ours", url.startswith(endpoint) and url.endswith("/boto"))
check("creating it again finds it", sqs.create_queue(QueueName="boto")["QueueUrl"] == url)
refused("another visibility timeout", "QueueAlreadyExists", lambda: sqs.create_queue(QueueName="boto", Attributes={"VisibilityTimeout": "6"}))
refused("a name with a space", "InvalidParameterValue", lambda: sqs.create_queue(QueueName="bo to"))
refused("a missing queue", "AWS.SimpleQueueService.NonExistentQueue", lambda: sqs.get_queue_url(QueueName="missing"))
try:
    sqs.get_queue_url(QueueName="missing")
except sqs.exceptions.QueueDoesNotExist:
    check("the modelled exception is raised", True)
check("its address is found", sqs.get_queue_url(QueueName="boto")["QueueUrl"] == url)
check("it is listed", url in sqs.list_queues(QueueNamePrefix="bo")["QueueUrls"])
check("an empty list omits the key", "QueueUrls" not in client("eu-west-1").list_queues())

# boto3 checks the MD5 itself.
sent = sqs.send_message(
    QueueUrl=url,
    MessageBody="hällo <&> \r\n 😀",
    MessageAttributes={
        "n": {"DataType": "Number", "StringValue": "1"},
        "b": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        "s.x": {"DataType": "String.label", "StringValue": "text"},
    },
    MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}},
)
check("a message is sent", len(sent["MessageId"]) == 36)
got = sqs.receive_message(QueueUrl=url, AttributeNames=["All"], MessageAttributeNames=["All"], WaitTimeSeconds=1)["Messages"][0]
check("its body is unchanged", got["Body"] == "hällo <&> \r\n 😀")
check("its digests are unchanged", got["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"] and got["MD5OfBody"] == sent["MD5OfMessageBody"])
check("bytes are unchanged", got["MessageAttributes"]["b"]["BinaryValue"] == b"\x00\xff")
check("it was received once", got["Attributes"]["ApproximateReceiveCount"] == "1")
check("its trace header is there", got["Attributes"]["AWSTraceHeader"] == "Root=1")
check("an empty receive omits the key", "Messages" not in sqs.receive_message(QueueUrl=url))
sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"], VisibilityTimeout=0)
again = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["s.*"], AttributeNames=["ApproximateReceiveCount"])["Messages"][0]
check("given back, it comes again", again["Attributes"] == {"ApproximateReceiveCount": "2"})
check("attributes are chosen by prefix", list(again["MessageAttributes"]) == ["s.x"])
sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])
attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
check("a stale handle deletes nothing", attributes["ApproximateNumberOfMessagesNotVisible"] == "1")
sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
refused("a mangled handle", "ReceiptHandleIsInvalid", lambda: sqs.delete_message(QueueUrl=url, ReceiptHandle="x"))
refused("a control character", "InvalidMessageContents", lambda: sqs.send_message(QueueUrl=url, MessageBody="\x01"))
refused("too large a body", "InvalidParameterValue", lambda: sqs.send_message(QueueUrl=url, MessageBody="x" * (1024 * 1024 + 1)))
check("the largest body", sqs.send_message(QueueUrl=url, MessageBody="x" * (1024 * 1024))["MessageId"] != "")
check("and it arrives", len(sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"]) == 1024 * 1024)
refused("too long a delay", "InvalidParameterValue", lambda: sqs.send_message(QueueUrl=url, MessageBody="x", DelaySeconds=901))

entries = [{"Id": str(n), "MessageBody": f"m{n}"} for n in range(9)]
batch = sqs.send_message_batch(QueueUrl=url, Entries=entries + [{"Id": "bad", "MessageBody": "\x02"}])
check("a batch succeeds in part", len(batch["Successful"]) == 9 and batch["Failed"][0]["Id"] == "bad" and batch["Failed"][0]["SenderFault"])
refused("an empty batch", "AWS.SimpleQueueService.EmptyBatchRequest", lambda: sqs.send_message_batch(QueueUrl=url, Entries=[]))
refused("eleven entries", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", lambda: sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "x"} for n in range(11)]))
refused("equal ids", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", lambda: sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "a", "MessageBody": "x"}] * 2))
refused("too long a batch", "AWS.SimpleQueueService.BatchRequestTooLong", lambda: sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "x" * 600_000} for n in range(2)]))
messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
check("nine are received", len(messages) == 9)
handles = [{"Id": str(n), "ReceiptHandle": it["ReceiptHandle"]} for n, it in enumerate(messages)]
changed = sqs.change_message_visibility_batch(QueueUrl=url, Entries=[{**it, "VisibilityTimeout": 30} for it in handles])
check("nine leases are extended", len(changed["Successful"]) == 9)
deleted = sqs.delete_message_batch(QueueUrl=url, Entries=handles + [{"Id": "bad", "ReceiptHandle": "x"}])
check("nine are deleted and one is not", len(deleted["Successful"]) == 9 and deleted["Failed"][0]["Code"] == "ReceiptHandleIsInvalid")

sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "1", "MessageRetentionPeriod": "120"})
check("attributes are set", sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["DelaySeconds"])["Attributes"] == {"DelaySeconds": "1"})
refused("an unknown attribute", "InvalidAttributeName", lambda: sqs.set_queue_attributes(QueueUrl=url, Attributes={"Nonsense": "1"}))
refused("a value out of range", "InvalidAttributeValue", lambda: sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "43201"}))
sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "0"})
sqs.tag_queue(QueueUrl=url, Tags={"cost": "b"})
sqs.untag_queue(QueueUrl=url, TagKeys=["team"])
check("tags are kept", sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"cost": "b"})
sqs.add_permission(QueueUrl=url, Label="share", AWSAccountIds=["123456789012"], Actions=["SendMessage"])
check("a permission is in the policy", "share" in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"])
sqs.remove_permission(QueueUrl=url, Label="share")
check("and out of it", "Attributes" not in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]))

fifo = sqs.create_queue(QueueName="boto.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"})["QueueUrl"]
first = sqs.send_message(QueueUrl=fifo, MessageBody="one", MessageGroupId="g")
check("a duplicate is answered with the original", sqs.send_message(QueueUrl=fifo, MessageBody="one", MessageGroupId="g")["MessageId"] == first["MessageId"])
second = sqs.send_message(QueueUrl=fifo, MessageBody="two", MessageGroupId="g")
check("sequence numbers grow", first["SequenceNumber"] < second["SequenceNumber"])
refused("no group", "MissingParameter", lambda: sqs.send_message(QueueUrl=fifo, MessageBody="x"))
got = sqs.receive_message(QueueUrl=fifo, ReceiveRequestAttemptId="a", AttributeNames=["All"])["Messages"]
check("the first is first", got[0]["Body"] == "one" and got[0]["Attributes"]["MessageGroupId"] == "g")
check("a repeated attempt gets the same", sqs.receive_message(QueueUrl=fifo, ReceiveRequestAttemptId="a")["Messages"][0]["ReceiptHandle"] == got[0]["ReceiptHandle"])
check("its group is blocked", "Messages" not in sqs.receive_message(QueueUrl=fifo))

dead = sqs.create_queue(QueueName="boto-dead")["QueueUrl"]
arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "1"})
sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
check("sources are listed", sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url])
sqs.send_message(QueueUrl=url, MessageBody="poison")
sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
check("after one receive it is gone", "Messages" not in sqs.receive_message(QueueUrl=url))
got = sqs.receive_message(QueueUrl=dead, AttributeNames=["DeadLetterQueueSourceArn"], VisibilityTimeout=0)["Messages"][0]
check("the dead letter knows its source", got["Attributes"]["DeadLetterQueueSourceArn"].endswith(":boto"))
task = sqs.start_message_move_task(SourceArn=arn)["TaskHandle"]
for _ in range(100):
    listed = sqs.list_message_move_tasks(SourceArn=arn)["Results"][0]
    if listed["Status"] != "RUNNING":
        break
    time.sleep(0.05)
check("the move is completed", listed["Status"] == "COMPLETED" and listed["ApproximateNumberOfMessagesMoved"] == 1)
refused("cancelling what has ended", "AWS.SimpleQueueService.UnsupportedOperation", lambda: sqs.cancel_message_move_task(TaskHandle=task))
refused("cancelling what never was", "ResourceNotFoundException", lambda: sqs.cancel_message_move_task(TaskHandle="x"))
check("it is home again", sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "poison")
sqs.purge_queue(QueueUrl=url)
refused("a second purge", "AWS.SimpleQueueService.PurgeQueueInProgress", lambda: sqs.purge_queue(QueueUrl=url))
for queue in (url, fifo, dead):
    sqs.delete_queue(QueueUrl=queue)
refused("a deleted queue", "AWS.SimpleQueueService.NonExistentQueue", lambda: sqs.send_message(QueueUrl=url, MessageBody="x"))
print("passed", passed)
