"""Files of the dataset, as this process sees them."""

from __future__ import annotations

import ctypes
import os
from dataclasses import replace

import ROOT

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from lambda_runtime import diagnostics
from lambda_runtime.remote import names, objects
from lambda_runtime.storage_token import token

# A server may be slow to answer: other threads, and Ctrl-C, go on meanwhile.
ROOT.TFile._OriginalOpen.__release_gil__ = True

_REMOTE = "Path.ForceRemote"
"""ROOT's setting that a URL of a server is never a path of this machine."""
_XROOTD_LIMITS = {"ConnectionWindow": 5, "ConnectionRetry": 2, "RequestTimeout": 300}
"""Limits of the XRootD client in seconds and tries, where the user has set none. Its own would have a host
that does not answer hold a range for many minutes."""

# ROOT would ask the DNS for the server, and for this machine, whenever it opens a file: were they the same,
# it would open the path on this machine instead.
if not ROOT.gEnv.Defined(_REMOTE):
    ROOT.gEnv.SetValue(_REMOTE, 1)

for _name, _limit in _XROOTD_LIMITS.items():
    if f"XRD_{_name.upper()}" not in os.environ and not ROOT.gEnv.Defined(f"NetXNG.{_name}"):
        ROOT.gEnv.SetValue(f"NetXNG.{_name}", _limit)


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
    return replace(_identify_remote(url), mtime_ns=_mtime_ns(url))


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
    return InputError(
        f"cannot open {url}: check the host and the path, and whether the data needs a token or a proxy. "
        f"{f'{token.problem}. ' if token.problem else ''}{said}".rstrip()
    )


def _mtime_ns(url: str) -> int:
    """Ask a remote file's server when it was last changed, to the second; 0 where it does not tell."""
    status = ROOT.FileStat_t()
    with diagnostics.record():
        unknown = ROOT.gSystem.GetPathInfo(url, status)
    return 0 if unknown else int(status.fMtime) * 1_000_000_000


def _identify_remote(url: str) -> FileIdentity:
    # A raw file has no directory to read: one request for its size, one for its first bytes.
    try:
        with diagnostics.record() as reported:
            raw = ROOT.TFile.Open(f"{url}{'&' if '?' in url else '?'}filetype=raw", "READ")
    except OSError:
        raise unreadable(url, reported.text) from None
    try:
        size = int(raw.GetSize())
        header = ctypes.create_string_buffer(min(size, rootfile.HEADER_BYTES))
        if raw.ReadBuffer(header, 0, len(header)):
            raise InputError(f"cannot read {url}: it opens, with {size:,} bytes, but the first do not come")
        return rootfile.identify(url, header.raw, size)
    finally:
        raw.Close()
