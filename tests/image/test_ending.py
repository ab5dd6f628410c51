"""Containers end with the emulator, whatever ends it, and leave nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dask_root_lambda.emulator import containers
from tests.emulator.clouds import ROLE, wait_until
from tests.image import probes
from tests.image.building import Built
from tests.image.test_image import request

pytestmark = pytest.mark.timeout(300)

# A program that starts the emulator as `EmulatedInvoker` does, and tells where it is.
PROGRAM = """
import subprocess, sys, time
emulator = subprocess.Popen(
    [sys.executable, "-m", "dask_root_lambda.emulator", "--exit-with-stdin", "--image-runner", "container"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
)
print(emulator.pid, emulator.stdout.readline(), flush=True)
time.sleep(600)
"""


class Started:
    """A program with an emulator, one busy container and one idle one."""

    def __init__(self, image: str, directory: Path) -> None:
        self.directory = directory
        self.program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(directory)},
        )
        assert self.program.stdout is not None
        number, _, ready = self.program.stdout.readline().partition(" ")
        self.emulator = int(number)
        self.name = f"f-{uuid.uuid4().hex[:12]}"
        config = Config(retries={"total_max_attempts": 1}, read_timeout=60)
        self.client = boto3.client(
            "lambda", endpoint_url=json.loads(ready)["endpoint"], region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test", config=config,
        )  # fmt: skip
        self.client.create_function(
            FunctionName=self.name, PackageType="Image", Role=ROLE, Timeout=200, MemorySize=1769,
            Code={"ImageUri": image},
        )  # fmt: skip
        for seconds in (0.0, 100.0):
            threading.Thread(target=self._invoke, args=(seconds,), daemon=True).start()
        wait_until(lambda: len(self.containers()) == 2, 60)

    def _invoke(self, seconds: float) -> None:
        # The long one ends as an error of some kind: the emulator is ended under it.
        payload = json.dumps(request(probes.sleep, seconds).to_json())
        with contextlib.suppress(ClientError, BotoCoreError):
            self.client.invoke(FunctionName=self.name, Payload=payload)

    def containers(self) -> list[int]:
        """Processes that have the function's name among their variables: those in its containers."""
        mark = f"AWS_LAMBDA_FUNCTION_NAME={self.name}".encode()
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _read(path)]

    def cgroups(self) -> list[Path]:
        names = [path.name for path in self.directory.glob("lambda-emulator-*")]
        patterns = [pattern for name in names for pattern in (name, f"*/{name}")]
        return [path for pattern in patterns for path in Path("/sys/fs/cgroup").glob(pattern)]

    def left(self) -> list[Any]:
        """What there is of it: processes, and files."""
        return [*self.containers(), *self.directory.glob("lambda-emulator-*")]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def started(built: Built, tmp_path: Path) -> Iterator[Started]:
    running = Started(built.name, tmp_path)
    yield running
    running.program.kill()
    running.program.wait(20)


@pytest.mark.parametrize("victim", ["the emulator", "its program"])
def test_nothing_survives_a_kill(started, victim):
    """After kill -9 of the emulator or of its program: no process, file or cgroup, busy or idle."""
    cgroups = started.cgroups()
    assert cgroups
    os.kill(started.emulator if victim == "the emulator" else started.program.pid, signal.SIGKILL)
    wait_until(lambda: not started.left(), 30)
    assert not [path for path in cgroups if path.exists()]


def test_nothing_survives_a_kill_of_the_warden(started):
    """The emulator ends the containers itself, and takes their cgroups away when it ends."""
    cgroups, warden = started.cgroups(), _warden(started)
    os.kill(warden, signal.SIGKILL)
    wait_until(lambda: not started.containers(), 30)
    started.program.kill()
    wait_until(lambda: not started.left(), 30)
    assert not [path for path in cgroups if path.exists()]


def test_a_container_whose_number_was_not_told_is_ended():
    """The warden was lost after the runtime had started it: its cgroup is known all the same."""
    root = Path(f"lambda-emulator-{uuid.uuid4().hex[:8]}")
    group = containers.CGROUPS / root / "environment"
    if not (containers.CGROUPS / "cgroup.procs").exists():
        group = containers.CGROUPS / "memory" / root / "environment"
    group.mkdir(parents=True)
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            (group / "cgroup.procs").write_text(str(process.pid))
            containers.end_all(root)
            assert process.wait(20) == -signal.SIGKILL
        finally:
            process.kill()
    containers.clear_all(root)
    assert not group.parent.exists()


def _warden(started: Started) -> int:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if b"warden.py" in _read(path) and str(started.directory).encode() in _read(path):
            return int(path.parent.name)
    raise AssertionError("the warden is not there")
