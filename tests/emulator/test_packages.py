"""Functions from zip archives: what is in them, and where they find it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dask_root_lambda.emulator.errors import InvalidParameterError
from dask_root_lambda.emulator.packages import PackageStore

from .clouds import Cloud, wait_until

pytestmark = pytest.mark.timeout(60)

OwnCloud = Callable[..., Cloud]

SOURCE = """
import os, subprocess, sys
from pathlib import Path
import beside

def handler(event, context):
    try:
        Path("written").write_text("x")
        read_only = False
    except OSError:
        read_only = True
    return {
        "data": Path("data.txt").read_text(),
        "root": os.environ["LAMBDA_TASK_ROOT"],
        "here": os.getcwd(),
        "file": __file__,
        "tool": subprocess.run(["./bin/tool"], capture_output=True, text=True).stdout,
        "beside": beside.WHO,
        "read_only": read_only,
    }
"""


def zipped(files: Mapping[str, str], *, executable: tuple[str, ...] = ()) -> bytes:
    """An archive as ``zip`` makes it on Unix, with the files' modes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100755 if name in executable else 0o100644) << 16
            opened.writestr(entry, text)
    return buffer.getvalue()


def code() -> bytes:
    files = {
        "main.py": SOURCE,
        "beside.py": "WHO = 'the archive'\n",
        "data.txt": "muons",
        "bin/tool": "#!/bin/sh\necho ran\n",
    }
    return zipped(files, executable=("bin/tool",))


def deploy(cloud: Cloud, **settings: Any) -> str:
    name = cloud.deploy("echo", MemorySize=256, Timeout=20, **settings)
    cloud.lambda_.update_function_configuration(FunctionName=name, Handler="main.handler")
    cloud.lambda_.update_function_code(FunctionName=name, ZipFile=code())
    return name


@pytest.mark.parametrize("kind", ["plain", "private", "snap-start"])
def test_a_function_finds_its_own_files(own_cloud: OwnCloud, tmp_path: Path, kind: str) -> None:
    """It starts in LAMBDA_TASK_ROOT, which has the archive's files and modes, and comes first on the path.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    (tmp_path / "beside.py").write_text("WHO = 'a directory of PYTHONPATH'\n")
    cloud = own_cloud(private_tmp=kind == "private")
    snap_start = {"ApplyOn": "PublishedVersions" if kind == "snap-start" else "None"}
    name = deploy(cloud, SnapStart=snap_start, Environment={"Variables": {"PYTHONPATH": str(tmp_path)}})
    qualifier = "$LATEST"
    if kind == "snap-start":
        qualifier = cloud.lambda_.publish_version(FunctionName=name)["Version"]
        cloud.lambda_.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=qualifier)
    answer = cloud.invoke(name, Qualifier=qualifier)
    assert answer.error is None, answer.payload
    found = answer.payload
    assert (found["data"], found["tool"], found["beside"]) == ("muons", "ran\n", "the archive")
    assert found["here"] == found["root"] == str(Path(found["file"]).parent)
    assert cloud.emulator is not None
    if cloud.emulator.state()["limited_tmp"]:
        assert found["read_only"]


def test_a_functions_python_path_is_kept(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """PYTHONPATH of the function adds to what there is, and takes nothing away."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "ours").mkdir()
    (tmp_path / "mine" / "only_mine.py").write_text("")
    (tmp_path / "ours" / "in_image.py").write_text("import only_mine\ndef handler(e, c): return 'both'\n")
    cloud = own_cloud(python_path=(str(tmp_path / "ours"),))
    variables = {"PYTHONPATH": str(tmp_path / "mine")}
    name = cloud.deploy("echo", Environment={"Variables": variables})
    cloud.lambda_.update_function_configuration(FunctionName=name, Handler="in_image.handler")
    assert cloud.invoke(name).payload == "both"


def test_code_goes_with_the_emulator(own_cloud: OwnCloud) -> None:
    """What was unpacked is gone after stop()."""
    cloud = own_cloud()
    root = Path(cloud.invoke(deploy(cloud)).payload["root"])
    assert root.is_dir()
    assert cloud.emulator is not None
    cloud.emulator.stop()
    wait_until(lambda: not root.exists())


def damaged(files: Mapping[str, str]) -> bytes:
    """An archive whose second file has another checksum than it says."""
    whole = bytearray(zipped(files))
    name = list(files)[1].encode()
    # The checksum stands 14 bytes into the local header and 16 into the directory's.
    whole[whole.rindex(name) - 46 + 16] ^= 1
    return bytes(whole)


@pytest.mark.parametrize("content", [damaged({"a.py": "", "b.py": "x" * 100}), b"no archive", b""])
def test_a_damaged_archive_is_refused_each_time(tmp_path: Path, content: bytes) -> None:
    """What was unpacked before the damage was met does not stand for the archive later."""
    store = PackageStore(tmp_path, lambda bucket, key: content)
    for _ in range(2):
        with pytest.raises(InvalidParameterError, match="Could not unzip"):
            store.read({"S3Bucket": "b", "S3Key": "k"}, "Zip")
    assert list(tmp_path.iterdir()) == []
