"""Files of the dataset, as this process sees them."""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import replace
from typing import Any

import ROOT

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import InputError, UnavailableInputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from lambda_runtime import diagnostics, storage_token, xrootd
from lambda_runtime.once import alone_at_first
from lambda_runtime.remote import names, objects
from lambda_runtime.storage_token import token


def _releasing(opened: Any) -> Any:
    """Let other threads, and Ctrl-C, go on while a server is slow to answer.

    PyROOT copies a Python string into one place for all calls of a function, where a call of another thread
    would replace it: what each call gets is a C string of its own.
    """
    opened.__release_gil__ = True

    @functools.wraps(opened)
    def open_file(*args: Any) -> Any:
        url = args[0] if args and isinstance(args[0], str) else ""
        own = (ctypes.c_char_p(os.fsencode(arg)) if isinstance(arg, str) else arg for arg in args)
        if not names.is_xrootd(url):
            return opened(*own)
        xrootd.prepare(url)
        with alone_at_first("opening a file over XRootD"):
            return opened(*own)

    return staticmethod(open_file)


ROOT.TFile._OriginalOpen = _releasing(ROOT.TFile._OriginalOpen)


def identify(url: str) -> FileIdentity:
    """Read what identifies the content of a file, local or remote.

    Raises
    ------
    InputError
        Missing, unreachable, truncated, or not a ROOT file.
    """
    path = rootfile.local_path(url)
    if path is not None:
        return rootfile.identify_local(path)
    if names.is_remote(url):
        return objects.identify(url)
    return replace(_identify_remote(url), mtime_ns=mtime_ns(url))


def compare(url: str, expected: FileIdentity) -> FileIdentity | None:
    """Return None if a file is the one that the client saw, else what identifies the one that is there.

    Replicas of a remote file differ in when they were last changed, so that is not asked.

    Raises
    ------
    InputError
        Missing, unreachable, truncated, or not a ROOT file.
    """
    if names.is_remote(url):
        return objects.compare(url, expected)
    path = rootfile.local_path(url)
    if path is None:
        found, expected = _identify_remote(url), replace(expected, mtime_ns=0)
    else:
        found = rootfile.identify_local(path)
    return None if found == expected else found


def unreadable(url: str, reported: str) -> InputError:
    """Make the error of a remote file that cannot be opened, of what ROOT reported."""
    said = reported.strip().partition("\n")[0]
    expired = storage_token.expired()
    problem = token.problem or expired
    # A function that is tried again looks for a new token first.
    kind = UnavailableInputError if expired and storage_token.is_from_secret() else InputError
    return kind(
        f"cannot open {url}: check the host and the path, and whether the data needs a token or a proxy. "
        f"{f'{problem}. ' if problem else ''}{said}".rstrip()
    )


def mtime_ns(url: str) -> int:
    """Ask the server of a remote file when it was last changed, to the second; 0 where it does not tell."""
    status = ROOT.FileStat_t()
    with diagnostics.record(), alone_at_first("asking for the state of a file over XRootD"):
        unknown = ROOT.gSystem.GetPathInfo(url, status)
    return 0 if unknown else int(status.fMtime) * 1_000_000_000


def open_raw(url: str) -> Any:
    """Open a remote file without looking into it: its size and its bytes can be asked for.

    Raises
    ------
    InputError
        Missing or unreachable.
    """
    xrootd.prepare(url)
    try:
        with diagnostics.record() as reported:
            return ROOT.TFile.Open(f"{url}{'&' if '?' in url else '?'}filetype=raw", "READ")
    except OSError:
        raise unreadable(url, reported.text) from None


def _identify_remote(url: str) -> FileIdentity:
    # A raw file has no directory to read: one request for its size, one for its first bytes.
    raw = open_raw(url)
    try:
        size = int(raw.GetSize())
        header = ctypes.create_string_buffer(min(size, rootfile.HEADER_BYTES))
        if raw.ReadBuffer(header, 0, len(header)):
            raise InputError(f"cannot read {url}: it opens, with {size:,} bytes, but the first do not come")
        return rootfile.identify(url, header.raw, size)
    finally:
        raw.Close()
