"""Event invocations: accepted, run, tried again, reported.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .clouds import Cloud, wait_until

pytestmark = pytest.mark.timeout(60)

OwnCloud = Callable[..., Cloud]


@pytest.fixture
def cloud(own_cloud: OwnCloud) -> Cloud:  # type: ignore[override]
    """An emulator whose retries take no time."""
    return own_cloud(virtual_clock=True)


def make_queue(cloud: Cloud) -> tuple[str, Callable[[], dict[str, Any]]]:
    """A queue, and a function that waits for its next message."""
    sqs = cloud.clients("sqs")
    url = sqs.create_queue(QueueName=cloud.unique("results"))["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def receive() -> dict[str, Any]:
        messages: list[dict[str, Any]] = []

        def arrived() -> bool:
            messages.extend(
                sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages", [])
            )
            return bool(messages)

        wait_until(arrived)
        return messages[0]

    return arn, receive


def configure(cloud: Cloud, name: str, success: str = "", failure: str = "", **settings: Any) -> None:
    destinations = {"OnSuccess": {"Destination": success}, "OnFailure": {"Destination": failure}}
    given = {key: value for key, value in destinations.items() if value["Destination"]}
    cloud.lambda_.put_function_event_invoke_config(FunctionName=name, DestinationConfig=given, **settings)


def test_an_event_is_accepted_and_run(cloud: Cloud, tmp_path: Path) -> None:
    """202 without a result, and the function runs (API_Invoke, InvocationType)."""
    name, file = cloud.deploy("sleep"), tmp_path / "ran"
    answer = cloud.invoke(name, {"seconds": 0, "touch": str(file)}, InvocationType="Event")
    assert (answer.response["StatusCode"], answer.payload) == (202, None)
    wait_until(file.exists)


def test_a_result_goes_to_its_destination(cloud: Cloud) -> None:
    """OnSuccess gets a record with request and response.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    arn, receive = make_queue(cloud)
    name = cloud.deploy("echo")
    configure(cloud, name, success=arn)
    answer = cloud.invoke(name, {"n": 1}, InvocationType="Event")
    record = json.loads(receive()["Body"])
    assert record["version"] == "1.0"
    context = record["requestContext"]
    assert context["requestId"] == answer.response["ResponseMetadata"]["RequestId"]
    assert context["functionArn"].endswith(f":{name}:$LATEST")
    assert (context["condition"], context["approximateInvokeCount"]) == ("Success", 1)
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert (record["requestPayload"], record["responsePayload"]) == ({"n": 1}, {"n": 1})


