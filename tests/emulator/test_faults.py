"""Faults on order: each does what it says, when it says, and to nothing else."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda.emulator import Faults, LambdaFault, S3Fault
from dask_root_lambda.emulator.faults import FaultsError, FaultTable, load_faults, read_faults

from .clouds import Cloud, wait_until

pytestmark = pytest.mark.timeout(60)

OwnCloud = Callable[..., Cloud]


def decide(table: FaultTable, function: str = "f", event: Any = None) -> str | None:
    fault = table.of_invocation(function, json.dumps(event).encode())
    return fault.kind if fault else None


def make_table(*faults: LambdaFault, seed: int = 1) -> FaultTable:
    return FaultTable(Faults(invocations=faults), random.Random(seed))


# The table by itself.


def test_numbers_count_each_functions_invocations() -> None:
    """An entry with numbers happens to those invocations of each function."""
    table = make_table(LambdaFault("kill", invocations=(2, 3)))
    assert [decide(table, name) for name in "ababab"] == [None, None, "kill", "kill", "kill", "kill"]


def test_the_first_entry_that_fits_decides() -> None:
    """Names, events and limits select; what does not fit leaves it to the next entry."""
    table = make_table(
        LambdaFault("throttle", function="map-*", payload={"range": 3}, times=1),
        LambdaFault("delay", function="map-*"),
    )
    events = [{"range": 1}, {"range": 3, "more": 0}, {"range": 3}]
    assert [decide(table, "map-a", event) for event in events] == ["delay", "throttle", "delay"]
    assert decide(table, "merge", {"range": 3}) is None


@given(st.integers(0, 2**32), st.floats(0.05, 0.95))
def test_a_seed_repeats_what_chance_did(seed: int, probability: float) -> None:
    """The same seed gives the same faults, another probability more or fewer."""
    tables = [make_table(LambdaFault("kill", probability=probability), seed=seed) for _ in range(2)]
    first, second = ([decide(table) for _ in range(50)] for table in tables)
    assert first == second


def test_probabilities_are_kept() -> None:
    """Of 2,000 invocations at 0.2, about 400 are hit."""
    table = make_table(LambdaFault("kill", probability=0.2))
    assert 320 < sum(decide(table) == "kill" for _ in range(2000)) < 480


def test_a_new_table_counts_from_one() -> None:
    """replace() forgets numbers and limits."""
    table = make_table(LambdaFault("kill", invocations=(1,)))
    assert (decide(table), decide(table)) == ("kill", None)
    table.replace(Faults((LambdaFault("delay", invocations=(1,)),)))
    assert decide(table) == "delay"


def test_a_file_has_the_same_entries(tmp_path: Path) -> None:
    """YAML and JSON give what Python gives."""
    entries = {
        "lambda": [{"kind": "kill", "invocations": [1, 2], "payload": {"range": 3}, "delay_s": 0.5}],
        "s3": [{"kind": "slow-down", "bucket": "events", "method": "PUT", "times": 2}],
    }
    file = tmp_path / "faults.yaml"
    file.write_text(json.dumps(entries))
    kill = LambdaFault("kill", invocations=(1, 2), payload={"range": 3}, delay_s=0.5)
    slow_down = S3Fault("slow-down", bucket="events", method="PUT", times=2)
    assert load_faults(file) == read_faults(entries) == Faults((kill,), (slow_down,))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "keys lambda and s3"),
        ("{other: []}", "keys lambda and s3"),
        ("{lambda: [{kind: explode}]}", "explode"),
        ("{lambda: [{kind: kill, when: now}]}", "when"),
        ("{s3: [{kind: slow-down, probability: 2}]}", "probability"),
        ("{s3: [{bucket: b}]}", "kind"),
        ("{", "expected"),
        ("{lambda: [{kind: throttle, invocations: 2}]}", "invocations is 2; it must be a list of numbers"),
        ("{lambda: [{kind: throttle, invocations: ['2']}]}", "invocations"),
        ("{lambda: [{kind: throttle, invocations: [0]}]}", "from 1"),
        ("{lambda: [{kind: [throttle]}]}", "kind is"),
        ("{lambda: [{kind: kill, function: 7}]}", "function is 7; it must be a text"),
        ("{lambda: [{kind: kill, payload: 3}]}", "payload is 3; it must be a mapping"),
        ("{lambda: [{kind: kill, times: many}]}", "times"),
        ("{lambda: [{kind: kill, probability: '1'}]}", "probability is '1'; it must be a number"),
        ("{lambda: [{kind: delay, delay_s: .inf}]}", "delay_s"),
        ("{lambda: [{kind: delay, delay_s: .nan}]}", "delay_s"),
        ("{lambda: {kind: kill}}", "lambda is"),
        ("{s3: 5}", "s3 is"),
        ("{s3: [{kind: slow-down, requests: 1}]}", "requests"),
        ("{s3: [{kind: slow-down, key: [a]}]}", "key"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    """The message names file and entry."""
    file = tmp_path / "faults.yaml"
    file.write_text(text)
    with pytest.raises(FaultsError, match=words) as error:
        load_faults(file)
    assert str(file) in str(error.value)


def test_a_field_of_another_type_is_refused_in_python_too() -> None:
    """What would fail in the middle of an invocation fails where it is written."""
    with pytest.raises(ValueError, match="invocations is 2"):
        LambdaFault("throttle", invocations=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="key is 1"):
        S3Fault("slow-down", key=1)  # type: ignore[arg-type]


# Invocations.


def test_a_failure_inside_the_emulator_is_an_answer(
    own_cloud: OwnCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong in the table, the client gets a 500 and not silence."""

    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    cloud = own_cloud()
    name = cloud.deploy("echo")
    monkeypatch.setattr(FaultTable, "of_invocation", fail)
    monkeypatch.setattr(FaultTable, "of_request", fail)
    with pytest.raises(ClientError) as error:
        cloud.invoke(name)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    with pytest.raises(ClientError) as error:
        cloud.clients("s3").get_object(Bucket="b", Key="k")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500


