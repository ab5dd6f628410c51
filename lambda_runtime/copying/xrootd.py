"""Files over ``root://``, through ROOT."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ROOT

from dask_root_lambda.protocol.errors import InputError, UnavailableInputError
from lambda_runtime import (
    diagnostics,
    storage,  # noqa: F401  (it limits how long XRootD waits)
)
from lambda_runtime.copying.content import Content
from lambda_runtime.storage_token import token

# Files are opened and read in threads.
ROOT.EnableThreadSafety()


def look(url: str) -> Content:
    """Ask a file's server for its size and its last change."""
    status = ROOT.FileStat_t()
    with diagnostics.record():
        missing = ROOT.gSystem.GetPathInfo(url, status)
    if missing:
        # Opening it tells why.
        _open(url).Close()
        raise InputError(f"cannot read {url}: its server does not describe it")
    if ROOT.R_ISDIR(status.fMode):
        raise InputError(f"cannot copy {url}: it is a folder; end its name with a slash")
    mtime_s = int(status.fMtime)
    return Content(url, int(status.fSize), str(mtime_s), mtime_s * 1_000_000_000)


@contextmanager
def opened(url: str) -> Iterator[Callable[[int, int], bytes]]:
    """Open a file; yield what reads a part of it."""
    file = _open(url)
    try:
        yield lambda offset, size: _read(file, url, offset, size)
    finally:
        file.Close()


def names_in(folder: str) -> Iterator[tuple[str, bool]]:
    """Yield the names in a folder, whose own ends in a slash, and whether each is a folder."""
    base, _, query = folder.partition("?")
    system = ROOT.gSystem
    with diagnostics.record():
        handle = system.OpenDirectory(folder)
    if not handle:
        raise InputError(f"cannot list {folder}: check the host and the path, and whether it needs a token")
    try:
        while name := system.GetDirEntry(handle):
            if str(name) in (".", ".."):
                continue
            child = f"{base}{name}{'?' if query else ''}{query}"
            # ROOT adds to what a status says already.
            status = ROOT.FileStat_t()
            unknown = system.GetPathInfo(child, status)
            yield str(name), not unknown and bool(ROOT.R_ISDIR(status.fMode))
    finally:
        system.FreeDirectory(handle)


def _open(url: str) -> Any:
    try:
        with diagnostics.record() as reported:
            file = ROOT.TFile.Open(f"{url}{'&' if '?' in url else '?'}filetype=raw", "READ")
    except OSError:
        problem = token.problem
        said = reported.text.strip().partition("\n")[0]
        raise InputError(
            f"cannot open {url}: check the host and the path, and whether the data needs a token or a proxy. "
            f"{f'{problem}. ' if problem else ''}{said}".rstrip()
        ) from None
    # Another file is read, or this one written, meanwhile.
    type(file).ReadBuffer.__release_gil__ = True
    return file


def _read(file: Any, url: str, offset: int, size: int) -> bytes:
    block = ctypes.create_string_buffer(size)
    with diagnostics.record() as reported:
        failed = file.ReadBuffer(block, offset, size)
    if failed:
        said = reported.text.strip().partition("\n")[0]
        raise UnavailableInputError(f"cannot read {url} at byte {offset:,}: {said}")
    return block.raw
