"""Invoke as AWS documents it; the same tests run against real AWS with ``--real-aws``."""

from __future__ import annotations

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from .clouds import Cloud

pytestmark = [pytest.mark.contract, pytest.mark.timeout(120)]

API_INVOKE = "https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html"


def test_the_payload_goes_in_and_the_result_comes_out(cloud: Cloud) -> None:
    """RequestResponse returns 200, the handler's result and the version that ran (API_Invoke)."""
    name = cloud.deploy("echo")
    answer = cloud.invoke(name, {"a": [1, 2.5, None, "é"]})
    assert answer.payload == {"a": [1, 2.5, None, "é"]}
    assert answer.response["StatusCode"] == 200
    assert answer.response["ExecutedVersion"] == "$LATEST"
    assert answer.error is None


def test_no_payload_is_an_empty_object(cloud: Cloud) -> None:
    """An invocation without payload gets {} (API_Invoke: Payload is not required)."""
    name = cloud.deploy("echo")
    assert cloud.lambda_.invoke(FunctionName=name)["Payload"].read() == b"{}"


def test_a_dry_run_checks_and_runs_nothing(cloud: Cloud) -> None:
    """DryRun returns 204 and no result (API_Invoke, InvocationType)."""
    name = cloud.deploy("raise_error")
    response = cloud.lambda_.invoke(FunctionName=name, InvocationType="DryRun")
    assert response["StatusCode"] == 204
    assert response["Payload"].read() == b""


@pytest.mark.parametrize("form", ["name", "arn", "partial", "latest in name", "latest in arn"])
def test_a_function_has_several_names(cloud: Cloud, form: str) -> None:
    """Name, ARN and partial ARN, with or without a qualifier (API_Invoke, FunctionName)."""
    name = cloud.deploy("echo")
    arn = cloud.lambda_.get_function_configuration(FunctionName=name)["FunctionArn"]
    account = arn.split(":")[4]
    forms = {
        "name": name,
        "arn": arn,
        "partial": f"{account}:function:{name}",
        "latest in name": f"{name}:$LATEST",
        "latest in arn": f"{arn}:$LATEST",
    }
    assert cloud.invoke(forms[form], {"x": 1}).payload == {"x": 1}


def test_an_arn_of_another_region_is_not_found(cloud: Cloud) -> None:
    """404: functions of another region are not reachable from here (API_Invoke, Errors)."""
    name = cloud.deploy("echo")
    arn = cloud.lambda_.get_function_configuration(FunctionName=name)["FunctionArn"]
    elsewhere = arn.replace(cloud.lambda_.meta.region_name, "eu-north-1")
    for action in (cloud.lambda_.invoke, cloud.lambda_.get_function, cloud.lambda_.delete_function):
        with pytest.raises(cloud.lambda_.exceptions.ResourceNotFoundException, match="eu-north-1"):
            action(FunctionName=elsewhere)


@pytest.mark.parametrize("form", ["arn", "partial"])
def test_an_arn_of_another_account_is_denied(cloud: Cloud, form: str) -> None:
    """403 AccessDeniedException (API_Invoke: the caller needs a permission of the other account)."""
    name = cloud.deploy("echo")
    arn = cloud.lambda_.get_function_configuration(FunctionName=name)["FunctionArn"]
    parts = arn.split(":")
    parts[4] = "999999999999"
    other = ":".join(parts if form == "arn" else parts[4:])
    for action in (cloud.lambda_.invoke, cloud.lambda_.get_function, cloud.lambda_.delete_function):
        with pytest.raises(ClientError) as error:
            action(FunctionName=other)
        assert error.value.response["Error"]["Code"] == "AccessDeniedException"
    with pytest.raises(ClientError, match="AccessDenied"):
        cloud.lambda_.get_alias(FunctionName=other, Name="live")


def test_the_context_tells_the_handler_who_it_is(cloud: Cloud) -> None:
    """The context has request id, ARN, version, memory and time left.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """
    name = cloud.deploy("describe", MemorySize=256, Timeout=30)
    answer = cloud.invoke(name)
    assert answer.payload["request_id"] == answer.response["ResponseMetadata"]["RequestId"]
    assert answer.payload["arn"].endswith(f":function:{name}")
    assert answer.payload["version"] == "$LATEST"
    assert answer.payload["memory_mb"] == "256"
    assert 20_000 < answer.payload["remaining_ms"] <= 30_000


def test_the_client_context_reaches_the_handler(cloud: Cloud) -> None:
    """X-Amz-Client-Context arrives in the context object (API_Invoke, ClientContext)."""
    context = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    answer = cloud.invoke(cloud.deploy("describe"), ClientContext=context)
    assert answer.payload["client_context"] == {"a": "b"}


def test_an_environment_is_used_again(cloud: Cloud) -> None:
    """What a module keeps is there for the next event of the same environment.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
    """
    name = cloud.deploy("describe")
    first, second = cloud.invoke(name).payload, cloud.invoke(name).payload
    assert (first["count"], second["count"]) == (1, 2)


def test_the_log_has_what_was_written_between_start_and_report(cloud: Cloud) -> None:
    """LogResult is START, the output, END and REPORT; only a new environment reports its initialisation.

    https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
    """
    name = cloud.deploy("write_log")
    answer = cloud.invoke(name, {"text": "hello"})
    request_id = answer.response["ResponseMetadata"]["RequestId"]
    lines = answer.log.strip().split("\n")
    assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"
    assert {"hello", "to stderr"} <= set(lines)
    assert f"END RequestId: {request_id}" in lines
    assert re.search(
        rf"REPORT RequestId: {request_id}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\t"
        r"Memory Size: 128 MB\tMax Memory Used: \d+ MB\tInit Duration: [\d.]+ ms",
        lines[-1],
    )
    assert "Init Duration" not in cloud.invoke(name, {"text": "again"}).log


def test_only_the_last_4_kb_of_the_log_come_back(cloud: Cloud) -> None:
    """LogResult is the last 4 KB of the execution log (API_Invoke, LogResult)."""
    answer = cloud.invoke(cloud.deploy("write_log"), {"text": "x" * 10_000})
    assert len(answer.log.encode()) == 4096
    assert "REPORT" in answer.log


def test_no_log_comes_back_unasked(cloud: Cloud) -> None:
    """LogType None, the default, returns no log (API_Invoke, LogType)."""
    response = cloud.lambda_.invoke(FunctionName=cloud.deploy("echo"), Payload=b"1")
    assert "LogResult" not in response


def test_invocations_run_side_by_side(cloud: Cloud) -> None:
    """Events at the same time run in environments of their own.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
    """
    name = cloud.deploy("sleep", Timeout=20)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: cloud.invoke(name, {"seconds": 2}), range(3)))
    assert all("Init Duration" in answer.log for answer in answers)
