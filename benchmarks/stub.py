"""A stand-in for Lambda: answers over TLS, at once or after a while, from a process of its own.

It speaks just enough of Lambda's API for one client: GetFunctionConfiguration, and Invoke with a valid reply
of our protocol. How long that takes, and what is refused, `benchmarks.environments` says where asked.
`serving` starts it; ``python -m benchmarks.stub`` is the process.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import datetime
import ipaddress
import json
import os
import pickle
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import botocore.httpsession
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.environments import Environments, Place, Timing
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.task import Body, PartialResult, Reply, Usage

_LOG = """START RequestId: 00000000-0000-0000-0000-000000000000 Version: $LATEST
END RequestId: 00000000-0000-0000-0000-000000000000
REPORT RequestId: 00000000-0000-0000-0000-000000000000\tDuration: 1.00 ms\tBilled Duration: 2 ms\t\
Memory Size: 1769 MB\tMax Memory Used: 500 MB\t
"""
_USAGE = Usage(environment="stub", duration_s=0.001)
_STOP_TIMEOUT_S = 10.0


@dataclass
class Statistics:
    """What the server has seen."""

    invocations: int = 0
    in_flight: int = 0
    """Invocations not answered yet."""
    peak: int = 0
    """Most that were in flight at once."""
    first_s: float = 0.0
    """Time of the first invocation, by the server's clock, s."""
    peak_after_s: float = 0.0
    """How long after the first invocation the peak was reached."""
    connections: int = 0
    """Connections opened so far."""
    first_bytes: int = 0
    """Length of the first payload."""
    largest_bytes: int = 0
    """Length of the longest payload."""
    largest_later_bytes: int = 0
    """The same, without the first invocation."""
    refused: int = 0
    """Invocations that were refused."""
    new_environments: int = 0


class StubServer:
    """The server as its client sees it.

    Parameters
    ----------
    process
        The server, which reads a line for each time it is to tell its statistics.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.endpoint = str(json.loads(self._read())["endpoint"])

    def statistics(self) -> Statistics:
        """Return what the server has seen so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Statistics(**json.loads(self._read()))

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stub server ended with status {self._process.wait()}")
        return line


