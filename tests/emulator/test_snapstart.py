"""SnapStart: initialised once, restored for each environment.

https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dask_root_lambda.emulator import snapshots
from dask_root_lambda.emulator.processes import Processes

from .clouds import Cloud, alive, archive, wait_until

pytestmark = pytest.mark.timeout(60)

OwnCloud = Callable[..., Cloud]

SOURCE = """
import os, random, time
from pathlib import Path
from snapshot_restore_py import register_after_restore, register_before_snapshot

events = [f"import {os.getpid()}"]
PLACE = os.environ["TMPDIR"]
Path(PLACE, "from-init").write_text("kept")
INIT_LINE = "initialised"
print(INIT_LINE)

@register_before_snapshot
def before():
    events.append(f"before {os.getpid()}")
    if os.environ.get("FAIL") == "before":
        raise ValueError("not ready for a picture")

@register_after_restore
def after():
    events.append(f"after {os.getpid()}")
    if os.environ.get("FAIL") == "after":
        raise ValueError("cannot wake up")
    time.sleep(float(os.environ.get("WAKE_S", "0")))

def handler(event, context):
    if event and event.get("meet"):
        Path(event["meet"], str(os.getpid())).touch()
        while len(os.listdir(event["meet"])) < event["count"]:
            time.sleep(0.02)
    if event and event.get("exit"):
        os._exit(event["exit"])
    print("handled")
    here = os.environ["TMPDIR"]
    return {"events": events, "pid": os.getpid(), "random": random.random(), "variables": dict(os.environ),
            "kept": Path(here, "from-init").read_text(), "request": context.aws_request_id,
            "parent": os.getppid()}
"""


def publish(cloud: Cloud, *, wait: bool = True, **variables: str) -> str:
    """A published version with SnapStart; returns the function's name."""
    name = cloud.deploy(
        "handler",
        SnapStart={"ApplyOn": "PublishedVersions"},
        Environment={"Variables": variables},
        MemorySize=256,
        Timeout=20,
    )
    cloud.lambda_.update_function_configuration(FunctionName=name, Handler="stub_handlers.handler")
    cloud.lambda_.update_function_code(FunctionName=name, ZipFile=archive(SOURCE))
    made = cloud.lambda_.publish_version(FunctionName=name)
    assert (made["Version"], made["State"]) == ("1", "Pending")
    assert made["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    if wait:
        wait_until(lambda: settings(cloud, name)["State"] != "Pending")
    return name


def settings(cloud: Cloud, name: str) -> dict[str, Any]:
    return dict(cloud.lambda_.get_function_configuration(FunctionName=name, Qualifier="1"))


def side_by_side(cloud: Cloud, name: str, directory: Path, count: int) -> list[Any]:
    """Answers of environments that run at the same time."""
    event = {"meet": str(directory), "count": count}
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: cloud.invoke(name, event, Qualifier="1"), range(count)))


