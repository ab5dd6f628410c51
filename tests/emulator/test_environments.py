"""Execution environments: when they start and end, what they see, what they leave."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from dask_root_lambda.emulator import Image

from .clouds import ROLE, Cloud, alive, wait_until

pytestmark = pytest.mark.timeout(60)

OwnCloud = Callable[..., Cloud]


class Waiting:
    """An event that is being handled until it is told to go on."""

    def __init__(self, cloud: Cloud, name: str, file: Path) -> None:
        self._file, self._until = file, file.with_name(f"{file.name}-goes-on")
        self.document = {"touch": str(file), "until": str(self._until)}
        self._answers: list[Any] = []
        self._thread = threading.Thread(target=self._invoke, args=(cloud, name), daemon=True)

    def start(self) -> None:
        """Send it, and wait until it is being handled."""
        self._thread.start()
        assert self.pid

    @property
    def pid(self) -> int:
        """The environment that handles it, once it does."""
        wait_until(lambda: self._file.exists() and bool(self._file.read_text()))
        return int(self._file.read_text())

    def release(self) -> None:
        """Have it go on."""
        self._until.touch()

    def finish(self) -> Any:
        """Have it go on, and return its answer."""
        self.release()
        self._thread.join(20)
        return self._answers[0].payload

    def _invoke(self, cloud: Cloud, name: str) -> None:
        self._answers.append(cloud.invoke(name, self.document))


def test_the_last_one_used_is_the_first_one_used_again(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """Of two idle environments, the one that finished last takes the next event."""
    cloud = own_cloud()
    name = cloud.deploy("wait", Timeout=20)
    first, second, third = (Waiting(cloud, name, tmp_path / str(number)) for number in range(3))
    first.start()
    second.start()
    assert second.pid != first.pid
    assert [second.finish(), first.finish()] == ["awake", "awake"]
    third.start()
    third.finish()
    assert third.pid == first.pid


def test_an_idle_environment_ends(own_cloud: OwnCloud) -> None:
    """After its idle time, an environment's process is gone, and the next event starts a new one."""
    cloud = own_cloud(idle_timeout_s=0.3)
    name = cloud.deploy("describe")
    pid = cloud.invoke(name).payload["pid"]
    wait_until(lambda: not alive(pid))
    assert cloud.invoke(name).payload["count"] == 1


@pytest.mark.parametrize("change", ["update", "delete"])
def test_a_change_ends_idle_environments(own_cloud: OwnCloud, change: str) -> None:
    """Update and deletion of a function end its idle environments at once."""
    cloud = own_cloud()
    name = cloud.deploy("describe")
    pid = cloud.invoke(name).payload["pid"]
    if change == "update":
        cloud.lambda_.update_function_configuration(FunctionName=name, Timeout=5)
    else:
        cloud.lambda_.delete_function(FunctionName=name)
    wait_until(lambda: not alive(pid))


