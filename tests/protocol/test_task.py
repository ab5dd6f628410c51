"""Requests and replies survive the JSON envelope; versions that differ are named."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from dask_root_lambda.protocol import errors, wire
from dask_root_lambda.protocol.errors import ProtocolError, VersionMismatchError
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.task import Body, Failure, Reply, Request, Usage, Versions, requested_versions
from dask_root_lambda.protocol.traffic import Traffic

REQUEST = Request(
    operation="map",
    task="range-1-2",
    bodies=(Body(key="mappers/abc"),),
    attempt=2,
    range_index=0,
    interval=Interval(Fraction(1, 3), Fraction(2)),
    result_key="partials/run/session/1_3-2",
    seal_key=b"0123456789abcdef",
    versions=Versions(root="6.40"),
)


def through_json(value):
    return json.loads(json.dumps(value))


MERGE = Request("merge", "merge-1", (Body.of(b"inline"), Body(key="partials/abc")))


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        replace(REQUEST, attempt=1),
        replace(REQUEST, result_key="results/1_3-2"),
        replace(REQUEST, result_key="results/11_3-2"),
        replace(REQUEST, result_key="results/other"),
        MERGE,
    ],
)
def test_a_request_survives_the_envelope(request_):
    """What the function reads is what the client wrote, range 0 included."""
    assert Request.from_json(through_json(request_.to_json())) == request_


def test_a_reply_survives_the_envelope():
    """What the client reads is what the function wrote."""
    reply = Reply(
        body=Body.of(b"result"),
        failure=Failure("UserCodeError", "it failed", "ValueError", "line 1", "input_line_1"),
        usage=Usage("env", 3, 0.5, 1.5, 600.0, 1000, 4096, (Traffic("s3://a", "http://b", 4096, 3),)),
        versions=Versions(root="6.40"),
    )
    assert Reply.from_json(through_json(reply.to_json())) == reply


def test_fields_of_a_newer_runtime_are_left_out():
    """A reply with more figures than this client knows is read all the same."""
    document = Reply(body=Body.of(b"")).to_json()
    document["usage"]["joules"] = 1
    assert Reply.from_json(document).usage == Usage()


@pytest.mark.parametrize("told", ["all", [1], [{"source": "s3://a", "gets": -1}], [{"gets": 1}]])
def test_an_answer_that_tells_nonsense_is_no_reply(told):
    """What was read is a list of sources with counts."""
    document = Reply(body=Body.of(b"")).to_json()
    document["usage"]["traffic"] = told
    with pytest.raises(errors.CorruptBlobError):
        Reply.from_json(document)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"op": "map"},
        {"op": "map", "task": "t", "bodies": []},
        {"op": "map", "task": "t", "bodies": [], "range": "first"},
        {"op": "map", "task": "t", "bodies": [], "range": 0},
        {"op": "map", "task": "t", "bodies": [], "range": 0, "interval": "2-1"},
        {"op": "format-disk", "task": "t", "bodies": []},
        {"op": 1},
        REQUEST.to_json() | {"range": 0.5},
        REQUEST.to_json() | {"range": -1},
        REQUEST.to_json() | {"range": True},
        REQUEST.to_json() | {"interval": "0-1e999999999"},
        REQUEST.to_json() | {"interval": "0-1_0"},
        REQUEST.to_json() | {"task": "half a character: \ud800"},
        REQUEST.to_json() | {"result": "../of/another"},
        REQUEST.to_json() | {"result": "../of/another/"},
        MERGE.to_json() | {"result": "partials/run/session/"},
        REQUEST.to_json() | {"bodies": "inline"},
        REQUEST.to_json() | {"bodies": REQUEST.to_json()["bodies"] * 2},
        REQUEST.to_json() | {"bodies": [{"key": "/etc/passwd", "size": 1}]},
        REQUEST.to_json() | {"bodies": [{"key": "key", "size": -1}]},
        [],
        "a text",
        None,
    ],
)
def test_other_events_are_refused(event):
    """An event that is no request is an error of the protocol, not a KeyError."""
    with pytest.raises(ProtocolError, match="not a request"):
        Request.from_json(event)


@pytest.mark.parametrize("answer", [{}, {"statusCode": 200}, {"usage": 1}])
def test_other_answers_are_refused(answer):
    """The answer of some other function says that it is one."""
    with pytest.raises(ProtocolError, match="another function"):
        Reply.from_json(answer)


@pytest.mark.parametrize(
    ("there", "named"),
    [
        (Versions(python="3.9", root="6.40"), "Python is 3.11 on the client and 3.9"),
        (Versions(python="3.11", root="6.30"), "ROOT is 6.40 on the client and 6.30"),
        (
            Versions(python="3.11", root="6.40", wire=99),
            f"the wire format is {wire.WIRE_VERSION} on the client and 99",
        ),
    ],
)
def test_versions_that_differ_name_both_sides_and_the_fix(there, named):
    """A mismatch says what differs, both versions, and what to deploy or install."""
    with pytest.raises(VersionMismatchError, match=named) as caught:
        Versions(python="3.11", root="6.40").check(there)
    assert "deploy an image" in str(caught.value)


def test_root_is_compared_only_where_both_sides_have_it():
    """A plain call, which does not involve ROOT, is not refused for ROOT's version."""
    Versions(root=None).check(Versions(root="6.40"))


def test_versions_are_read_of_any_event():
    """Versions can be compared before the rest of an event is understood."""
    assert requested_versions({"wire": 99, "python": "3.11", "strange": 1}).wire == 99


def test_every_error_is_rebuilt_as_itself():
    """A failure names its class; the client raises that class, with task, attempt and request."""
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.DaskRootLambdaError):
            error = Failure(name, "message").to_error("task-1", 2, "request-3")
            assert type(error) is kind
            assert (error.message, error.task, error.attempt, error.request_id) == (
                "message",
                "task-1",
                2,
                "request-3",
            )


def test_an_unknown_error_is_still_an_error():
    """A class that this client does not know becomes a RemoteError with its message."""
    error = Failure("NewKindOfError", "it says").to_error("t", 1, None)
    assert type(error) is errors.RemoteError
    assert error.message == "it says"
