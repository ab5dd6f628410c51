"""Many environments at once, and what the emulator itself takes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dask_root_lambda.emulator import Emulator, logs
from dask_root_lambda.emulator.logs import EVENTS_PER_STREAM

from .clouds import HANDLERS, ROLE, Cloud, clients_of

pytestmark = pytest.mark.timeout(280)

OwnCloud = Callable[..., Cloud]


@pytest.fixture
def few_files() -> Iterator[None]:
    """A soft limit of open files as a login shell has it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_200_environments_run_at_once(few_files: None, own_cloud: OwnCloud, tmp_path: Path) -> None:
    """200 events that wait for each other all return: each is in an environment of its own.

    The emulator lifts its limit of open files itself, wherever it runs.
    """
    cloud = own_cloud()
    assert cloud.emulator is not None
    name = cloud.deploy("meet", Timeout=150)
    event = {"directory": str(tmp_path), "count": 200}
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: cloud.invoke(name, event), range(200)))
    assert len({answer.payload for answer in answers}) == 200
    assert cloud.emulator.state()["environments"] == 200


def test_too_few_files_are_an_error_that_says_so(
    own_cloud: OwnCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the limit of open files is reached, the client is told which limit it is."""
    cloud = own_cloud()
    name = cloud.deploy("echo")

    def fail() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(logs.os, "pipe", fail)
        with pytest.raises(ClientError, match="open files") as error:
            cloud.invoke(name)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert cloud.invoke(name, 1).payload == 1


def test_a_process_that_waits_for_a_cpu_is_excused(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """16 environments that each need 0.3 s of CPU to start, on fewer CPUs, are not timed out after 1 s."""
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    (tmp_path / "busy.py").write_text(burn + "def handler(e, c): time.sleep(0.5); return 'started'\n")
    cloud = own_cloud(init_timeout_s=1.0, python_path=(str(tmp_path),))
    name = cloud.deploy("echo", Timeout=60)
    cloud.lambda_.update_function_configuration(FunctionName=name, Handler="busy.handler")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: cloud.invoke(name), range(16)))
    assert [answer.payload for answer in answers] == ["started"] * 16
    assert not any("Status: timeout" in answer.log for answer in answers)


class Measured:
    """An emulator in a process of its own, whose CPU time and memory can be told."""

    def __init__(self, directory: Path) -> None:
        (directory / "stub_handlers.py").write_text(HANDLERS.read_text())
        command = [sys.executable, "-m", "dask_root_lambda.emulator", "--exit-with-stdin"]
        self.process = subprocess.Popen(
            [*command, "--python-path", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        emulator = Emulator()
        emulator.endpoint = json.loads(self.process.stdout.readline())["endpoint"]
        self._address = emulator.endpoint.removeprefix("http://")
        self.client = clients_of(emulator)("lambda")
        self.client.create_function(
            FunctionName="echo", PackageType="Image", Role=ROLE, Code={"ImageUri": "any/image:1"},
            ImageConfig={"Command": ["stub_handlers.echo"]},
        )  # fmt: skip

    def invoke(self, count: int) -> None:
        """Invoke over one plain connection: the test is about the emulator, not about a client."""
        path, headers = "/2015-03-31/functions/echo/invocations", {"X-Amz-Log-Type": "Tail"}
        with contextlib.closing(HTTPConnection(self._address, timeout=30)) as connection:
            for _ in range(count):
                connection.request("POST", path, b'{"n": 1}', headers)
                assert connection.getresponse().read() == b'{"n": 1}'

    def cpu_s(self) -> float:
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        return int(self._stat()[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def _stat(self) -> list[str]:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()


@pytest.fixture
def measured(tmp_path: Path) -> Any:
    made = Measured(tmp_path)
    yield made
    made.close()


def test_an_invocation_costs_about_a_millisecond(measured: Measured) -> None:
    """The emulator's own CPU time per invocation; the bound leaves room for a slow and busy machine."""
    measured.invoke(200)
    before_s = measured.cpu_s()
    measured.invoke(1000)
    assert (measured.cpu_s() - before_s) / 1000 < 0.002


def test_memory_stays_flat(measured: Measured) -> None:
    """When the bounded logs are full, invocations leave nothing behind.

    ``EMULATOR_SOAK=100000`` makes it that many.
    """
    measured.invoke(EVENTS_PER_STREAM // 3 + 200)
    before_mb = measured.rss_mb()
    measured.invoke(int(os.environ.get("EMULATOR_SOAK", "1500")))
    assert measured.rss_mb() - before_mb < 2
