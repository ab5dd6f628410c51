"""The user's headers, libraries and files, unpacked where the graph runs."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping
from multiprocessing.util import Finalize
from pathlib import Path

import ROOT

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import CompilationError, UserCodeError
from dask_root_lambda.protocol.task import Attachment
from lambda_runtime import IN_FUNCTION, diagnostics
from lambda_runtime.once import once

FILES_VARIABLE = "DASK_ROOT_LAMBDA_FILES"
"""Environment variable that names the directory where ``DistributeFiles`` put the user's files: one for the
process, whose ranges run at the same time and have one environment."""


_in_this_process: dict[str, str] = {}
"""Headers and libraries that are in this process, by name -> digest of their content."""
_unpacked: dict[str, str] = {}
"""What is in this process's directory, by name -> digest of its content."""
_unpacking = threading.Lock()


def note(attachments: Iterable[Attachment]) -> None:
    """Note headers and libraries that have been taken into this process, the first of each name."""
    for name, digest in _code(attachments).items():
        _in_this_process.setdefault(name, digest)


def check(attachments: Iterable[Attachment]) -> None:
    """Raise `UserCodeError` where this process has another header or library of the same name.

    Neither can be taken out of a process again: the old code would run, without a word.
    """
    _compare(_code(attachments), _in_this_process)


def _compare(brought: Mapping[str, str], here: Mapping[str, str]) -> None:
    for name, digest in brought.items():
        if here.get(name, digest) != digest:
            raise UserCodeError(
                f"{name} has changed, and this process has its old content, which cannot be taken out of it: "
                "start it anew (the kernel, the script or Dask's workers), or give the file another name"
            )


def _code(attachments: Iterable[Attachment]) -> dict[str, str]:
    return _digests(each for each in attachments if each.kind in ("header", "library"))


def _digests(attachments: Iterable[Attachment]) -> dict[str, str]:
    return {each.name: wire.digest(each.content) for each in attachments}


def unpack(attachments: Iterable[Attachment]) -> Path | None:
    """Write the attachments into this process's directory, declare the headers and load the libraries, once.

    In the function, the directory becomes the current one: files are found by their plain names.

    Returns
    -------
    Path or None
        The directory, also in the environment variable `FILES_VARIABLE`; None if there is nothing.

    Raises
    ------
    CompilationError
        A header does not compile.
    UserCodeError
        A library does not load, or this process has another header, library or file of that name.
    """
    kept = list(attachments)
    if not kept:
        return None
    with _unpacking:
        check(kept)
        _compare(_digests(kept), _unpacked)
        directory = _directory()
        new = [each for each in kept if each.name not in _unpacked]
        _unpack(new, directory)
        _unpacked.update(_digests(new))
        note(new)
        return directory


@once
def _directory() -> Path:
    """Make this process's directory."""
    directory = Path(tempfile.mkdtemp(prefix="dask-root-lambda-"))
    # At the end of this process, not of its forks; Dask's workers end without what atexit knows.
    Finalize(None, shutil.rmtree, (directory, True), exitpriority=0)
    os.environ[FILES_VARIABLE] = str(directory)
    if IN_FUNCTION:
        os.chdir(directory)
    ROOT.gInterpreter.AddIncludePath(f"-I{directory}")
    return directory


def _unpack(new: list[Attachment], directory: Path) -> None:
    for attachment in new:
        (directory / attachment.name).write_bytes(attachment.content)
    for attachment in new:
        if attachment.kind == "library":
            _load_library(directory / attachment.name)
    for attachment in new:
        if attachment.kind == "header":
            _include(attachment.name)


def _include(name: str) -> None:
    with diagnostics.record() as reported:
        declared = ROOT.gInterpreter.Declare(f'#include "{name}"')
    if not declared:
        raise CompilationError(
            f"the header {name} does not compile where the graph runs", diagnostics=reported.text
        )


def _load_library(path: Path) -> None:
    with diagnostics.record() as reported:
        status = ROOT.gSystem.Load(str(path))
    if status < 0:
        raise UserCodeError(
            f"the library {path.name} does not load where the graph runs: build it for that platform, "
            f"against ROOT {ROOT.__version__}",
            diagnostics=reported.text,
        )
