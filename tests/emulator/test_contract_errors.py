"""What Lambda answers when things go wrong; the same tests run against real AWS with ``--real-aws``."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .clouds import Cloud

pytestmark = [pytest.mark.contract, pytest.mark.timeout(120)]

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_what_the_handler_raises_is_the_result(cloud: Cloud) -> None:
    """A Python exception comes back as FunctionError with message, type and stack trace.

    https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html
    """
    answer = cloud.invoke(cloud.deploy("raise_error"), {"message": "no such muon"})
    assert answer.response["StatusCode"] == 200
    assert answer.error == "Unhandled"
    assert answer.payload["errorMessage"] == "no such muon"
    assert answer.payload["errorType"] == "ValueError"
    assert any("raise_error" in line for line in answer.payload["stackTrace"])
    assert "[ERROR] ValueError: no such muon" in answer.log


def test_an_environment_survives_an_exception(cloud: Cloud) -> None:
    """A handled error does not end the environment.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
    """
    name = cloud.deploy("raise_error")
    cloud.invoke(name, {})
    assert "Init Duration" not in cloud.invoke(name, {}).log


def test_a_result_that_is_not_json_is_an_error(cloud: Cloud) -> None:
    """What json cannot encode gives Runtime.MarshalError.

    https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html#python-handler-return
    """
    answer = cloud.invoke(cloud.deploy("not_json"))
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Runtime.MarshalError"


def test_time_is_limited(cloud: Cloud) -> None:
    """A function over its timeout is killed, and says so in result and log.

    https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
    """
    answer = cloud.invoke(cloud.deploy("sleep", Timeout=1), {"seconds": 30})
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Sandbox.Timedout"
    assert re.fullmatch(
        rf"RequestId: {UUID} Error: Task timed out after 1\.00 seconds", answer.payload["errorMessage"]
    )
    assert "Status: timeout" in answer.log


def test_a_new_environment_follows_a_time_out(cloud: Cloud) -> None:
    """The environment that timed out is gone, its count with it."""
    name = cloud.deploy("sleep", Timeout=1)
    cloud.invoke(name, {"seconds": 30})
    assert cloud.invoke(name, {"seconds": 0}).payload == "awake"


@pytest.mark.parametrize(
    ("handler", "event", "reason"),
    [
        ("leave", {"status": 3}, "Runtime exited with error: exit status 3"),
        ("leave", {"status": 0}, "Runtime exited without providing a reason"),
        ("crash", {}, "Runtime exited with error: signal: segmentation fault"),
        ("die", {"signal": 9}, "Runtime exited with error: signal: killed"),
        ("die", {"signal": 6}, "Runtime exited with error: signal: aborted"),
    ],
)
def test_a_process_that_ends_is_an_exit_error(cloud: Cloud, handler: str, event: Any, reason: str) -> None:
    """A runtime that exits or is killed gives Runtime.ExitError with the way it ended.

    https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html and, for REPORT,
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
    """
    answer = cloud.invoke(cloud.deploy(handler, Timeout=20), event)
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Runtime.ExitError"
    assert re.fullmatch(rf"RequestId: {UUID} Error: {reason}", answer.payload["errorMessage"])
    assert "Status: error\tError Type: Runtime.ExitError" in answer.log


def test_memory_is_limited(cloud: Cloud) -> None:
    """A function over its memory is killed; REPORT names the reason and shows all memory used.

    https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
    """
    answer = cloud.invoke(cloud.deploy("grow", Timeout=20), {"mb": 300, "seconds": 10})
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Runtime.ExitError"
    assert answer.payload["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    assert "Memory Size: 128 MB\tMax Memory Used: 128 MB" in answer.log
    assert "Error Type: Runtime.OutOfMemory" in answer.log


def test_memory_within_the_limit_is_reported(cloud: Cloud) -> None:
    """Max Memory Used includes what the handler took."""
    answer = cloud.invoke(cloud.deploy("grow", MemorySize=512, Timeout=20), {"mb": 200})
    assert answer.error is None
    used = re.search(r"Max Memory Used: (\d+) MB", answer.log)
    assert used is not None
    assert 200 < int(used[1]) < 512


def test_a_module_that_is_missing_is_an_import_error(cloud: Cloud) -> None:
    """A handler whose module cannot be imported gives Runtime.ImportModuleError.

    https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
    """
    name = cloud.deploy("echo")
    cloud.lambda_.update_function_configuration(FunctionName=name, Handler="nowhere.handler")
    cloud.lambda_.get_waiter("function_updated_v2").wait(FunctionName=name)
    answer = cloud.invoke(name)
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Runtime.ImportModuleError"
    assert answer.payload["errorMessage"] == "Unable to import module 'nowhere': No module named 'nowhere'"


def test_a_handler_that_is_missing_is_named(cloud: Cloud) -> None:
    """A module without the handler gives Runtime.HandlerNotFound.

    https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
    """
    answer = cloud.invoke(cloud.deploy("no_such_handler"))
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Runtime.HandlerNotFound"


def test_an_unknown_function_is_not_found(cloud: Cloud) -> None:
    """404 ResourceNotFoundException names the ARN (API_Invoke, Errors)."""
    with pytest.raises(ClientError) as error:
        cloud.lambda_.invoke(FunctionName="no-such-function")
    assert code_of(error) == (404, "ResourceNotFoundException")
    assert re.search(r"Function not found: arn:aws:lambda:.*:function:no-such-function", str(error.value))


def test_an_unknown_version_is_not_found(cloud: Cloud) -> None:
    """A qualifier that is neither version nor alias gives 404 (API_Invoke, Errors)."""
    name = cloud.deploy("echo")
    with pytest.raises(ClientError) as error:
        cloud.lambda_.invoke(FunctionName=name, Qualifier="77")
    assert code_of(error) == (404, "ResourceNotFoundException")


@pytest.mark.parametrize(
    "payload",
    [b"{not json", b"NaN", b'{"a": [-Infinity]}', b"\xff", b"[" * 100_000],
    ids=["text", "nan", "infinity", "bytes", "deep"],
)
def test_a_payload_that_is_not_json_is_refused(cloud: Cloud, payload: bytes) -> None:
    """400 InvalidRequestContentException (API_Invoke, Errors); numbers are finite in JSON."""
    name = cloud.deploy("echo")
    with pytest.raises(ClientError) as error:
        cloud.lambda_.invoke(FunctionName=name, Payload=payload)
    assert code_of(error) == (400, "InvalidRequestContentException")


def test_a_large_payload_arrives(cloud: Cloud) -> None:
    """Not quite 6 MB go in and come out.

    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    """
    text = "x" * (6_291_456 - 1 - 2)
    answer = cloud.invoke(cloud.deploy("echo", MemorySize=512, Timeout=20), text)
    assert answer.payload == text


def test_a_payload_over_6_mb_is_refused(cloud: Cloud) -> None:
    """413 for a request that is not smaller than the limit, which AWS's message names.

    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    """
    name = cloud.deploy("echo")
    with pytest.raises(ClientError, match="smaller than 6291456 bytes") as error:
        cloud.invoke(name, "x" * (6_291_456 - 2))
    assert code_of(error)[0] == 413


def test_a_result_may_have_100_bytes_more(cloud: Cloud) -> None:
    """The largest response is the number that the error for larger ones names."""
    name = cloud.deploy("return_large", MemorySize=512, Timeout=20)
    assert len(cloud.invoke(name, {"size": 6_291_556 - 2}).payload) == 6_291_556 - 2
    assert cloud.invoke(name, {"size": 6_291_556 - 1}).payload["errorType"] == "Function.ResponseSizeTooLarge"


def test_a_result_over_6_mb_is_an_error(cloud: Cloud) -> None:
    """A response over the limit gives Function.ResponseSizeTooLarge.

    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    """
    name = cloud.deploy("return_large", MemorySize=512, Timeout=20)
    answer = cloud.invoke(name, {"size": 6_291_556})
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Function.ResponseSizeTooLarge"
    assert "6291556 bytes" in answer.payload["errorMessage"]


def test_reserved_concurrency_is_a_limit(cloud: Cloud) -> None:
    """One more than reserved gives 429 with its reason and a time to wait.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
    """
    name = cloud.deploy("sleep", Timeout=20)
    cloud.lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    cloud.invoke(name, {"seconds": 0})
    first = threading.Thread(target=_insist, args=(cloud, name, {"seconds": 3}))
    first.start()
    error = _throttled(cloud, name)
    first.join(30)
    assert error["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert error["Error"]["Code"] == "TooManyRequestsException"
    assert cloud.invoke(name, {"seconds": 0}).payload == "awake"


def test_no_reserved_concurrency_stops_a_function(cloud: Cloud) -> None:
    """A reservation of 0 throttles every invocation.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
    """
    name = cloud.deploy("echo")
    cloud.lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError) as error:
        cloud.lambda_.invoke(FunctionName=name)
    assert code_of(error) == (429, "TooManyRequestsException")


def _insist(cloud: Cloud, name: str, event: Any) -> None:
    """Invoke until there is room: the other thread may have taken it for a moment."""
    for _ in range(200):
        try:
            cloud.invoke(name, event)
        except cloud.lambda_.exceptions.TooManyRequestsException:
            continue
        return


def _throttled(cloud: Cloud, name: str) -> dict[str, Any]:
    """Invoke until the first one is running and the next one is refused."""
    for _ in range(200):
        try:
            cloud.invoke(name, {"seconds": 0})
        except ClientError as error:
            return dict(error.response)
    pytest.fail("200 invocations beside a running one were not throttled")