def first_only(kind: str, **settings: Any) -> Faults:
    return Faults(invocations=(LambdaFault(kind, invocations=(1,), **settings),))


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("throttle", 429, "TooManyRequestsException"),
        ("error-500", 500, "ServiceException"),
        ("error-503", 503, "ServiceUnavailableException"),
    ],
)
def test_an_error_of_lambda(own_cloud: OwnCloud, kind: str, status: int, code: str) -> None:
    """The first invocation is refused, and does not run; the second does."""
    cloud = own_cloud(faults=first_only(kind))
    name = cloud.deploy("describe")
    with pytest.raises(ClientError) as error:
        cloud.invoke(name)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert error.value.response["Error"]["Code"] == code
    assert cloud.invoke(name).payload["count"] == 1


@pytest.mark.parametrize(("kind", "runs"), [("reset", 0), ("lost-answer", 1), ("truncate", 1)])
def test_a_connection_that_ends(own_cloud: OwnCloud, kind: str, runs: int) -> None:
    """The client gets no whole answer, whether the function ran or not."""
    cloud = own_cloud(faults=first_only(kind))
    name = cloud.deploy("describe")
    with pytest.raises(BotoCoreError):
        cloud.invoke(name)
    assert cloud.invoke(name).payload["count"] == runs + 1


def test_a_corrupt_answer(own_cloud: OwnCloud) -> None:
    """One byte of the result is another; the length is right."""
    cloud = own_cloud(faults=first_only("corrupt"))
    name = cloud.deploy("echo")
    text = "a" * 100
    wrong = cloud.invoke(name, text).payload
    assert len(wrong) == 100
    assert sum(a != b for a, b in zip(wrong, text, strict=True)) == 1
    assert cloud.invoke(name, text).payload == text


