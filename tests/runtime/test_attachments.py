"""The user's files, where ranges run."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys

import pytest

_CODE = """
import os
from dask_root_lambda.protocol.task import Attachment
from lambda_runtime import attachments

directory = attachments.unpack([Attachment("weights.txt", "file", b"2.5")])
assert (directory / "weights.txt").read_bytes() == b"2.5"
if os.fork() == 0:
    raise SystemExit  # which takes nothing from its parent
os.wait()
assert directory.is_dir()
"""


def _unpack() -> None:
    exec(_CODE)


@pytest.mark.parametrize("how", ["program", "worker"])
def test_they_are_gone_when_the_process_ends(tmp_path, monkeypatch, how):
    """Neither a program nor a process of multiprocessing, as Dask's workers are, leaves its directory."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if how == "program":
        subprocess.run([sys.executable, "-c", _CODE], check=True, timeout=60)
    else:
        process = multiprocessing.get_context("spawn").Process(target=_unpack)
        process.start()
        process.join(60)
        assert process.exitcode == 0
    assert list(tmp_path.glob("dask-root-lambda*")) == []


_SHARED = """
import os
from dask_root_lambda.protocol.errors import UserCodeError
from dask_root_lambda.protocol.task import Attachment
from lambda_runtime import attachments

def unpack(**contents):
    return attachments.unpack([Attachment(f"{name}.txt", "file", text) for name, text in contents.items()])

directory = unpack(one=b"1")
assert unpack(one=b"1", two=b"2") == directory
assert os.environ[attachments.FILES_VARIABLE] == str(directory)
try:
    unpack(three=b"3", one=b"other")
except UserCodeError as error:
    assert "one.txt has changed" in str(error)
else:
    raise AssertionError("one of two contents is lost")
assert sorted(path.name for path in directory.iterdir()) == ["one.txt", "two.txt"]
assert (directory / "one.txt").read_bytes() == b"1"
"""


def test_files_of_several_mappers_in_one_process():
    """A process that is not ours to fork, such as Dask's workers, has one directory, and one file of a name.

    Its ranges run at the same time and have one environment: another content is an error, never a swap.
    """
    subprocess.run([sys.executable, "-c", _SHARED], check=True, timeout=60)
