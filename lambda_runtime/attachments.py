"""The user's headers, libraries and files, unpacked where the graph runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from multiprocessing.util import Finalize
from pathlib import Path

import ROOT

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import CompilationError, UserCodeError
from dask_root_lambda.protocol.task import Attachment
from lambda_runtime import IN_FUNCTION, diagnostics

FILES_VARIABLE = "DASK_ROOT_LAMBDA_FILES"
"""Environment variable that names the directory where ``DistributeFiles`` put the user's files."""


_in_this_process: dict[str, str] = {}
"""Headers and libraries that are in this process, by name -> digest of their content."""
_directories: dict[tuple[tuple[str, str], ...], Path] = {}
"""Where attachments have been unpacked, by their names and digests."""


def note(attachments: Iterable[Attachment]) -> None:
    """Note headers and libraries that have been taken into this process, the first of each name."""
    for name, digest in _code(attachments).items():
        _in_this_process.setdefault(name, digest)


def check(attachments: Iterable[Attachment]) -> None:
    """Raise `UserCodeError` where this process has another header or library of the same name.

    Neither can be taken out of a process again: the old code would run, without a word.
    """
    for name, digest in _code(attachments).items():
        if _in_this_process.get(name, digest) != digest:
            raise UserCodeError(
                f"{name} has changed, and this process has its old content, which cannot be taken out of it: "
                "start it anew (the kernel, the script or Dask's workers), or give the file another name"
            )


def _code(attachments: Iterable[Attachment]) -> dict[str, str]:
    return {
        each.name: wire.digest(each.content) for each in attachments if each.kind in ("header", "library")
    }


def unpack(attachments: Iterable[Attachment]) -> Path | None:
    """Write the attachments into a directory, declare the headers and load the libraries, once in a process.

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
        A library does not load, or this process has another header or library of that name.
    """
    kept = list(attachments)
    if not kept:
        return None
    contents = tuple((each.name, wire.digest(each.content)) for each in kept)
    if contents not in _directories:
        check(kept)
        _directories[contents] = _unpack(kept)
        note(kept)
    directory = _directories[contents]
    os.environ[FILES_VARIABLE] = str(directory)
    return directory


def _unpack(kept: list[Attachment]) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="dask-root-lambda-"))
    # At the end of this process, not of its forks; Dask's workers end without what atexit knows.
    Finalize(None, shutil.rmtree, (directory, True), exitpriority=0)
    for attachment in kept:
        (directory / attachment.name).write_bytes(attachment.content)
    # Headers' code may look there as soon as it is declared.
    os.environ[FILES_VARIABLE] = str(directory)
    if IN_FUNCTION:
        os.chdir(directory)
    ROOT.gInterpreter.AddIncludePath(f"-I{directory}")
    for attachment in kept:
        if attachment.kind == "library":
            _load_library(directory / attachment.name)
    for attachment in kept:
        if attachment.kind == "header":
            _include(attachment.name)
    return directory


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