def test_a_duplicate_delivery(own_cloud: OwnCloud) -> None:
    """The function runs twice on one event."""
    cloud = own_cloud(faults=first_only("duplicate"))
    name = cloud.deploy("describe")
    assert cloud.invoke(name).payload["count"] == 1
    assert cloud.invoke(name).payload["count"] == 3


@pytest.mark.parametrize(
    ("kind", "error_type", "words"),
    [
        ("kill", "Runtime.ExitError", "signal: killed"),
        ("timeout", "Sandbox.Timedout", "Task timed out after 20.00"),
    ],
)
def test_an_environment_that_dies(own_cloud: OwnCloud, kind: str, error_type: str, words: str) -> None:
    """A kill or a time-out in the middle of the work ends the process, long before its time."""
    cloud = own_cloud(faults=first_only(kind, delay_s=0.2))
    name = cloud.deploy("sleep", Timeout=20)
    begun_s = time.monotonic()
    answer = cloud.invoke(name, {"seconds": 15})
    assert time.monotonic() - begun_s < 5
    assert answer.payload["errorType"] == error_type
    assert words in answer.payload["errorMessage"]
    assert cloud.invoke(name, {"seconds": 0}).payload == "awake"


@pytest.mark.parametrize("kind", ["kill", "timeout"])
def test_a_fault_that_comes_too_late_hits_nobody_else(own_cloud: OwnCloud, kind: str) -> None:
    """An event that ends before its fault leaves the next one in that environment alone."""
    cloud = own_cloud(faults=first_only(kind, delay_s=0.3))
    name = cloud.deploy("sleep", Timeout=20)
    assert [cloud.invoke(name, {"seconds": s}).payload for s in (0, 0.6)] == ["awake", "awake"]


@pytest.mark.parametrize(("kind", "in_init"), [("delay", False), ("slow-start", True)])
def test_something_slow(own_cloud: OwnCloud, kind: str, in_init: bool) -> None:
    """Waiting before the event, or before the environment, which counts as its initialisation."""
    cloud = own_cloud(faults=first_only(kind, delay_s=2.0))
    name = cloud.deploy("echo")
    begun_s = time.monotonic()
    answer = cloud.invoke(name)
    took_s = time.monotonic() - begun_s
    init_s = float(answer.log.rpartition("Init Duration: ")[2].split()[0]) / 1e3
    assert (init_s if in_init else took_s - init_s) > 2.0


@pytest.mark.parametrize("kind", ["Event", "DryRun"])
@pytest.mark.parametrize(("fault", "status"), [("throttle", 429), ("error-500", 500), ("error-503", 503)])
def test_a_request_that_waits_for_no_result_can_be_refused(
    own_cloud: OwnCloud, tmp_path: Path, kind: str, fault: str, status: int
) -> None:
    """What happens to requests happens before an event is accepted, and nothing runs; the next one passes."""
    cloud = own_cloud(faults=first_only(fault))
    name, file = cloud.deploy("sleep"), tmp_path / "ran"
    event = {"seconds": 0, "touch": str(file)}
    with pytest.raises(ClientError) as error:
        cloud.invoke(name, event, InvocationType=kind)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert not file.exists()
    assert cloud.invoke(name, event, InvocationType=kind).response["StatusCode"] in (202, 204)
    if kind == "Event":
        wait_until(file.exists)


@pytest.mark.parametrize("kind", ["Event", "DryRun"])
def test_a_request_that_waits_for_no_result_can_be_reset_or_slow(own_cloud: OwnCloud, kind: str) -> None:
    """A reset gives no answer; a delay makes the answer late."""
    reset, delay = LambdaFault("reset", invocations=(1,)), LambdaFault("delay", invocations=(2,), delay_s=0.4)
    cloud = own_cloud(faults=Faults((reset, delay)))
    name = cloud.deploy("echo")
    with pytest.raises(BotoCoreError):
        cloud.invoke(name, InvocationType=kind)
    begun_s = time.monotonic()
    cloud.invoke(name, InvocationType=kind)
    assert time.monotonic() - begun_s > 0.4