def test_initialisation_happens_once(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """Import and before-snapshot hooks run once for all environments, after-restore hooks in each."""
    cloud = own_cloud()
    name = publish(cloud)
    answers = side_by_side(cloud, name, tmp_path, 3)
    pids = {answer.payload["pid"] for answer in answers}
    assert len(pids) == 3
    for answer in answers:
        imported, before, after = answer.payload["events"]
        assert imported.split()[0] == "import"
        assert before == f"before {imported.split()[1]}"
        assert after == f"after {answer.payload['pid']}"
        assert imported.split()[1] not in map(str, pids)


def test_the_state_of_initialisation_is_shared(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """What was random before the snapshot is the same in every environment, and so is /tmp.

    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
    """
    cloud = own_cloud()
    name = publish(cloud)
    answers = side_by_side(cloud, name, tmp_path, 2)
    assert len({answer.payload["random"] for answer in answers}) == 1
    assert [answer.payload["kept"] for answer in answers] == ["kept", "kept"]


def test_a_restore_is_reported(own_cloud: OwnCloud) -> None:
    """REPORT has Restore Duration and Billed Restore Duration, once per environment, and no Init Duration.

    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-monitoring.html
    """
    cloud = own_cloud()
    name = publish(cloud, WAKE_S="0.2")
    first, second = cloud.invoke(name, Qualifier="1"), cloud.invoke(name, Qualifier="1")
    found = re.search(r"Restore Duration: ([\d.]+) ms\tBilled Restore Duration: (\d+) ms", first.log)
    assert found is not None
    assert float(found[1]) >= 200
    # Counted from when the emulator hears that the process was forked: a little of the wait may be over.
    assert 100 <= int(found[2]) <= float(found[1]) + 1
    assert "Init Duration" not in first.log
    assert "Restore Duration" not in second.log
    assert first.payload["pid"] == second.payload["pid"]


def test_the_log_has_initialisation_and_restore(own_cloud: OwnCloud) -> None:
    """INIT_REPORT in the stream of the snapshot, RESTORE_REPORT in that of the environment."""
    cloud = own_cloud()
    name = publish(cloud)
    cloud.invoke(name, Qualifier="1")
    events = cloud.clients("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    by_stream: dict[str, str] = {}
    for event in events:
        by_stream[event["logStreamName"]] = (
            by_stream.get(event["logStreamName"], "") + event["message"] + "\n"
        )
    init, restored = sorted(by_stream.values(), key=lambda text: "handled" in text)
    assert re.search(r"initialised\nINIT_REPORT Init Duration: [\d.]+ ms\tPhase: init\n", init)
    assert re.search(r"RESTORE_REPORT Restore Duration: [\d.]+ ms\n", restored)


def test_variables_are_those_of_a_snapshot(own_cloud: OwnCloud) -> None:
    """The type is snap-start, log names are missing, and each environment has its own Runtime API."""
    cloud = own_cloud()
    variables = cloud.invoke(publish(cloud), Qualifier="1").payload["variables"]
    assert variables["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start"
    assert variables["AWS_LAMBDA_FUNCTION_VERSION"] == "1"
    assert not {"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"} & set(variables)


def test_only_published_versions_have_it(own_cloud: OwnCloud) -> None:
    """$LATEST is initialised as ever."""
    cloud = own_cloud()
    answer = cloud.invoke(publish(cloud))
    assert answer.payload["variables"]["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert "Init Duration" in answer.log


def test_a_version_that_is_not_ready_is_refused(own_cloud: OwnCloud) -> None:
    """409 SnapStartNotReadyException while the snapshot is taken (API_Invoke, Errors)."""
    cloud = own_cloud()
    name = publish(cloud, wait=False)
    with pytest.raises(ClientError) as error:
        cloud.invoke(name, Qualifier="1")
    assert error.value.response["Error"]["Code"] == "SnapStartNotReadyException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    wait_until(lambda: settings(cloud, name)["State"] == "Active")


def test_a_failing_hook_before_the_snapshot_fails_the_version(own_cloud: OwnCloud) -> None:
    """The version becomes Failed, with the hook's error, and cannot be invoked."""
    cloud = own_cloud()
    name = publish(cloud, FAIL="before")
    state = settings(cloud, name)
    assert state["State"] == "Failed"
    assert "not ready for a picture" in state["StateReason"]
    with pytest.raises(ClientError) as error:
        cloud.invoke(name, Qualifier="1")
    assert error.value.response["Error"]["Code"] == "ResourceConflictException"


def test_a_failing_hook_after_the_restore_is_an_error(own_cloud: OwnCloud) -> None:
    """400 SnapStartException (API_Invoke, Errors); the log has the reason."""
    cloud = own_cloud()
    name = publish(cloud, FAIL="after")
    with pytest.raises(ClientError) as error:
        cloud.invoke(name, Qualifier="1")
    assert error.value.response["Error"]["Code"] == "SnapStartException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    events = cloud.clients("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    text = "\n".join(event["message"] for event in events)
    assert "cannot wake up" in text
    assert re.search(r"RESTORE_REPORT .*Status: error\tError Type: Runtime.AfterRestoreError", text)


def test_a_restore_that_takes_too_long_is_an_error(
    own_cloud: OwnCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """408 SnapStartTimeoutException (API_Invoke, Errors)."""
    from dask_root_lambda.emulator import restored

    monkeypatch.setattr(restored, "RESTORE_LIMIT_S", 0.5)
    cloud = own_cloud()
    name = publish(cloud, WAKE_S="30")
    with pytest.raises(ClientError) as error:
        cloud.invoke(name, Qualifier="1")
    assert error.value.response["Error"]["Code"] == "SnapStartTimeoutException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 408


def test_a_crash_is_told_as_ever(own_cloud: OwnCloud) -> None:
    """The exit status of a restored environment reaches the client, and the next event is restored anew."""
    cloud = own_cloud()
    name = publish(cloud)
    answer = cloud.invoke(name, {"exit": 7}, Qualifier="1")
    assert answer.payload["errorMessage"].endswith("Runtime exited with error: exit status 7")
    assert "Restore Duration" in cloud.invoke(name, Qualifier="1").log


def lose_template(cloud: Cloud, name: str) -> None:
    """Kill the process behind a snapshot and what it restored; the next invocation has another snapshot."""
    first = cloud.invoke(name, Qualifier="1").payload
    template = int(first["events"][0].split()[1])
    os.kill(template, 9)
    os.kill(first["pid"], 9)
    wait_until(lambda: not alive(template) and not alive(first["pid"]))
    second = cloud.invoke(name, Qualifier="1").payload
    assert second["events"][0] != first["events"][0]


def test_a_lost_template_is_replaced(own_cloud: OwnCloud) -> None:
    """Snapshots do not get lost on AWS: one whose process was killed is taken again when it is needed."""
    cloud = own_cloud()
    name = publish(cloud)
    lose_template(cloud, name)


def test_the_end_of_a_lost_template_may_be_told_late(
    own_cloud: OwnCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The news that the old process ended does not end the one that has taken its place."""
    notify, held = Processes._notify, []

    def notify_late(processes: Processes, message: dict[str, Any]) -> None:
        """Keep back that a template has ended until the next one has started."""
        of_template = message.get("id", "").startswith("snapshot-")
        if of_template and message["event"] == "exit":
            held.append(message)
            return
        notify(processes, message)
        while of_template and held:
            notify(processes, held.pop())

    monkeypatch.setattr(Processes, "_notify", notify_late)
    cloud = own_cloud()
    name = publish(cloud)
    lose_template(cloud, name)
    found = cloud.clients("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    reports = [event["message"] for event in found if event["message"].startswith("INIT_REPORT")]
    assert len(reports) == 2
    assert not any("Status" in report for report in reports)


def test_everything_ends_with_the_function(own_cloud: OwnCloud) -> None:
    """Template and environments are gone after DeleteFunction."""
    cloud = own_cloud()
    name = publish(cloud)
    payload = cloud.invoke(name, Qualifier="1").payload
    template = int(payload["events"][0].split()[1])
    assert alive(template)
    cloud.lambda_.delete_function(FunctionName=name)
    wait_until(lambda: not alive(template) and not alive(payload["pid"]))


def test_stopping_ends_templates(own_cloud: OwnCloud) -> None:
    """stop() leaves neither template nor fork, nor their files."""
    cloud = own_cloud()
    payload = cloud.invoke(publish(cloud), Qualifier="1").payload
    assert cloud.emulator is not None
    cloud.emulator.stop()
    assert not alive(payload["pid"])
    assert not alive(int(payload["events"][0].split()[1]))
    assert not Path(payload["variables"]["TMPDIR"]).exists()


def test_environments_do_not_wait_for_an_initialisation(own_cloud: OwnCloud) -> None:
    """What publishing the version initialised for five seconds answers in less."""
    cloud = own_cloud()
    name = cloud.deploy("handler", SnapStart={"ApplyOn": "PublishedVersions"}, Timeout=20)
    source = "import time\ntime.sleep(5)\ndef handler(event, context): return 'fast'\n"
    cloud.lambda_.update_function_code(FunctionName=name, ZipFile=archive(source))
    cloud.lambda_.publish_version(FunctionName=name)
    wait_until(lambda: settings(cloud, name)["State"] == "Active")
    begun_s = time.monotonic()
    assert cloud.invoke(name, Qualifier="1").payload == "fast"
    assert time.monotonic() - begun_s < 5


def test_its_tmp_is_small(own_cloud: OwnCloud) -> None:
    """SnapStart takes at most 512 MB of /tmp."""
    cloud = own_cloud()
    with pytest.raises(ClientError, match="512 MB"):
        cloud.deploy("echo", SnapStart={"ApplyOn": "PublishedVersions"}, EphemeralStorage={"Size": 1024})


@pytest.mark.parametrize("first", ["SnapStart", "EphemeralStorage"])
def test_its_tmp_stays_small(own_cloud: OwnCloud, first: str) -> None:
    """What counts is the function as it would be, not the request that changes it."""
    cloud = own_cloud()
    both = {"SnapStart": {"ApplyOn": "PublishedVersions"}, "EphemeralStorage": {"Size": 1024}}
    name = cloud.deploy("echo", **{first: both.pop(first)})
    with pytest.raises(ClientError, match="512 MB"):
        cloud.lambda_.update_function_configuration(FunctionName=name, **both)


def test_an_initialisation_that_takes_too_long_fails(
    own_cloud: OwnCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version's state tells that its hook before the snapshot did not end in time.

    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks.html
    """
    monkeypatch.setattr(snapshots, "INIT_LIMIT_S", 0.1)
    cloud = own_cloud()
    name = cloud.deploy("handler", SnapStart={"ApplyOn": "PublishedVersions"}, Timeout=1)
    source = (
        "import time\nfrom snapshot_restore_py import register_before_snapshot\n"
        "@register_before_snapshot\ndef before(): time.sleep(60)\ndef handler(event, context): pass\n"
    )
    cloud.lambda_.update_function_code(FunctionName=name, ZipFile=archive(source))
    cloud.lambda_.publish_version(FunctionName=name)
    wait_until(lambda: settings(cloud, name)["State"] != "Pending")
    found = settings(cloud, name)
    assert (found["State"], found["StateReasonCode"]) == ("Failed", "FunctionError.InitTimeout")
    with pytest.raises(cloud.lambda_.exceptions.ResourceConflictException, match="took too long"):
        cloud.invoke(name, Qualifier="1")
