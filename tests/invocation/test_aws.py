"""The SDK as we set it up: it invokes once, keeps connections alive, and never waits for ever."""

from __future__ import annotations

import http.server
import json
import os
import re
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from botocore.awsrequest import AWSHTTPConnection

from benchmarks.stub import serving
from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.config import Settings
from dask_root_lambda.execution.executor import LambdaExecutor
from dask_root_lambda.invocation import invokers
from dask_root_lambda.invocation.cancellation import Cancellation
from dask_root_lambda.invocation.connection import abortable
from dask_root_lambda.invocation.function import STORE_VARIABLE
from dask_root_lambda.invocation.invokers import AwsInvoker
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import (
    ConfigurationError,
    CorruptBlobError,
    InputError,
    NoAnswerError,
    ProtocolError,
    RunCancelledError,
    ServiceError,
    ThrottledError,
    UnreachableError,
)
from dask_root_lambda.protocol.task import Body, Reply, Request

REQUEST = Request("call", "task", (Body.of(wire.dumps((abs, (-1,), {}))),))
ANSWER = json.dumps(Reply(body=Body.of(wire.dumps(1))).to_json()).encode()


class Stub(http.server.ThreadingHTTPServer):
    """As much of Lambda's API as an invoker uses, answering each invocation by a table."""

    daemon_threads = True

    def __init__(self, store_url):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours = []
        self.configuration = {
            "FunctionName": "f",
            "MemorySize": 1769,
            "Timeout": 3,
            "Environment": {"Variables": {STORE_VARIABLE: store_url}} if store_url else {},
        }
        self.invocations = 0
        self.connected = 0
        """Connections that invocations came through."""
        self.waiting = threading.Semaphore(0)
        self.user_agent = None
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.is_new = True

    def do_GET(self):
        self._answer(200, json.dumps(self.server.configuration).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.connected += self.is_new
        self.is_new = False
        self.server.invocations += 1
        self.server.user_agent = self.headers["User-Agent"]
        behaviour = self.server.behaviours.pop(0) if self.server.behaviours else "answer"
        if behaviour == "wait":
            self.server.waiting.release()
            self.server.released.wait(60)
            self._answer(200, ANSWER)
        elif behaviour == "hang":
            self.server.released.wait(60)
            self.close_connection = True
        elif behaviour == "close":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif isinstance(behaviour, bytes):
            self._answer(200, behaviour)
        elif isinstance(behaviour, tuple):
            status, code = behaviour
            self._answer(status, b'{"message": "said"}', {"X-Amzn-ErrorType": code})
        else:
            self._answer(200, ANSWER)

    def _answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def _credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")


@pytest.fixture
def stub(tmp_path):
    server = Stub((tmp_path / "store").as_uri())
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def settings(stub, **options):
    return Settings.resolve(
        execution="lambda", endpoint_url=stub.endpoint, region="us-east-1", function="f", **options
    )


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        ((500, "ServiceException"), ServiceError),
        ((502, "EC2UnexpectedException"), ServiceError),
        ((503, "ServiceUnavailable"), ServiceError),
        ((429, "TooManyRequestsException"), ThrottledError),
        ("close", ServiceError),
    ],
)
def test_a_failed_invocation_is_never_sent_again_by_the_sdk(stub, behaviour, kind):
    """Whatever the service does, one call is one request: the function may have run."""
    stub.behaviours = [behaviour] * 5
    with pytest.raises(kind):
        AwsInvoker(settings(stub)).invoke(REQUEST, Cancellation())
    assert stub.invocations == 1


def test_closing_closes_the_connections(stub):
    """Those that invocations went through are closed with the invoker."""
    invoker = AwsInvoker(settings(stub))
    before = len(connections_to(stub))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: invoker.invoke(REQUEST, Cancellation()), range(8)))
    assert len(connections_to(stub)) > before
    invoker.close()
    assert connections_to(stub) == []


def connections_to(stub):
    here = psutil.Process().net_connections("tcp")
    return [each for each in here if each.raddr and each.raddr.port == stub.server_port]


