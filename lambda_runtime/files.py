"""Files of the dataset, as this process sees them."""

from __future__ import annotations

import os

import ROOT

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.protocol.rootfile import FileIdentity

_XROOTD_LIMITS = {"ConnectionWindow": 10, "ConnectionRetry": 2, "RequestTimeout": 300}
"""Limits of the XRootD client in seconds and tries, where the user has set none. Its own would have a host
that does not answer hold a range for many minutes."""

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
    return _identify_remote(url) if path is None else rootfile.identify_local(path)


def _identify_remote(url: str) -> FileIdentity:
    # A raw file has no directory to read: one request for its size, one for its first bytes.
    raw = ROOT.TFile.Open(url + ("&" if "?" in url else "?") + "filetype=raw", "READ")
    if not raw or raw.IsZombie():
        raise InputError(
            f"cannot open {url}: check the host and the path, and whether the data needs a token or proxy"
        )
    try:
        size = int(raw.GetSize())
        header = bytearray(min(size, rootfile.HEADER_BYTES))
        if raw.ReadBuffer(header, 0, len(header)):
            raise InputError(
                f"cannot read {url}: opened, {size:,} bytes, but its first {len(header)} do not come"
            )
        return rootfile.identify(url, bytes(header), size)
    finally:
        raw.Close()