@pytest.mark.parametrize(("retries", "runs"), [(None, 3), (1, 2), (0, 1)])
def test_an_error_is_tried_again(cloud: Cloud, retries: int | None, runs: int) -> None:
    """Two more times by default, else as often as configured; then OnFailure is told."""
    arn, receive = make_queue(cloud)
    name = cloud.deploy("raise_error")
    settings = {} if retries is None else {"MaximumRetryAttempts": retries}
    configure(cloud, name, failure=arn, **settings)
    cloud.invoke(name, {"message": "never"}, InvocationType="Event")
    record = json.loads(receive()["Body"])
    context = record["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("RetriesExhausted", runs)
    assert record["responseContext"]["functionError"] == "Unhandled"
    assert record["responsePayload"]["errorMessage"] == "never"


def test_the_waits_are_one_and_two_minutes(cloud: Cloud) -> None:
    """Three minutes pass on the clock for three attempts, and seconds in the test."""
    arn, receive = make_queue(cloud)
    name = cloud.deploy("raise_error")
    configure(cloud, name, failure=arn)
    assert cloud.emulator is not None
    before_s = cloud.emulator.state()["time_s"]
    cloud.invoke(name, {}, InvocationType="Event")
    receive()
    assert 180 <= cloud.emulator.state()["time_s"] - before_s < 200


def test_an_event_that_gets_too_old_is_given_up(cloud: Cloud) -> None:
    """A retry that would come after MaximumEventAge is not made."""
    arn, receive = make_queue(cloud)
    name = cloud.deploy("raise_error")
    configure(cloud, name, failure=arn, MaximumEventAgeInSeconds=60)
    cloud.invoke(name, {}, InvocationType="Event")
    context = json.loads(receive()["Body"])["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("EventAgeExceeded", 1)


def test_a_throttled_event_waits_for_its_turn(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """429 does not count as an attempt: with room for one, five events run all the same."""
    cloud = own_cloud(virtual_clock=True, account_concurrency=1)
    name = cloud.deploy("sleep", Timeout=20)
    files = [tmp_path / str(number) for number in range(5)]
    for file in files:
        cloud.invoke(name, {"seconds": 0.05, "touch": str(file)}, InvocationType="Event")
    wait_until(lambda: all(file.exists() for file in files))


def test_a_stopped_function_runs_nothing(cloud: Cloud) -> None:
    """With a reservation of 0, events go to OnFailure without a run."""
    arn, receive = make_queue(cloud)
    name = cloud.deploy("echo")
    configure(cloud, name, failure=arn)
    cloud.lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    cloud.invoke(name, {}, InvocationType="Event")
    record = json.loads(receive()["Body"])
    context = record["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("ZeroReservedConcurrency", 0)
    assert "responsePayload" not in record


def test_a_failure_can_go_to_s3(cloud: Cloud) -> None:
    """The object's key has function, date and a random part."""
    s3 = cloud.clients("s3")
    bucket = cloud.unique("failures")
    s3.create_bucket(Bucket=bucket)
    name = cloud.deploy("raise_error")
    configure(cloud, name, failure=f"arn:aws:s3:::{bucket}", MaximumRetryAttempts=0)
    cloud.invoke(name, {}, InvocationType="Event")
    prefix = f"aws/lambda/async/{name}/"
    wait_until(lambda: s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] == 1)
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    record = json.loads(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
    assert record["requestContext"]["condition"] == "RetriesExhausted"


def test_a_result_can_go_to_a_topic(cloud: Cloud) -> None:
    """SNS gets the record as its message."""
    queue, receive = make_queue(cloud)
    sns = cloud.clients("sns")
    topic = sns.create_topic(Name=cloud.unique("results"))["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    name = cloud.deploy("echo")
    configure(cloud, name, success=topic)
    cloud.invoke(name, {"n": 1}, InvocationType="Event")
    record = json.loads(json.loads(receive()["Body"])["Message"])
    assert record["responsePayload"] == {"n": 1}


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        ("echo", "Lambda Function Invocation Result - Success"),
        ("raise_error", "Lambda Function Invocation Result - Failure"),
    ],
)
def test_a_result_can_go_to_an_event_bus(cloud: Cloud, handler: str, kind: str) -> None:
    """EventBridge gets the record as the detail of an event from ``lambda``."""
    queue, receive = make_queue(cloud)
    events, rule = cloud.clients("events"), cloud.unique("results")
    bus = events.create_event_bus(Name=rule)["EventBusArn"]
    pattern = json.dumps({"source": ["lambda"], "detail-type": [kind]})
    events.put_rule(Name=rule, EventBusName=rule, EventPattern=pattern)
    events.put_targets(Rule=rule, EventBusName=rule, Targets=[{"Id": "queue", "Arn": queue}])
    name = cloud.deploy(handler)
    configure(cloud, name, success=bus, failure=bus, MaximumRetryAttempts=0)
    cloud.invoke(name, {"n": 1}, InvocationType="Event")
    event = json.loads(receive()["Body"])
    assert event["detail-type"] == kind
    assert event["detail"]["requestPayload"] == {"n": 1}


def test_a_result_can_go_to_another_function(cloud: Cloud) -> None:
    """A function as destination gets the record as its event."""
    arn, receive = make_queue(cloud)
    first, second = cloud.deploy("echo"), cloud.deploy("echo")
    second_arn = cloud.lambda_.get_function_configuration(FunctionName=second)["FunctionArn"]
    configure(cloud, first, success=second_arn)
    configure(cloud, second, success=arn)
    cloud.invoke(first, {"n": 1}, InvocationType="Event")
    record = json.loads(receive()["Body"])
    assert record["requestPayload"]["responsePayload"] == {"n": 1}


def test_a_dead_letter_queue_gets_the_event(cloud: Cloud) -> None:
    """DeadLetterConfig: the event itself, with request id and error as attributes."""
    arn, receive = make_queue(cloud)
    name = cloud.deploy("raise_error", DeadLetterConfig={"TargetArn": arn})
    cloud.invoke(name, {"message": "lost"}, InvocationType="Event")
    message = receive()
    assert json.loads(message["Body"]) == {"message": "lost"}
    assert message["MessageAttributes"]["ErrorMessage"]["StringValue"] == "lost"
    assert message["MessageAttributes"]["ErrorCode"]["StringValue"] == "200"


def test_an_event_is_at_most_1_mb(cloud: Cloud) -> None:
    """413 over 1 MB: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""
    name = cloud.deploy("echo")
    cloud.invoke(name, "x" * ((1 << 20) - 2), InvocationType="Event")
    with pytest.raises(ClientError) as error:
        cloud.invoke(name, "x" * (1 << 20), InvocationType="Event")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_idle_time_can_be_skipped(cloud: Cloud) -> None:
    """advance() ends environments whose idle time passes, and not before."""
    emulator = cloud.emulator
    assert emulator is not None
    cloud.invoke(cloud.deploy("echo"))
    emulator.advance(290)
    assert emulator.state()["environments"] == 1
    emulator.advance(20)
    assert emulator.state()["environments"] == 0