def test_a_cancellation_that_comes_late_ends_no_other_request(stub):
    """When an answer has been read its connection may serve another: that one is not cut."""
    client = AwsInvoker(settings(stub))._client
    late, other = Cancellation(), Cancellation()
    answers = []

    def invoke_another():
        with abortable(other):
            answers.append(client.invoke("f", b"{}"))

    with abortable(late):
        client.invoke("f", b"{}")
        stub.behaviours = ["wait"]
        thread = threading.Thread(target=invoke_another)
        thread.start()
        assert stub.waiting.acquire(timeout=20)
        late.cancel()
    stub.released.set()
    thread.join(20)
    assert len(answers) == 1
    assert stub.connected == 1


def test_a_connection_that_was_ended_as_it_became_free_is_made_anew(stub):
    """The request that gets it is sent, not lost."""
    client = AwsInvoker(settings(stub))._client
    late = Cancellation()
    with abortable(late):
        client.invoke("f", b"{}")
        late.cancel()
    client.invoke("f", b"{}")
    assert stub.invocations == 2


def test_invocations_say_what_sent_them(stub):
    """AWS's logs tell the client and its SDK."""
    AwsInvoker(settings(stub)).invoke(REQUEST, Cancellation())
    assert re.fullmatch(r"Boto3/[\d.]+ dask-root-lambda Botocore/[\d.]+", stub.user_agent)


def test_a_request_is_sent_in_one_piece(stub, monkeypatch):
    """Head and body are one write, on a new connection and on one that is kept."""
    sent = []
    send = AWSHTTPConnection.send
    monkeypatch.setattr(AWSHTTPConnection, "send", lambda self, data: sent.append(data) or send(self, data))
    invoker = AwsInvoker(settings(stub))
    sent.clear()
    for _ in range(2):
        assert invoker.invoke(REQUEST, Cancellation()).error is None
    assert len(sent) == 2
    assert all(each.startswith(b"POST ") and each.endswith(b"}") for each in sent)


def test_the_executor_retries_what_the_sdk_does_not(stub):
    """Retries are the executor's, counted and limited."""
    stub.behaviours = [(500, "ServiceException"), "close", (429, "TooManyRequestsException")]
    with LambdaExecutor(settings=settings(stub)) as executor:
        assert executor.submit(abs, -1).result(30) == 1
        assert executor.report().total.retries == 2
    assert stub.invocations == 4


def test_an_answer_that_does_not_come_ends_at_the_deadline(stub, monkeypatch):
    """A wait for an answer ends a little after the function's own time limit, and is not repeated."""
    monkeypatch.setattr(invokers, "_ANSWER_MARGIN_S", -2.0)
    stub.behaviours = ["hang"]
    began_s = time.monotonic()
    with pytest.raises(NoAnswerError, match="may be running still"):
        AwsInvoker(settings(stub)).invoke(REQUEST, Cancellation())
    assert 0.9 < time.monotonic() - began_s < 20
    assert stub.invocations == 1


def test_a_wait_can_be_ended(stub):
    """A cancellation ends the wait for an answer at once, and the connection with it."""
    stub.behaviours = ["hang"]
    cancellation = Cancellation()
    timer = threading.Timer(0.5, cancellation.cancel)
    timer.start()
    began_s = time.monotonic()
    with pytest.raises(RunCancelledError):
        AwsInvoker(settings(stub)).invoke(REQUEST, cancellation)
    assert time.monotonic() - began_s < 3


