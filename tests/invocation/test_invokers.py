"""One contract for every invoker; and AWS's errors in our terms."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import botocore.exceptions
import psutil
import pytest

from dask_root_lambda.config import Settings
from dask_root_lambda.invocation import aws
from dask_root_lambda.invocation.cancellation import Cancellation
from dask_root_lambda.invocation.emulated import EmulatedInvoker, EmulatorProcess
from dask_root_lambda.invocation.function import FunctionInfo, function_error
from dask_root_lambda.invocation.invokers import AwsInvoker, LocalInvoker
from dask_root_lambda.protocol import seal, wire
from dask_root_lambda.protocol import store as stores
from dask_root_lambda.protocol.errors import (
    AccessError,
    BrokenEnvironmentError,
    ConfigurationError,
    CrashError,
    FunctionNotFoundError,
    FunctionTimeoutError,
    InitError,
    InvocationError,
    KilledError,
    NoAnswerError,
    NotReadyError,
    OutOfMemoryError,
    RunCancelledError,
    ServiceError,
    ThrottledError,
    TooLargeError,
    UnreachableError,
    UserCodeError,
    VersionMismatchError,
)
from dask_root_lambda.protocol.task import Body, Request, Versions
from tests.invokers import KEY


def call(function, *args, **options):
    return Request("call", "task-1", (Body.of(wire.dumps((function, args, {}))),), seal_key=KEY, **options)


@pytest.fixture(scope="module")
def emulated_invoker():
    invoker = EmulatedInvoker(Settings.resolve(execution="emulated", concurrency=2, timeout_s=30))
    yield invoker
    invoker.close()


@pytest.fixture(params=["local", "emulated"])
def invoker(request):
    """Each invoker that runs the real handler."""
    if request.param == "local":
        return LocalInvoker()
    return request.getfixturevalue("emulated_invoker")


def test_a_call_is_answered_and_billed(invoker):
    """The answer carries the value; the invocation carries times, sizes and an id."""
    invocation = invoker.invoke(call(pow, 2, 5), Cancellation())
    assert invocation.error is None
    assert wire.loads(invocation.reply.body.inline) == 32
    assert invocation.billing.duration_s > 0
    assert invocation.request_id
    assert invocation.bytes_up > 0
    assert invocation.bytes_down > 0


def test_an_exception_is_an_error_with_task_attempt_and_request(invoker):
    """An error says which task, which try and which request it was."""
    error = invoker.invoke(call(lambda: 1 / 0, attempt=3), Cancellation()).error
    assert isinstance(error, UserCodeError)
    assert (error.task, error.attempt) == ("task-1", 3)
    assert "division by zero" in str(error)


def test_another_python_is_refused(invoker):
    """Versions are compared whichever way the request goes."""
    error = invoker.invoke(call(abs, 1, versions=Versions(python="3.8")), Cancellation()).error
    assert isinstance(error, VersionMismatchError)


def test_a_request_that_is_cancelled_before_is_not_answered(invoker):
    """A cancelled request raises, at once."""
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(RunCancelledError):
        invoker.invoke(call(abs, 1), cancellation)


def test_the_store_of_the_invoker_is_the_functions_store(invoker):
    """What the client puts into the store, the function finds there."""
    blob = wire.dumps((len, ("abcd",), {}))
    invoker.store.put("calls/here/in", seal.sealed(KEY, "calls/here/in", blob))
    request = Request("call", "task", (Body(key="calls/here/in", size=len(blob)),), seal_key=KEY)
    assert wire.loads(invoker.invoke(request, Cancellation()).reply.body.inline) == 4
    invoker.store.delete(["calls/here/in"])


def test_what_goes_through_the_store_is_counted(emulated_invoker):
    """Bytes up hold what was put into the store, once for all that use it; bytes down the results there."""
    padded = wire.dumps((len, (os.urandom(1_000_000),), {}))
    sealed = seal.sealed(KEY, "calls/counted/in", padded)
    emulated_invoker.store.put("calls/counted/in", sealed)
    body = Body(key="calls/counted/in", size=len(padded))
    request = Request("call", "task", (body,), seal_key=KEY)
    first, second = (emulated_invoker.invoke(request, Cancellation()) for _ in range(2))
    assert first.bytes_up == second.bytes_up + len(sealed)
    large = call(os.urandom, 6_000_000, result_key="calls/counted/result")
    assert emulated_invoker.invoke(large, Cancellation()).bytes_down > 6_000_000
    emulated_invoker.store.delete(["calls/counted/in", "calls/counted/result"])


def test_the_first_invocation_of_an_environment_is_cold_and_the_next_is_not(emulated_invoker):
    """REPORT's Init Duration tells a cold start; INIT is billed, and costs."""
    seen = [emulated_invoker.invoke(call(abs, 1), Cancellation()) for _ in range(6)]
    with ThreadPoolExecutor(2) as pool:
        seen += pool.map(lambda _: emulated_invoker.invoke(call(time.sleep, 0.3), Cancellation()), range(4))
    warm = [each for each in seen if not each.billing.cold]
    assert warm
    assert all(each.usd > 0 and each.billing.memory_mb == 3008 for each in seen)
    assert all(each.billing.billed_s >= each.billing.init_s for each in seen if each.billing.cold)


