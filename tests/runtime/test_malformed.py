"""Whatever comes as an event, the answer is a result or an error as data, and the process goes on.

``pytest tests/runtime/test_malformed.py --fuzz-events 20000`` (``make fuzz-protocol``) tries as many.
"""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_root_lambda import RDataFrame
from dask_root_lambda.emulator import Emulator
from dask_root_lambda.protocol import errors, wire
from dask_root_lambda.protocol.errors import IncompleteResultError, ProtocolError, StoreError
from dask_root_lambda.protocol.store import MemoryStore
from dask_root_lambda.protocol.task import Body, Reply, Request
from dask_root_lambda.rdf import packing
from lambda_runtime.handler import VERSIONS, Environment, answer
from tests.invokers import KEY

from .mutations import mutated

pytestmark = pytest.mark.timeout(1800)

# What a request may meet that is one: a key that nobody has written, a part that is merged twice.
WELL_FORMED = (StoreError, IncompleteResultError)
LONGEST_S = 10.0


@pytest.fixture(scope="module")
def requests(events_file: str) -> list[dict[str, Any]]:
    """A request of each operation, as JSON; those of ranges have files, and entries alone."""
    made, environment = [], Environment(MemoryStore())
    for frame in (RDataFrame(100), RDataFrame("Events", events_file)):
        ranges = [_range(packing.pack(_head(frame), [frame.Count().node], 2), index) for index in range(2)]
        parts = tuple(Reply.from_json(_through(environment, each)).body for each in ranges)
        merge = Request("merge", "merge", parts, seal_key=KEY, versions=VERSIONS)  # type: ignore[arg-type]
        made += [ranges[0], merge.to_json()]
    blob = wire.dumps((divmod, (7, 2), {}))
    for body in (Body.of(blob), Body(key="calls/1", size=len(blob))):
        call = Request("call", "call", (body,), result_key="calls/1/result", seal_key=KEY, versions=VERSIONS)
        made.append(call.to_json())
    return made


def _head(frame: Any) -> Any:
    return frame.Count().bookings.head


def _range(packed: Any, index: int) -> dict[str, Any]:
    body, interval = Body.of(packed.mapper.blob), packed.mapper.ranges[index].interval
    return Request(
        "map", "range", (body,), range_index=index, interval=interval, result_key=f"partials/{index}",
        seal_key=KEY, versions=VERSIONS,
    ).to_json()  # fmt: skip


def _through(environment: Environment, event: Any) -> dict[str, Any]:
    """Answer an event as it comes through JSON, and the answer as it goes back."""
    return json.loads(json.dumps(answer(environment, json.loads(json.dumps(event))).to_json()))


def _check(event: Any, reply: dict[str, Any]) -> str:
    """Check that an answer is a result or an error of the protocol; name it."""
    failure = Reply.from_json(reply).failure
    if failure is None:
        return "answered"
    kind = getattr(errors, failure.error)
    assert issubclass(kind, (ProtocolError, *WELL_FORMED)), (failure, event)
    return failure.error