def test_connections_are_used_again_and_live_through_nat(stub, monkeypatch):
    """Invocations share a connection that probes the other side more often than NAT forgets it."""
    options = []
    original = socket.socket.setsockopt
    monkeypatch.setattr(
        socket.socket, "setsockopt", lambda self, *args: options.append(args) or original(self, *args)
    )
    client = AwsInvoker(settings(stub))
    for _ in range(3):
        client.invoke(REQUEST, Cancellation())
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in options
    idle = [
        value for level, name, value in options if (level, name) == (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    ]
    assert len(idle) == 1
    assert idle[0] < 350


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(b"<html>", CorruptBlobError), (b'{"statusCode": 200}', ProtocolError), (b"[]", ProtocolError)],
)
def test_the_answer_of_another_function_is_refused(stub, answer, kind):
    """A function that is not ours answers something else: an error, and its bill."""
    stub.behaviours = [answer]
    invocation = AwsInvoker(settings(stub)).invoke(REQUEST, Cancellation())
    assert isinstance(invocation.error, kind)
    assert invocation.usd > 0


def test_a_body_that_was_damaged_on_the_way_is_tried_again(stub):
    """A result whose hash is wrong is not used; the task runs once more."""
    reply = Reply(body=Body.of(wire.dumps(1)[:-1] + b"x"))
    stub.behaviours = [json.dumps(reply.to_json()).encode()]
    with LambdaExecutor(settings=settings(stub)) as executor:
        assert executor.submit(abs, -1).result(30) == 1
    assert stub.invocations == 2


def test_a_function_without_a_store_says_what_to_set():
    """A function whose environment names no store cannot be used."""
    server = Stub(None)
    try:
        with pytest.raises(ConfigurationError, match=STORE_VARIABLE):
            AwsInvoker(settings(server))
    finally:
        server.shutdown()
        server.server_close()


class TestLocalFilesOnAws:
    """Under lambda what is on this machine is refused before anything runs."""

    @pytest.fixture
    def cluster(self, stub, monkeypatch):
        # The stub stands for AWS here, not for an emulator.
        monkeypatch.setattr(Settings, "is_remote", lambda settings, execution: execution == "lambda")
        options = {"function": "f", "endpoint_url": stub.endpoint, "region": "us-east-1"}
        with LambdaCluster(execution="lambda", concurrency=2, **options) as cluster:
            yield cluster

    def test_a_dataset(self, cluster, stub, events_file):
        """The error names the file and the ways out, and no task is made."""
        with cluster.get_client(), pytest.raises(InputError, match=r"events\.root.*execution='local'"):
            RDataFrame("Events", events_file, npartitions=2).Count().compute()
        assert stub.invocations == 0

    def test_a_snapshot(self, cluster, stub, tmp_path):
        """A Snapshot to a local path is refused."""
        with cluster.get_client():
            frame = RDataFrame(10, npartitions=2).Define("x", "1.0")
            with pytest.raises(InputError, match=r"cannot write files of this machine: \S*/out\.root"):
                frame.Snapshot("Events", str(tmp_path / "out.root"), ["x"])
        assert stub.invocations == 0


def over_tls(server, **options):
    settings = Settings.resolve(execution="lambda", function="f", endpoint_url=server.endpoint, **options)
    return LambdaExecutor(settings=settings)


def test_more_connections_than_open_files_were_allowed(stub):
    """The limit of open files, 1,024 by default, is lifted where more invocations are to be in flight."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        AwsInvoker(settings(stub, concurrency=2000)).close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 2000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_certificates_are_read_once():
    """Thousands of connections do not parse the bundle thousands of times, nor do they need it later."""
    with serving(delay_s=0.5) as server, over_tls(server, concurrency=2) as executor:
        executor.submit(abs, 1).result(30)
        Path(os.environ["AWS_CA_BUNDLE"]).write_text("not a certificate")
        both = [executor.submit(abs, index) for index in range(2)]
        assert [future.result(30) for future in both] == [None, None]
        assert server.statistics().peak == 2


def test_a_certificate_that_nobody_vouches_for_is_refused():
    """The error names what to set."""
    with serving() as server:
        # `serving` restores the environment; who did it after that would bring its bundle back.
        os.environ.pop("AWS_CA_BUNDLE")
        os.environ.pop("REQUESTS_CA_BUNDLE", None)
        with pytest.raises(UnreachableError, match="AWS_CA_BUNDLE"), over_tls(server) as executor:
            executor.submit(abs, 1).result(30)