def test_a_request_in_flight_can_be_ended(emulated_invoker):
    """A cancellation ends the wait for an answer within seconds, and the environment with it."""
    cancellation = Cancellation()
    threading.Timer(1.0, cancellation.cancel).start()
    began_s = time.monotonic()
    with pytest.raises(RunCancelledError):
        emulated_invoker.invoke(call(time.sleep, 25), cancellation)
    assert time.monotonic() - began_s < 15


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("import os; os._exit(3)", CrashError, "exit status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", CrashError, "segmentation fault"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", KilledError, "killed"),
    ],
)
def test_a_process_that_ends_is_an_error_of_its_kind(emulated_invoker, code, kind, said):
    """An exit, a signal, and the signal that stands for too much memory are told apart."""
    error = emulated_invoker.invoke(call(exec, code), Cancellation()).error
    assert isinstance(error, kind)
    assert said in str(error)
    assert error.request_id


def test_a_function_that_takes_too_long_is_ended_and_says_so():
    """The function's time limit is an error that says what to do, and the time is billed."""
    invoker = EmulatedInvoker(Settings.resolve(execution="emulated", concurrency=1, timeout_s=3))
    try:
        invoker.invoke(call(abs, 1), Cancellation())
        invocation = invoker.invoke(call(time.sleep, 20), Cancellation())
    finally:
        invoker.close()
    assert isinstance(invocation.error, FunctionTimeoutError)
    assert "3 s: use more partitions" in str(invocation.error)
    assert invocation.billing.billed_s >= 3


def test_secrets_of_the_client_do_not_reach_the_environment(monkeypatch):
    """An environment acts as its role. The client's AWS credentials are there to read data with, under names
    of their own; nothing else of the client's secrets is.
    """
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-client")
    monkeypatch.setenv("MY_TOKEN", "token-of-the-client")
    invoker = EmulatedInvoker(Settings.resolve(execution="emulated", concurrency=1))
    try:
        answer = invoker.invoke(call(lambda: dict(__import__("os").environ)), Cancellation())
    finally:
        invoker.close()
    variables = wire.loads(answer.reply.body.inline)
    assert variables["AWS_SECRET_ACCESS_KEY"] not in ("", "secret-of-the-client")
    assert "token-of-the-client" not in variables.values()
    for_data = {name for name, value in variables.items() if value == "secret-of-the-client"}
    assert for_data == {"DASK_ROOT_LAMBDA_USERS_AWS_SECRET_ACCESS_KEY"}


