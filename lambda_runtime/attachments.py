"""The user's headers, libraries and files, unpacked where the graph runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from multiprocessing.util import Finalize
from pathlib import Path

import ROOT

from dask_root_lambda.protocol.errors import CompilationError, UserCodeError
from dask_root_lambda.protocol.task import Attachment
from lambda_runtime import IN_FUNCTION, diagnostics

FILES_VARIABLE = "DASK_ROOT_LAMBDA_FILES"
"""Environment variable that names the directory where ``DistributeFiles`` put the user's files."""


def unpack(attachments: Iterable[Attachment]) -> Path | None:
    """Write the attachments into a directory, declare the headers and load the libraries.

    In the function, the directory becomes the current one: files are found by their plain names.

    Returns
    -------
    Path or None
        The directory, also in the environment variable `FILES_VARIABLE`; None if there is nothing.
    """
    kept = list(attachments)
    if not kept:
        return None
    directory = Path(tempfile.mkdtemp(prefix="dask-root-lambda-"))
    # At the end of this process, not of its forks; Dask's workers end without what atexit knows.
    Finalize(None, shutil.rmtree, (directory, True), exitpriority=0)
    for attachment in kept:
        (directory / attachment.name).write_bytes(attachment.content)
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