def test_a_malformed_event_is_an_error_of_the_protocol(
    requests: list[dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    """The handler's answer to mutated requests: none raises, none takes long, each error says what it is."""
    environment, seen = Environment(MemoryStore()), Counter[str]()

    @settings(
        max_examples=request.config.getoption("--fuzz-events"),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated(requests))
    def check(event: Any) -> None:
        began_s = time.monotonic()
        seen[_check(event, _through(environment, event))] += 1
        assert time.monotonic() - began_s < LONGEST_S

    for each in requests[:-1]:
        assert _check(each, _through(environment, each)) == "answered"
    check()
    assert seen["ProtocolError"] > seen.total() / 10
    print(dict(seen))  # shown with -s, and by make fuzz-protocol


class Endpoint:
    """An emulator with one function, the handler, over one connection."""

    def __init__(self, emulator: Emulator) -> None:
        self._host = emulator.endpoint.removeprefix("http://")
        self._connection = http.client.HTTPConnection(self._host, timeout=60)
        image = {"PackageType": "Image", "Code": {"ImageUri": "any:1"}, "Timeout": 60, "MemorySize": 2048}
        made = {"FunctionName": "f", "Role": "arn:aws:iam::123456789012:role/r", **image}
        assert self.ask(json.dumps(made).encode(), "/2015-03-31/functions")[0] == 201

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(
        self, body: bytes, path: str = "/2015-03-31/functions/f/invocations", method: str = "POST"
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        self._connection.request(method, path, body=body)
        answer = self._connection.getresponse()
        return answer.status, answer.headers, answer.read()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Emulator() as emulator, Endpoint(emulator) as endpoint:
        yield endpoint


@st.composite
def payloads(draw: Any, requests: list[dict[str, Any]]) -> bytes:
    """What may be sent as an event: mutated requests, JSON with bytes exchanged or cut off, any bytes."""
    sent = json.dumps(draw(mutated(requests))).encode()
    change = draw(st.sampled_from(("none", "none", "none", "byte", "cut", "bytes", "deep")))
    place = draw(st.integers(0, len(sent)))
    if change == "byte":
        return sent[:place] + draw(st.binary(min_size=1, max_size=1)) + sent[place + 1 :]
    if change == "cut":
        return sent[:place]
    if change == "deep":
        depth = draw(st.integers(1, 3000))
        return b'{"op":' * depth + b"1" + b"}" * depth
    return draw(st.binary()) if change == "bytes" else sent


def test_an_environment_answers_whatever_is_invoked(
    requests: list[dict[str, Any]], request: pytest.FixtureRequest, endpoint: Endpoint
) -> None:
    """Through Invoke and the runtime client: no JSON is refused, one environment answers all the rest."""
    environments, seen = set(), Counter[str]()

    @settings(
        max_examples=request.config.getoption("--fuzz-events"),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(payloads(requests))
    def check(sent: bytes) -> None:
        began_s = time.monotonic()
        status, headers, body = endpoint.ask(sent)
        assert time.monotonic() - began_s < LONGEST_S
        if status == 400:
            assert headers["x-amzn-ErrorType"] == "InvalidRequestContentException"
            seen["no JSON"] += 1
            return
        assert status == 200, (status, body)
        reply = json.loads(body)
        if "X-Amz-Function-Error" in headers:
            # Nested deeper than the runtime client itself can read: its answer, not the handler's.
            assert reply["errorType"] == "Runtime.UnmarshalError"
            seen["too deep"] += 1
            return
        environments.add(reply["usage"]["environment"])
        seen[_check(sent, reply)] += 1

    check()
    assert len(environments) == 1
    print(dict(seen))


@st.composite
def calls(draw: Any) -> tuple[str, str, bytes]:
    """Calls of the API that are almost right."""
    part = st.sampled_from(
        ("functions", "f", "f:live", "invocations", "2015-03-31", "..", "%00", "%ff", "x" * 300)
    )
    path = "/".join(("/2015-03-31/functions", *draw(st.lists(part, max_size=4))))
    query = draw(st.sampled_from(("", "?Qualifier=", "?Qualifier=%00", "?Marker=x&MaxItems=-1", "?=&&=")))
    method = draw(st.sampled_from(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")))
    body = draw(st.sampled_from((b"", b"{}", b"[]", b"{", b"null", b"\xff", b'{"Role": 1}')))
    return method, path + query, body


def test_no_call_is_the_endpoints_own_failure(request: pytest.FixtureRequest, endpoint: Endpoint) -> None:
    """Odd methods, paths, queries and bodies of the API: an answer, and never that of a defect."""

    @settings(max_examples=request.config.getoption("--fuzz-events"), deadline=None)
    @given(calls())
    def check(call: tuple[str, str, bytes]) -> None:
        method, path, body = call
        status = endpoint.ask(body, path, method)[0]
        assert status < 500 or status == 501, (call, status)

    check()
