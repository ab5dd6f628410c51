"""Temporary files: an environment's own, of limited size, where the machine allows it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .clouds import Cloud, archive, wait_until

pytestmark = pytest.mark.timeout(60)

OwnCloud = Callable[..., Cloud]

SOURCE = """
import errno, os, tempfile
from pathlib import Path

def echo(event, context):
    here = Path(tempfile.gettempdir())
    before = sorted(path.name for path in here.iterdir())
    if event.get("write"):
        (here / event["write"]).write_text("mine")
    if event.get("fill_mb"):
        with open(here / "large", "wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, event["fill_mb"] << 20)
            except OSError as error:
                return errno.errorcode[error.errno]
    if event.get("read"):
        path = Path(event["read"])
        return path.read_text() if path.exists() else None
    if event.get("wait"):
        import time
        time.sleep(event["wait"])
    return {"tmp": str(here), "before": before, "pid": os.getpid()}
"""


def deploy(cloud: Cloud, **settings: object) -> str:
    name = cloud.deploy("echo", Timeout=20, **settings)
    cloud.lambda_.update_function_code(FunctionName=name, ZipFile=archive(SOURCE))
    return name


def mounts_allowed() -> bool:
    """Whether this user may mount, which is what limits need."""
    script = (
        "from dask_root_lambda.emulator.mounts import isolate; raise SystemExit(not isolate(as_user=False))"
    )
    return subprocess.run([sys.executable, "-c", script], timeout=30, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not mounts_allowed(), reason="needs mount namespaces: root, or more")


def test_temporary_files_are_an_environments_own(own_cloud: OwnCloud) -> None:
    """They are there for the next event in the same environment, and gone with it.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-ephemeral-storage.html
    """
    cloud = own_cloud()
    name = deploy(cloud)
    first = cloud.invoke(name, {"write": "cache"}).payload
    assert first["before"] == []
    assert cloud.invoke(name, {}).payload["before"] == ["cache"]
    cloud.lambda_.update_function_configuration(FunctionName=name, Description="new environments")
    second = cloud.invoke(name, {}).payload
    assert second["before"] == []
    wait_until(lambda: not Path(first["tmp"]).exists())


@needs_mounts
@pytest.mark.parametrize(("storage_mb", "ends"), [(512, "ENOSPC"), (700, None)])
def test_temporary_files_have_a_size(own_cloud: OwnCloud, storage_mb: int, ends: str | None) -> None:
    """Writing more than EphemeralStorage fails as on a full disk.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-ephemeral-storage.html
    """
    cloud = own_cloud()
    assert cloud.emulator is not None
    name = deploy(cloud, EphemeralStorage={"Size": storage_mb})
    answer = cloud.invoke(name, {"fill_mb": 600}).payload
    assert (answer if ends else type(answer).__name__) == (ends or "dict")
    assert cloud.emulator.state()["limited_tmp"]


def test_files_in_tmp_are_seen(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """An analysis of files in the machine's /tmp finds them."""
    cloud = own_cloud()
    (tmp_path / "events").write_text("muons")
    assert cloud.invoke(deploy(cloud), {"read": str(tmp_path / "events")}).payload == "muons"


@needs_mounts
def test_tmp_can_be_private(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """With private_tmp, /tmp itself is the environment's, and none of it the machine's."""
    cloud = own_cloud(private_tmp=True)
    name = deploy(cloud)
    (tmp_path / "events").write_text("muons")
    answer = cloud.invoke(name, {"write": f"emulator-test-{os.getpid()}"}).payload
    assert answer["tmp"] == "/tmp"
    assert not Path("/tmp", f"emulator-test-{os.getpid()}").exists()
    if str(tmp_path).startswith("/tmp/"):
        assert cloud.invoke(name, {"read": str(tmp_path / "events")}).payload is None
    assert cloud.invoke(name, {"fill_mb": 600}).payload == "ENOSPC"


@needs_mounts
def test_what_a_function_needs_stays_visible(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """Code that lies in the machine's /tmp is found in a private one."""
    (tmp_path / "elsewhere.py").write_text("def handler(event, context): return __file__\n")
    cloud = own_cloud(private_tmp=True, python_path=(str(tmp_path),))
    name = cloud.deploy("echo")
    cloud.lambda_.update_function_configuration(FunctionName=name, Handler="elsewhere.handler")
    assert cloud.invoke(name).payload == str(tmp_path / "elsewhere.py")
