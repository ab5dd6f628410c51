"""Files over ``root://``, through ROOT."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ROOT

from dask_root_lambda.protocol.errors import InputError, UnavailableInputError
from lambda_runtime import diagnostics, storage, storage_token
from lambda_runtime import xrootd as client
from lambda_runtime.copying.content import Content

# Files are opened and read in threads.
ROOT.EnableThreadSafety()

# ROOT gives XRootD its limits with the first file that is opened, and folders are asked for before.
for _name in client.LIMITS:
    os.environ.setdefault(f"XRD_{_name.upper()}", str(ROOT.gEnv.GetValue(f"NetXNG.{_name}", 0)))


def look(url: str) -> Content:
    """Ask a file's server for its size and its last change."""
    try:
        file = _open(url)
    except InputError:
        if _is_folder(url):
            raise InputError(f"cannot copy {url}: it is a folder; end its name with a slash") from None
        raise
    size = int(file.GetSize())
    file.Close()
    status = _status(url)
    mtime_s = int(status.fMtime) if status is not None else 0
    return Content(url, size, str(mtime_s), mtime_s * 1_000_000_000)


@contextmanager
def opened(url: str) -> Iterator[Callable[[int, int], bytes]]:
    """Open a file; yield what reads a part of it."""
    file = _open(url)
    try:
        yield lambda offset, size: _read(file, url, offset, size)
    finally:
        file.Close()


def names_in(folder: str) -> Iterator[tuple[str, bool]]:
    """Yield the names in a folder, whose own ends in a slash, and whether each is a folder.

    Raises
    ------
    InputError
        It cannot be listed.
    """
    base, question, query = folder.partition("?")
    client.prepare(folder)
    with diagnostics.record(quiet=True) as reported:
        names = list(_entries(folder))
    if reported.text:
        said = reported.text.strip().partition("\n")[0]
        raise InputError(
            f"cannot list {folder}: check the host and the path, and whether it needs a token or a proxy. "
            f"{said}"
        )
    for name in names:
        yield name, _is_folder(f"{base}{name}{question}{query}")


def _entries(folder: str) -> Iterator[str]:
    system = ROOT.gSystem
    handle = system.OpenDirectory(folder)
    try:
        while handle and (name := system.GetDirEntry(handle)):
            if str(name) not in (".", ".."):
                yield str(name)
    finally:
        system.FreeDirectory(handle)


def _is_folder(url: str) -> bool:
    status = _status(url)
    return status is not None and bool(ROOT.R_ISDIR(status.fMode))


def _status(url: str) -> Any:
    """Ask a server what it knows of a file or folder; None if it has none.

    Each call has what it needs for itself, as `storage` says of names: a server far away is asked in threads.
    """
    name = ctypes.c_char_p(url.encode())
    status = ROOT.FileStat_t()
    ask = ROOT.TNetXNGSystem(name, False).GetPathInfo
    ask.__release_gil__ = True
    with diagnostics.record(quiet=True):
        return None if ask(name, status) else status


def _open(url: str) -> Any:
    file = storage.open_raw(url)
    # Another file is read, or this one written, meanwhile.
    type(file).ReadBuffer.__release_gil__ = True
    return file


def _read(file: Any, url: str, offset: int, size: int) -> bytes:
    block = ctypes.create_string_buffer(size)
    with diagnostics.record() as reported:
        failed = file.ReadBuffer(block, offset, size)
    if failed:
        said = reported.text.strip().partition("\n")[0]
        expired = storage_token.expired()
        raise UnavailableInputError(
            f"cannot read {url} at byte {offset:,}: {f'{expired}. ' if expired else ''}{said}"
        )
    return block.raw
