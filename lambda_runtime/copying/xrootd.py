"""Files over ``root://``, through ROOT."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ROOT

from dask_root_lambda.protocol.errors import InputError, StoreError, UnavailableInputError
from lambda_runtime import diagnostics, storage, storage_token
from lambda_runtime import xrootd as client
from lambda_runtime.copying.content import Content, Flow, without_options
from lambda_runtime.once import alone_at_first

_BLOCK_BYTES = 8 << 20

# Files are opened and read in threads.
ROOT.EnableThreadSafety()

# ROOT gives XRootD its limits with the first file that is opened, and folders are asked for before.
for _name in client.LIMITS:
    os.environ.setdefault(f"XRD_{_name.upper()}", str(ROOT.gEnv.GetValue(f"NetXNG.{_name}", 0)))


def look(url: str) -> Content:
    """Ask a file's server for its size and its last change."""
    with alone_at_first("looking at a file that is copied"):
        return _looked_at(url)


def _looked_at(url: str) -> Content:
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


def state(url: str) -> tuple[int, int] | None:
    """Ask for a file's size and the time of its last change, ns since the epoch; None if there is none."""
    client.prepare(url)
    status = _status(url)
    return None if status is None else (int(status.fSize), int(status.fMtime) * 1_000_000_000)


def is_folder(url: str) -> bool:
    """Tell whether a name is one of a folder that is there."""
    client.prepare(url)
    return _is_folder(url)


def write(flow: Flow, url: str, content: Content) -> int:
    """Write a file, with the folders above it; return when the server says that it was changed last, in ns.

    It has its name from the begin, and is removed where it cannot be completed; one that was there is
    replaced.

    Raises
    ------
    StoreError
        The server does not take it.
    """
    file = _created(url)
    complete = False
    try:
        while block := flow.read(_BLOCK_BYTES):
            with diagnostics.record() as reported, alone_at_first("writing a file over XRootD"):
                failed = file.WriteBuffer(ctypes.c_char_p(bytes(block)), len(block))
            if failed:
                raise _unwritten(url, reported.text)
        with diagnostics.record() as reported:
            file.Close()
        found = state(url)
        if found is None or found[0] != content.size:
            raise _unwritten(
                url, reported.text or f"{found and found[0]} of {content.size:,} bytes are there"
            )
        complete = True
        return found[1]
    finally:
        if not complete:
            _remove(file, url)


def _created(url: str) -> Any:
    with diagnostics.record() as reported:
        try:
            file = ROOT.TFile.Open(f"{url}{'&' if '?' in url else '?'}filetype=raw", "RECREATE")
        except OSError:
            raise _unwritten(url, reported.text) from None
    for method in (type(file).WriteBuffer, type(file).Close):
        method.__release_gil__ = True
    return file


def _remove(file: Any, url: str) -> None:
    with diagnostics.record(quiet=True):
        file.Close()
        ROOT.TNetXNGSystem(ctypes.c_char_p(url.encode()), False).Unlink(ctypes.c_char_p(url.encode()))


def _unwritten(url: str, reported: str) -> StoreError:
    said = reported.strip().partition("\n")[0]
    expired = storage_token.expired()
    return StoreError(
        f"cannot write {without_options(url)}: check the path, and whether you may write there, and need a "
        f"token for it. {f'{expired}. ' if expired else ''}{said}".rstrip()
    )


@contextmanager
def opened(url: str) -> Iterator[Callable[[int, int], bytearray]]:
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
    with diagnostics.record(quiet=True), alone_at_first("asking for the state of a file that is copied"):
        return None if ask(name, status) else status


def _open(url: str) -> Any:
    file = storage.open_raw(url)
    # Another file is read, or this one written, meanwhile.
    type(file).ReadBuffer.__release_gil__ = True
    return file


def _read(file: Any, url: str, offset: int, size: int) -> bytearray:
    # Of large blocks each copy counts: the kernel has the zeros of this one, and it is given away as it is.
    block = bytearray(size)
    place = (ctypes.c_char * size).from_buffer(block)
    with diagnostics.record() as reported, alone_at_first("reading a file that is copied"):
        failed = file.ReadBuffer(place, offset, size)
    if failed:
        said = reported.text.strip().partition("\n")[0]
        expired = storage_token.expired()
        raise UnavailableInputError(
            f"cannot read {url} at byte {offset:,}: {f'{expired}. ' if expired else ''}{said}"
        )
    return block