def test_an_update_lets_a_running_event_finish(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """An environment that is busy while its function changes finishes its event, then ends."""
    cloud = own_cloud()
    name = cloud.deploy("wait", Timeout=20)
    event = Waiting(cloud, name, tmp_path / "running")
    event.start()
    pid = event.pid
    cloud.lambda_.update_function_configuration(FunctionName=name, Timeout=5)
    assert event.finish() == "awake"
    wait_until(lambda: not alive(pid))


def test_an_environment_killed_while_idle_is_not_used(own_cloud: OwnCloud) -> None:
    """An event that would go to a dead process goes to a new one."""
    cloud = own_cloud()
    name = cloud.deploy("describe")
    pid = cloud.invoke(name).payload["pid"]
    os.kill(pid, 9)
    wait_until(lambda: not alive(pid))
    assert cloud.invoke(name).payload["count"] == 1


def test_nothing_of_the_user_is_inherited(own_cloud: OwnCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, home and other variables of the user do not reach a function."""
    cloud = own_cloud()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-users-key")
    monkeypatch.setenv("AWS_PROFILE", "the-users-profile")
    monkeypatch.setenv("MY_TOKEN", "secret")
    variables = cloud.invoke(cloud.deploy("describe")).payload["variables"]
    assert variables["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert variables["HOME"] != os.environ.get("HOME")
    assert not {"AWS_PROFILE", "MY_TOKEN"} & set(variables)
    assert variables["AWS_ENDPOINT_URL"] == cloud.emulator.endpoint  # type: ignore[union-attr]


def test_functions_reach_the_other_services(own_cloud: OwnCloud) -> None:
    """boto3 in a function finds the emulator's S3 without being told."""
    cloud = own_cloud()
    s3 = cloud.clients("s3")
    event = {"bucket": cloud.unique("results"), "key": "a/b c.json"}
    s3.create_bucket(Bucket=event["bucket"])
    answer = cloud.invoke(cloud.deploy("put_object", Timeout=20, MemorySize=512), event)
    assert answer.error is None, answer.payload
    assert json.loads(s3.get_object(Bucket=event["bucket"], Key=event["key"])["Body"].read()) == event


def test_what_a_handler_starts_ends_with_its_environment(own_cloud: OwnCloud) -> None:
    """Children in the process group and children that left it are gone after the environment."""
    cloud = own_cloud()
    name = cloud.deploy("leave_children", MemorySize=256)
    pids = cloud.invoke(name).payload
    assert all(alive(pid) for pid in pids)
    cloud.lambda_.delete_function(FunctionName=name)
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_memory_of_children_counts(own_cloud: OwnCloud) -> None:
    """A child process that takes too much ends the environment."""
    cloud = own_cloud()
    answer = cloud.invoke(cloud.deploy("grow_in_child", MemorySize=128, Timeout=30), {"mb": 300})
    assert answer.payload["errorMessage"].endswith("signal: killed")
    assert "Runtime.OutOfMemory" in answer.log


@pytest.mark.parametrize("stop", [True, False])
def test_a_client_that_goes_away(own_cloud: OwnCloud, tmp_path: Path, stop: bool) -> None:
    """With stop_on_disconnect, what runs for a client ends with its connection; as on AWS, not without."""
    cloud = own_cloud(stop_on_disconnect=stop)
    name = cloud.deploy("wait", Timeout=20)
    event = Waiting(cloud, name, tmp_path / "running")
    payload = json.dumps(event.document).encode()
    host, port = cloud.emulator.endpoint.removeprefix("http://").split(":")  # type: ignore[union-attr]
    with socket.create_connection((host, int(port)), 5) as connection:
        head = f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: localhost\r\n"
        connection.sendall(f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
        pid = event.pid
    if stop:
        wait_until(lambda: not alive(pid))
    else:
        event.release()
        wait_until(lambda: cloud.emulator.state()["running"] == 0)  # type: ignore[union-attr]
        assert alive(pid)


def test_the_account_has_a_limit(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """More than the account's concurrency gives 429 ConcurrentInvocationLimitExceeded and Retry-After."""
    cloud = own_cloud(account_concurrency=1)
    name = cloud.deploy("wait", Timeout=20)
    event = Waiting(cloud, name, tmp_path / "running")
    event.start()
    with pytest.raises(ClientError) as error:
        cloud.invoke(name, event.document)
    event.finish()
    assert error.value.response["Reason"] == "ConcurrentInvocationLimitExceeded"
    assert int(error.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"]) >= 1
    assert cloud.invoke(name, event.document).payload == "awake"


def test_a_process_that_writes_without_end_does_not_stop_the_others(own_cloud: OwnCloud) -> None:
    """An endless log takes its own environment's time, and no other's."""
    cloud = own_cloud()
    loud, quiet = cloud.deploy("write_forever", Timeout=3), cloud.deploy("echo")
    thread = threading.Thread(target=cloud.invoke, args=(loud,))
    thread.start()
    assert [cloud.invoke(quiet, number).payload for number in range(20)] == list(range(20))
    assert thread.is_alive()
    thread.join(20)


def test_functions_scale_at_a_rate(own_cloud: OwnCloud) -> None:
    """More new environments than the scaling rate gives 429; with time, more may start.

    https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html
    """
    cloud = own_cloud(scaling_rate=2, virtual_clock=True)
    names = [cloud.deploy("leave"), cloud.deploy("leave")]
    for name in names:
        for _ in range(2):
            cloud.invoke(name, {"status": 1})
        with pytest.raises(cloud.lambda_.exceptions.TooManyRequestsException):
            cloud.invoke(name, {"status": 1})
    assert cloud.emulator is not None
    cloud.emulator.advance(5)
    assert cloud.invoke(names[0], {"status": 1}).error == "Unhandled"


def test_a_reservation_leaves_100_for_the_others(own_cloud: OwnCloud) -> None:
    """AWS keeps 100 unreserved: https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html."""
    cloud = own_cloud(account_concurrency=1000)
    name = cloud.deploy("echo")
    put = cloud.lambda_.put_function_concurrency
    put(FunctionName=name, ReservedConcurrentExecutions=900)
    with pytest.raises(ClientError, match="UnreservedConcurrentExecution below its minimum value"):
        put(FunctionName=name, ReservedConcurrentExecutions=901)


def test_a_slow_initialisation_moves_into_the_functions_time(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """INIT that takes too long is stopped, and done again within the timeout; the log says so.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
    """
    (tmp_path / "slow_start.py").write_text("import time\ntime.sleep(1)\ndef handler(e, c): return 'ready'\n")
    cloud = own_cloud(init_timeout_s=0.3, python_path=(str(tmp_path),))
    name = cloud.deploy("echo", Timeout=10)
    cloud.lambda_.update_function_configuration(FunctionName=name, Handler="slow_start.handler")
    answer = cloud.invoke(name)
    assert answer.payload == "ready"
    assert "Phase: init\tStatus: timeout" in answer.log
    assert "Init Duration" not in answer.log.rpartition("REPORT")[2]
    assert float(answer.log.rpartition("REPORT")[2].split("Duration: ")[1].split()[0]) > 1000


def test_an_initialisation_that_never_ends_times_out(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """The second attempt at INIT ends with the function's time."""
    (tmp_path / "no_start.py").write_text("import time\ntime.sleep(60)\n")
    cloud = own_cloud(init_timeout_s=0.3, python_path=(str(tmp_path),))
    name = cloud.deploy("echo", Timeout=1)
    cloud.lambda_.update_function_configuration(FunctionName=name, Handler="no_start.handler")
    answer = cloud.invoke(name)
    assert answer.payload["errorType"] == "Sandbox.Timedout"


def test_an_image_stands_for_what_the_mapping_says(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """The first pattern that fits an image URI tells handler, path and variables of its environments."""
    (tmp_path / "in_image.py").write_text("import os\ndef handler(e, c): return os.environ['FROM']\n")
    image = Image(handler="in_image.handler", python_path=(str(tmp_path),), variables={"FROM": "image"})
    cloud = own_cloud(images=(("*/analysis:*", image),))
    uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/analysis:1"
    made = cloud.lambda_.create_function(
        FunctionName="image", PackageType="Image", Role=ROLE, Code={"ImageUri": uri}
    )
    assert made["State"] == "Active"
    assert cloud.invoke("image").payload == "image"
    code = cloud.lambda_.get_function(FunctionName="image")["Code"]
    assert code["ImageUri"] == uri
    assert code["ResolvedImageUri"].startswith(uri.removesuffix(":1") + "@sha256:")


def test_a_command_of_the_function_wins_over_its_image(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """ImageConfig.Command names the handler."""
    (tmp_path / "mine.py").write_text("def handler(e, c): return 'mine'\n")
    cloud = own_cloud(python_path=(str(tmp_path),))
    cloud.lambda_.create_function(
        FunctionName="image",
        PackageType="Image",
        Role=ROLE,
        Code={"ImageUri": "any/image:1"},
        ImageConfig={"Command": ["mine.handler"]},
    )
    assert cloud.invoke("image").payload == "mine"


def test_stopping_while_an_environment_starts_is_no_error(
    own_cloud: OwnCloud, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its start is given up, and nobody who is gone is told to end it."""
    begun = tmp_path / "begun"
    code = f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(60)\n"
    (tmp_path / "no_start.py").write_text(code)
    cloud = own_cloud(python_path=(str(tmp_path),))
    assert cloud.emulator is not None
    name = cloud.deploy("echo")
    cloud.lambda_.update_function_configuration(FunctionName=name, Handler="no_start.handler")

    def invoke() -> None:
        with pytest.raises((BotoCoreError, ClientError)):
            cloud.invoke(name)

    thread = threading.Thread(target=invoke)
    thread.start()
    wait_until(begun.exists)
    cloud.emulator.stop()
    thread.join(20)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_stopping_ends_what_runs(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """stop() ends busy environments, frees the port and removes the files."""
    cloud = own_cloud()
    emulator = cloud.emulator
    assert emulator is not None
    name = cloud.deploy("sleep", Timeout=60)
    file = tmp_path / "running"

    def invoke() -> None:
        with pytest.raises(BotoCoreError):
            cloud.invoke(name, {"seconds": 50, "touch": str(file)})

    thread = threading.Thread(target=invoke)
    thread.start()
    wait_until(lambda: file.exists() and bool(file.read_text()))
    begun_s = time.monotonic()
    emulator.stop()
    assert time.monotonic() - begun_s < 5
    thread.join(20)
    assert not alive(int(file.read_text()))
    host, port = emulator.endpoint.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5).close()