@contextlib.contextmanager
def serving(
    *,
    delay_s: float = 0.0,
    partials: Path | None = None,
    timing: Timing | None = None,
    values: Path | None = None,
) -> Iterator[StubServer]:
    """Run a stub server, with this process's environment set up to be its client.

    Parameters
    ----------
    delay_s
        Seconds from a request to its answer.
    partials
        Directory with the blob of each range's partial result, by number; without it, what is answered to
        a range is not a partial result.
    timing
        Of environments that take and refuse invocations as AWS's do; without it, all are taken.
    values
        File with the values of every range's partial result, pickled; instead of ``partials``.
    """
    _raise_file_limit()
    with tempfile.TemporaryDirectory() as directory:
        certificate, key = _write_certificate(Path(directory))
        command = [sys.executable, "-m", "benchmarks.stub", str(certificate), str(key), f"{directory}/store"]
        command += ["--delay", str(delay_s), *(["--partials", str(partials)] if partials else [])]
        command += [*(["--values", str(values)] if values else [])]
        command += [*(["--timing", timing.to_json()] if timing else [])]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        bundle = Path(directory) / "bundle.pem"
        # As long as the bundle that verifies AWS: to load it is part of what a connection may cost.
        bundle.write_bytes(Path(botocore.httpsession.where()).read_bytes() + certificate.read_bytes())
        client = {"AWS_CA_BUNDLE": str(bundle), "AWS_REGION": "us-east-1"}
        keys = {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}
        try:
            with mock.patch.dict(os.environ, client | keys):
                yield StubServer(process)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _raise_file_limit() -> None:
    """Allow as many open files as the machine lets us: a connection is one on either side."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _write_certificate(directory: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1, signed by itself, and its key; return their paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dask-root-lambda benchmark")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return paths


@dataclass(frozen=True)
class _Behaviour:
    """What the server does, and what it has seen."""

    delay_s: float
    partials: Path | None
    values: Any
    """Values of every partial result, if given."""
    environments: Environments | None
    configuration: bytes
    statistics: Statistics

    def place(self, payload: bytes) -> Place | None:
        """Return how long an invocation takes; None where it is refused."""
        if self.environments is None:
            return Place(self.delay_s, self.delay_s, None)
        entries = None if self.values is None else _entries(_interval(json.loads(payload)))
        place = self.environments.take(time.monotonic(), entries)
        self.statistics.refused += place is None
        self.statistics.new_environments += place is not None and place.init_s is not None
        return place

    def answer(self, payload: bytes, place: Place) -> bytes:
        """Return the HTTP response to an invocation."""
        if self.environments is not None:
            self.environments.give_back()
        if self.values is not None:
            return self._ran(json.loads(payload), place)
        if self.partials is None:
            return _response_to_a_call()
        index = json.loads(payload)["range"]
        return _invoked((self.partials / str(index)).read_bytes())

    def _ran(self, event: dict[str, Any], place: Place) -> bytes:
        interval = _interval(event)
        entries = _entries(interval)
        # An answer that tells of no entries is one of a range without any, whose duration tells nothing.
        usage = Usage(environment="stub", duration_s=place.duration_s, entries=entries)
        return _invoked(wire.dumps(PartialResult(self.values, (interval,), entries, {})), _log(place), usage)


def _interval(event: dict[str, Any]) -> Interval:
    return Interval.parse(event["interval"])


def _entries(interval: Interval) -> int:
    return int(interval.stop - interval.start)


class _Connection(asyncio.Protocol):
    """One connection of HTTP/1.1, kept alive, one request at a time."""

    def __init__(self, behaviour: _Behaviour) -> None:
        self._behaviour = behaviour
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._behaviour.statistics.connections += 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _content_length(head):
            return
        self._received = b""
        if head.startswith(b"GET"):
            self._transport.write(self._behaviour.configuration)
            return
        place = self._behaviour.place(body)
        if place is None:
            self._transport.write(_refusal())
            return
        self._count(len(body))
        if place.seconds:
            asyncio.get_running_loop().call_later(place.seconds, self._answer, body, place)
        else:
            self._answer(body, place)

    def _count(self, size: int) -> None:
        seen = self._behaviour.statistics
        seen.invocations += 1
        seen.in_flight += 1
        now_s = time.monotonic()
        seen.first_s = seen.first_s or now_s
        if seen.in_flight > seen.peak:
            seen.peak, seen.peak_after_s = seen.in_flight, now_s - seen.first_s
        seen.largest_bytes = max(seen.largest_bytes, size)
        if seen.invocations == 1:
            seen.first_bytes = size
        else:
            seen.largest_later_bytes = max(seen.largest_later_bytes, size)

    def _answer(self, body: bytes, place: Place) -> None:
        self._behaviour.statistics.in_flight -= 1
        answer = self._behaviour.answer(body, place)
        # A client that wants it no more has gone; the function has run to its end all the same.
        if not self._transport.is_closing():
            self._transport.write(answer)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@cache
def _response_to_a_call() -> bytes:
    return _invoked(wire.dumps(None))


def _log(place: Place) -> str:
    init = f"Init Duration: {1e3 * place.init_s:.2f} ms\t" if place.init_s is not None else ""
    billed_ms = 1e3 * (place.duration_s + (place.init_s or 0.0))
    took = f"Duration: {1e3 * place.duration_s:.2f} ms\tBilled Duration: {billed_ms:.0f} ms"
    return _LOG.replace("Duration: 1.00 ms\tBilled Duration: 2 ms", took).replace(
        "500 MB\t", f"500 MB\t{init}"
    )


@cache
def _refusal() -> bytes:
    document = {"Reason": "ConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."}
    return _response(document, "x-amzn-ErrorType: TooManyRequestsException\r\n", "429 Too Many Requests")


def _invoked(blob: bytes, log: str = _LOG, usage: Usage = _USAGE) -> bytes:
    reply = Reply(Body.of(blob), usage=usage)
    tail = base64.b64encode(log.encode()).decode()
    return _response(reply.to_json(), f"X-Amz-Log-Result: {tail}\r\nX-Amz-Executed-Version: $LATEST\r\n")


class _Pickled:
    """Stands for a value that is pickled already: the stub has no ROOT."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._pickled,)


def _response(document: object, headers: str = "", status: str = "200 OK") -> bytes:
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"x-amzn-RequestId: 00000000-0000-0000-0000-000000000000\r\n{headers}\r\n"
    )
    return head.encode() + body


def _configuration(store: Path) -> bytes:
    variables = {"DASK_ROOT_LAMBDA_STORE": store.absolute().as_uri()}
    return _response(
        {
            "FunctionName": "stub",
            "MemorySize": 1769,
            "Timeout": 900,
            "Architectures": ["x86_64"],
            "Environment": {"Variables": variables},
        }
    )


async def _serve(arguments: argparse.Namespace) -> None:
    """Serve until the standard input ends; tell the statistics for each line that it brings."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.certificate, arguments.key)
    seen = Statistics()
    behaviour = _Behaviour(
        delay_s=arguments.delay,
        partials=arguments.partials,
        values=_Pickled(arguments.values.read_bytes()) if arguments.values else None,
        environments=Environments(Timing.from_json(arguments.timing)) if arguments.timing else None,
        configuration=_configuration(arguments.store),
        statistics=seen,
    )
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(behaviour), "127.0.0.1", 0, ssl=context, backlog=4096
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        print(json.dumps({"endpoint": f"https://127.0.0.1:{port}"}), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(asdict(seen)), flush=True)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("certificate", type=Path)
    parser.add_argument("key", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--partials", type=Path)
    parser.add_argument("--values", type=Path)
    parser.add_argument("--timing")
    _raise_file_limit()
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    _main()
