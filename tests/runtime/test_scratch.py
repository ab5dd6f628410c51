"""An environment leaves nothing in /tmp, whatever ends it, and never fills it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from dask_root_lambda.emulator import Emulator
from lambda_runtime import scratch
from tests.emulator.clouds import ROLE, Cloud, clients_of
from tests.emulator.test_tmp import needs_mounts

_ENVIRONMENT = """
import json, os, sys, tempfile
from pathlib import Path
from lambda_runtime.children import Children

def answer(event, number):
    if event["do"] == "die":
        os.kill(os.getpid(), event["by"])
    (Path(tempfile.gettempdir()) / "large").write_bytes(bytes(event["size"]))
    return {"pid": os.getpid()}

children = Children(answer, lambda _: False, lambda _: {})
for line in sys.stdin:
    print(children.answer(json.loads(line), "request"), flush=True)
"""

_ATTACHING = """
import functools, os, tempfile
from pathlib import Path
from lambda_runtime.children import Children

def attach(event, number):
    with open(Path(tempfile.gettempdir()) / "large", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, event["mb"] << 20)
    return number

children = functools.cache(lambda answer: Children(answer, lambda _: False, lambda _: {}))

def handler(event, context):
    return children(attach).answer(event, context.aws_request_id)
"""


class Environment:
    """A process that has children, as the function's has."""

    def __init__(self, tmp: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ENVIRONMENT],
            env={**os.environ, "TMPDIR": str(tmp)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, identity: str, do: str = "write", **event: object) -> str:
        print(
            json.dumps({"identity": identity, "do": do, "size": 1000, **event}),
            file=self._process.stdin,
            flush=True,
        )
        return self._process.stdout.readline()

    def end(self, by: int | None = None) -> int:
        if by is not None:
            self._process.send_signal(by)
        with self._process:
            self._process.stdin.close()
        return self._process.returncode


def files(tmp: Path) -> list[Path]:
    return [path for path in tmp.rglob("*") if path.is_file()]


def test_a_child_that_crashes_leaves_nothing_of_the_others(tmp_path):
    """AWS keeps /tmp for the process that it starts next: the directories of all children go."""
    environment = Environment(tmp_path)
    for identity in ("one", "two", "three"):
        environment.ask(identity)
    assert len(files(tmp_path)) == 3
    assert environment.ask("two", do="die", by=signal.SIGABRT) == ""
    assert environment.end() == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_environment_left_goes_with_the_next(tmp_path):
    """Lambda kills at a time limit, and starts the next process in the same /tmp; living neighbours stay."""
    neighbour, killed = Environment(tmp_path), Environment(tmp_path)
    for environment in (neighbour, killed):
        environment.ask("one")
    (tmp_path / "mine").touch()
    killed.end(signal.SIGKILL)
    assert len(files(tmp_path)) == 3
    after = Environment(tmp_path)
    after.ask("one", size=2000)
    sizes = sorted(path.stat().st_size for path in files(tmp_path))
    assert sizes == [0, 1000, 2000]
    for environment in (neighbour, after):
        environment.end()


@needs_mounts
def test_files_of_many_identities_never_fill_the_disk(tmp_path):
    """A large attachment of ten identities in turn: older ones go where there is no room for the next."""
    (tmp_path / "attaching.py").write_text(_ATTACHING)
    roots = (str(tmp_path), str(Path(scratch.__file__).parents[1]))
    with Emulator(python_path=roots) as emulator:
        cloud = Cloud(clients_of(emulator), ROLE, real=False)
        name = cloud.deploy("echo", EphemeralStorage={"Size": 512}, Timeout=20)
        cloud.lambda_.update_function_configuration(FunctionName=name, Handler="attaching.handler")
        answers = [
            cloud.invoke(name, {"identity": str(identity), "mb": 200}).payload for identity in range(10)
        ]
    assert answers == [*range(10)]