def test_an_event_runs_though_the_answer_is_lost(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """The client does not learn that its event was accepted."""
    cloud = own_cloud(faults=first_only("lost-answer"))
    name, file = cloud.deploy("sleep"), tmp_path / "ran"
    with pytest.raises(BotoCoreError):
        cloud.invoke(name, {"seconds": 0, "touch": str(file)}, InvocationType="Event")
    wait_until(file.exists)


def test_attempts_at_an_event_suffer_as_well(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """An event whose first attempt is killed and whose second is throttled runs in the end.

    The request and the first attempt are one invocation, each other attempt is one more.
    """
    faults = Faults((LambdaFault("kill", invocations=(1,)), LambdaFault("throttle", invocations=(2,))))
    cloud = own_cloud(virtual_clock=True, faults=faults)
    file = tmp_path / "ran"
    cloud.invoke(cloud.deploy("sleep"), {"seconds": 0.2, "touch": str(file)}, InvocationType="Event")
    wait_until(file.exists)
    assert cloud.emulator is not None
    wait_until(lambda: cloud.emulator.state()["running"] == 0)


def test_a_table_can_be_replaced(own_cloud: OwnCloud) -> None:
    """set_faults() and PUT /_emulator/faults take effect with the next invocation."""
    cloud = own_cloud()
    name = cloud.deploy("echo")
    assert cloud.emulator is not None
    assert cloud.invoke(name, 1).payload == 1
    cloud.emulator.set_faults(first_only("throttle"))
    with pytest.raises(ClientError):
        cloud.invoke(name)
    body = json.dumps({"lambda": [{"kind": "error-500", "function": name, "times": 1}]}).encode()
    with urlopen(
        Request(f"{cloud.emulator.endpoint}/_emulator/faults", body, method="PUT"), timeout=10
    ) as answer:
        assert answer.status == 200
    with pytest.raises(ClientError, match="ServiceException"):
        cloud.invoke(name)
    assert cloud.invoke(name, 2).payload == 2


# S3.


def objects(kind: str, **settings: Any) -> Faults:
    return Faults(objects=(S3Fault(kind, key="wanted*", method="GET", times=1, **settings),))


@pytest.fixture
def make_s3(own_cloud: OwnCloud) -> Callable[[Faults], Any]:
    def make(faults: Faults) -> Any:
        cloud = own_cloud(faults=faults)
        s3 = cloud.clients("s3")
        s3.bucket = cloud.unique("events")
        s3.create_bucket(Bucket=s3.bucket)
        for key in ("wanted/1", "other"):
            s3.put_object(Bucket=s3.bucket, Key=key, Body=b"x" * 1000)
        assert s3.get_object(Bucket=s3.bucket, Key="other")["Body"].read() == b"x" * 1000
        return s3

    return make


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [("slow-down", 503, "SlowDown"), ("error-500", 500, "InternalError"), ("missing", 404, "NoSuchKey")],
)
def test_an_error_of_s3(make_s3: Callable[[Faults], Any], kind: str, status: int, code: str) -> None:
    """The first GET that fits fails, and the next works."""
    s3 = make_s3(objects(kind))
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=s3.bucket, Key="wanted/1")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert error.value.response["Error"]["Code"] == code
    assert s3.get_object(Bucket=s3.bucket, Key="wanted/1")["Body"].read() == b"x" * 1000


def test_an_object_that_is_cut_off(make_s3: Callable[[Faults], Any]) -> None:
    """The connection ends in the middle of the object."""
    s3 = make_s3(objects("truncate"))
    with pytest.raises(BotoCoreError):
        s3.get_object(Bucket=s3.bucket, Key="wanted/1")["Body"].read()


def test_an_object_that_is_slow(make_s3: Callable[[Faults], Any]) -> None:
    """The answer comes later, and right."""
    s3 = make_s3(objects("slow", delay_s=0.3))
    begun_s = time.monotonic()
    assert s3.get_object(Bucket=s3.bucket, Key="wanted/1")["Body"].read() == b"x" * 1000
    assert time.monotonic() - begun_s > 0.3