def test_a_closed_invoker_leaves_nothing_open():
    """A session that opens one after the other keeps no files and no stores of them."""
    process = psutil.Process()
    files = []
    for _ in range(4):
        invoker = EmulatedInvoker(Settings.resolve(execution="emulated", concurrency=1))
        assert list(invoker.store.keys()) == []
        invoker.close()
        url = invoker.store.url
        del invoker
        gc.collect()
        files.append(process.num_fds())
    # Each would leave one; what else the process opens is not ours to count.
    assert files[3] - files[0] < 3
    assert url not in stores._connected


def test_the_emulator_ends_though_a_fork_holds_its_input():
    """A fork of the user's process, as multiprocessing makes them, does not keep the emulator waiting."""
    emulator = EmulatorProcess(60)
    fork = os.fork()
    if fork == 0:
        time.sleep(30)
        os._exit(0)
    try:
        began_s = time.monotonic()
        emulator.stop()
        assert time.monotonic() - began_s < 8
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)


class TestAnEndpointThatFails:
    """Every way in which AWS can fail to answer ends in one clear error, soon."""

    @staticmethod
    def settings(endpoint, **options):
        return Settings.resolve(
            execution="lambda", endpoint_url=endpoint, region="us-east-1", connect_timeout_s=1, **options
        )

    @pytest.fixture(autouse=True)
    def _credentials(self, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")

    def test_it_takes_connections_and_says_nothing(self, monkeypatch):
        """An endpoint that never answers is told within a bounded time, and not as a function that runs."""
        monkeypatch.setattr(aws, "_CONTROL_READ_TIMEOUT_S", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(NoAnswerError, match="check the endpoint"):
                AwsInvoker(self.settings(endpoint))

    def test_nothing_listens(self):
        """A closed port is named with what to check."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=r"check the network, the region and the endpoint"):
            AwsInvoker(self.settings(endpoint))

    def test_the_function_does_not_exist(self, aws_endpoint):
        """A wrong name says how to deploy."""
        with pytest.raises(FunctionNotFoundError, match=r"'nobody' cannot be used.*dask-root-lambda deploy"):
            AwsInvoker(self.settings(aws_endpoint, function="nobody"))

    def test_credentials_are_missing(self, aws_endpoint, monkeypatch, tmp_path):
        """Without credentials the error says how to configure them."""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(AccessError, match="aws configure"):
            AwsInvoker(self.settings(aws_endpoint))

    def test_the_profile_does_not_exist(self, monkeypatch, tmp_path):
        """A profile that is not configured is named."""
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        with pytest.raises(ConfigurationError, match="nobodys"):
            AwsInvoker(self.settings("http://127.0.0.1:1", profile="nobodys"))

    def test_the_region_is_missing(self, monkeypatch, tmp_path):
        """Without a region the error says where to set it."""
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        settings = Settings.resolve(execution="lambda", endpoint_url="http://127.0.0.1:1")
        with pytest.raises(ConfigurationError, match="AWS_REGION"):
            AwsInvoker(settings)


def client_error(code, status, **extra):
    document = {
        "Error": {"Code": code, "Message": "said"},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **extra,
    }
    return botocore.exceptions.ClientError(document, "Invoke")


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (
            client_error("TooManyRequestsException", 429, Reason="ConcurrentInvocationLimitExceeded"),
            ThrottledError,
        ),
        (client_error("EC2ThrottledException", 502), ThrottledError),
        (client_error("AccessDeniedException", 403), AccessError),
        (client_error("InvalidSignatureException", 403), AccessError),
        (client_error("ExpiredTokenException", 403), AccessError),
        (client_error("ResourceNotFoundException", 404), FunctionNotFoundError),
        (client_error("RequestTooLargeException", 413), TooLargeError),
        (client_error("ServiceException", 500), ServiceError),
        (client_error("Whatever", 503), ServiceError),
        (client_error("429", 429), ThrottledError),
        (client_error("413", 413), TooLargeError),
        (client_error("SnapStartTimeoutException", 408), ServiceError),
        (client_error("SnapStartNotReadyException", 409), NotReadyError),
        (client_error("ResourceConflictException", 409), NotReadyError),
        (client_error("ResourceNotReadyException", 502), NotReadyError),
        (client_error("CodeArtifactUserPendingException", 409), NotReadyError),
        (botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), ServiceError),
        (client_error("InvalidParameterValueException", 400), InvocationError),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="u"), NoAnswerError),
        (botocore.exceptions.ConnectTimeoutError(endpoint_url="u"), UnreachableError),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="u"), UnreachableError),
        (botocore.exceptions.ConnectionClosedError(endpoint_url="u"), ServiceError),
        (botocore.exceptions.SSLError(endpoint_url="u", error="e"), UnreachableError),
        (botocore.exceptions.NoCredentialsError(), AccessError),
        (botocore.exceptions.NoRegionError(), ConfigurationError),
        (botocore.exceptions.ProfileNotFound(profile="p"), ConfigurationError),
    ],
)
def test_errors_of_the_sdk(cause, kind):
    """Each error of boto3 becomes one of ours, with the cause behind it and advice in it."""

    def fail():
        with aws.translated("it failed"):
            raise cause

    with pytest.raises(kind, match=r"^it failed: ") as caught:
        fail()
    assert type(caught.value) is kind
    assert caught.value.__cause__ is cause
    assert "; " in caught.value.message


EXITED = "RequestId: 1 Error: Runtime exited with error: "
TEXT_LOG = "START RequestId: 1\nwhat the user's code printed\nEND RequestId: 1\nREPORT RequestId: 1\t\n"
JSON_LOG = (
    '{"time": "2026-01-01T00:00:00.000Z", "type": "platform.start", "record": {"requestId": "1"}}\n'
    "what the user's code printed\n"
    '{"time":"2026-01-01T00:00:00.000Z","type":"platform.report","record":{"requestId":"1"}}\n'
)


@pytest.mark.parametrize(
    ("used_mb", "kind"), [(1769, OutOfMemoryError), (1700, OutOfMemoryError), (641, KilledError)]
)
def test_what_was_killed_needed_too_much_memory_only_if_it_used_it(used_mb, kind):
    """Lambda's report says how much it was; others send SIGKILL too."""
    info = FunctionInfo("f", None, 1769, 3, 512, "x86_64", snapstart=False, store_url=None)
    log = (
        "REPORT RequestId: 1\tDuration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 1769 MB\t"
        f"Max Memory Used: {used_mb} MB\t"
    )
    document = {"errorType": "Runtime.ExitError", "errorMessage": EXITED + "signal: killed"}
    assert type(function_error(info, document, log)) is kind


@pytest.mark.parametrize(
    ("error_type", "message", "kind"),
    [
        ("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 3.00 seconds", FunctionTimeoutError),
        ("", "2026-01-01T00:00:00Z 1 Task timed out after 3.00 seconds", FunctionTimeoutError),
        ("Runtime.OutOfMemory", "RequestId: 1 Error: Runtime exited", OutOfMemoryError),
        ("Runtime.ExitError", EXITED + "signal: killed", KilledError),
        ("Runtime.ExitError", EXITED + "signal: segmentation fault", CrashError),
        ("Runtime.ImportModuleError", "Unable to import module", InitError),
        ("Function.ResponseSizeTooLarge", "too large", TooLargeError),
        ("OSError", "[Errno 28] No space left on device", BrokenEnvironmentError),
    ],
)
@pytest.mark.parametrize("log", [TEXT_LOG, JSON_LOG], ids=["text", "json"])
def test_function_errors(error_type, message, kind, log):
    """Errors are told apart by type; of a log, text or JSON, what the user's code wrote is shown."""
    info = FunctionInfo("f", None, 1769, 3, 512, "x86_64", snapstart=False, store_url=None)
    error = function_error(info, {"errorType": error_type, "errorMessage": message}, log)
    assert type(error) is kind
    assert str(error).endswith(f"{message}\nwhat the user's code printed")
