"""The XRootD client of this process: its limits, and how it recognises servers."""

from __future__ import annotations

import os
import re

import ROOT

from dask_root_lambda.protocol.errors import ConfigurationError
from lambda_runtime import certificates
from lambda_runtime.once import once

LIMITS = {"ConnectionWindow": 5, "ConnectionRetry": 2, "RequestTimeout": 300}
"""Limits of the XRootD client in seconds and tries, where the user has set none. Its own would have a host
that does not answer hold a range for many minutes."""
_REMOTE = "Path.ForceRemote"
"""ROOT's setting that a URL of a server is never a path of this machine."""
_SECURE = re.compile(r"x?roots://")

for _name, _limit in LIMITS.items():
    if f"XRD_{_name.upper()}" not in os.environ and not ROOT.gEnv.Defined(f"NetXNG.{_name}"):
        ROOT.gEnv.SetValue(f"NetXNG.{_name}", _limit)

# ROOT would ask the DNS for the server, and for this machine, whenever it opens a file: were they the same,
# it would open the path on this machine instead.
if not ROOT.gEnv.Defined(_REMOTE):
    ROOT.gEnv.SetValue(_REMOTE, 1)

# The client looks at them once, when it connects first.
certificates.name(os.environ)


def prepare(url: str) -> None:
    """Let ROOT open a file that is named with ``roots://``; other names need nothing.

    Raises
    ------
    ConfigurationError
        No server could be recognised: the client would read without TLS.
    """
    if _SECURE.match(url):
        problem = certificates.problem(os.environ)
        if problem:
            raise ConfigurationError(
                f"{url} cannot be read: {problem}, and the server would not be recognised. Install "
                f"ca-certificates, or name those of your authority with {certificates.FILE_VARIABLE}, or "
                f"{certificates.DIRECTORY_VARIABLE}"
            )
        _register()


@once
def _register() -> None:
    """Open ``roots://`` with XRootD: ROOT's own plugin for it speaks a protocol of the nineties."""
    plugins = ROOT.gPluginMgr
    file = "TNetXNGFile(const char*,Option_t*,const char*,Int_t,Int_t,Bool_t)"
    for base, name, constructor in (
        ("TFile", "TNetXNGFile", file),
        ("TSystem", "TNetXNGSystem", "TNetXNGSystem(const char*,Bool_t)"),
    ):
        plugins.FindHandler(base, "roots://")  # loads ROOT's own, which would take the place of ours
        for scheme in ("^roots:", "^xroots:"):
            plugins.AddHandler(base, scheme, name, "NetxNG", constructor)
