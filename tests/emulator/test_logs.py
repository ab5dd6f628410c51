"""Functions' logs in CloudWatch Logs."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from dask_root_lambda.emulator import logs

from .clouds import Cloud

pytestmark = pytest.mark.timeout(60)

OwnCloud = Callable[..., Cloud]


def messages(cloud: Cloud, group: str) -> list[str]:
    pages = cloud.clients("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
    return [event["message"] for page in pages for event in page["events"]]


def test_the_log_is_in_cloudwatch(own_cloud: OwnCloud) -> None:
    """Group and stream as the function's variables name them; START, output, END and REPORT as events.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
    """
    cloud = own_cloud()
    name = cloud.deploy("write_log")
    for text in ("first", "second"):
        cloud.invoke(name, {"text": text})
    lines = messages(cloud, f"/aws/lambda/{name}")
    assert [line for line in lines if line in ("first", "second")] == ["first", "second"]
    assert sum(line.startswith("START RequestId") for line in lines) == 2
    assert sum(line.startswith("REPORT RequestId") for line in lines) == 2
    (stream,) = cloud.clients("logs").describe_log_streams(logGroupName=f"/aws/lambda/{name}")["logStreams"]
    assert "[$LATEST]" in stream["logStreamName"]


def test_each_environment_has_a_stream(own_cloud: OwnCloud) -> None:
    """A new environment logs to a new stream of the same group."""
    cloud = own_cloud()
    name = cloud.deploy("leave")
    for _ in range(2):
        cloud.invoke(name, {"status": 1})
    streams = cloud.clients("logs").describe_log_streams(logGroupName=f"/aws/lambda/{name}")["logStreams"]
    assert len(streams) == 2


def test_a_function_may_log_elsewhere(own_cloud: OwnCloud) -> None:
    """LoggingConfig.LogGroup names the group, and one that exists is used.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html
    """
    cloud = own_cloud()
    group = cloud.unique("/analysis")
    cloud.clients("logs").create_log_group(logGroupName=group)
    name = cloud.deploy("write_log", LoggingConfig={"LogGroup": group})
    cloud.invoke(name, {"text": "here"})
    assert "here" in messages(cloud, group)


def test_logs_can_be_json(own_cloud: OwnCloud) -> None:
    """LogFormat JSON: Lambda's records and the handler's logging are JSON objects.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
    """
    cloud = own_cloud()
    name = cloud.deploy("raise_error", LoggingConfig={"LogFormat": "JSON"})
    answer = cloud.invoke(name, {"message": "as json"})
    records = [json.loads(line) for line in answer.log.strip().split("\n")]
    assert [record["type"] for record in records if "type" in record] == ["platform.start", "platform.report"]
    assert any(record.get("errorMessage") == "as json" for record in records)


def test_lambdas_own_records_have_a_level(own_cloud: OwnCloud) -> None:
    """SystemLogLevel WARN leaves out start and report, unless something went wrong.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
    """
    cloud = own_cloud()
    settings = {"LogFormat": "JSON", "SystemLogLevel": "WARN"}
    name = cloud.deploy("leave", LoggingConfig=settings)
    cloud.lambda_.update_function_configuration(FunctionName=name, Handler="stub_handlers.echo")
    assert "platform." not in cloud.invoke(name, {}).log
    cloud.lambda_.update_function_configuration(FunctionName=name, Handler="stub_handlers.leave")
    log = cloud.invoke(name, {"status": 1}).log
    assert "platform.report" in log
    assert "platform.start" not in log


def test_logs_survive_a_jump_of_the_clock(own_cloud: OwnCloud) -> None:
    """CloudWatch Logs refuses times more than 2 hours ahead; what a virtual clock skipped is not lost in it.

    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
    """
    cloud = own_cloud(virtual_clock=True)
    name = cloud.deploy("write_log")
    assert cloud.emulator is not None
    for text in ("before", "after 3 h", "after 40 days"):
        cloud.invoke(name, {"text": text})
        cloud.emulator.advance(3 * 3600 if text == "before" else 40 * 86_400)
    lines = messages(cloud, f"/aws/lambda/{name}")
    assert [line for line in lines if line.startswith(("before", "after"))] == [
        "before",
        "after 3 h",
        "after 40 days",
    ]


def test_the_emulator_forgets_old_events(own_cloud: OwnCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the emulator nor moto behind it keeps more of a stream than the bound."""
    from dask_root_lambda.emulator import cloudwatch

    monkeypatch.setattr(cloudwatch, "EVENTS_PER_STREAM", 5)
    cloud = own_cloud()
    name = cloud.deploy("write_log")
    for number in range(3):
        cloud.invoke(name, {"text": str(number)})
        assert len(messages(cloud, f"/aws/lambda/{name}")) == 5
    assert logs.EVENTS_PER_STREAM > 5
