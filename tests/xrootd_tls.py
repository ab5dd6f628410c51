"""An XRootD server with a certificate of an authority of its own, which asks for a token."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import xrootd
from tests.certificates import certify

# What an XRootD server asks whether a token is good; that of the grid would ask its issuer.
_CHECK = r"""
#include <cstring>
#include <string>
#include <utility>
#include <vector>
class XrdSecEntity;
struct XrdSciTokensHelper {
   struct ValidIssuer { std::string fName, fUrl; };
   virtual std::vector<ValidIssuer> IssuerList() = 0;
   virtual bool Validate(const char *token, std::string &why, long long *end, XrdSecEntity *entity) = 0;
   virtual ~XrdSciTokensHelper() {}
};
struct Check : XrdSciTokensHelper {
   std::vector<ValidIssuer> IssuerList() override { return {}; }
   bool Validate(const char *token, std::string &why, long long *end, XrdSecEntity *) override
   {
      if (end)
         *end = -1;
      why = "token is not the one that is good";
      return !std::strcmp(token, GOOD);
   }
} gCheck;
extern "C" {
XrdSciTokensHelper *SciTokensHelper = &gCheck;
void *XrdAccAuthorizeObject = nullptr;
}
"""


@dataclass(frozen=True)
class Secure:
    """What there is of the server."""

    data: Path
    """What it serves."""
    url: str
    authority: Path
    """The certificate of its authority."""
    good: Path
    """The token that it takes."""
    expired: Path
    """One that it does not take any more."""


@contextlib.contextmanager
def serving(directory: Path, *, asks: bool) -> Iterator[Secure]:
    """Serve while in this context; ``asks`` says whether the server wants a token."""
    if shutil.which("xrootd") is None:
        pytest.skip("needs an XRootD server: apt-get install xrootd-server")
    certify(directory)
    now_s = int(time.time())
    for name, end_s in (("good", now_s + 3600), ("expired", now_s - 3600)):
        (directory / name).write_text(token(end_s))
        (directory / name).chmod(0o600)
    settings = (
        f"xrd.tls {directory}/host.pem {directory}/host.key\nxrd.tlsca certfile {directory}/authority.pem\n"
        "xrootd.tls capable all\n"
    )
    if asks:
        _make_check(directory)
        settings += (
            f"xrootd.seclib libXrdSec.so\nsec.protocol ztn -expiry ignore -tokenlib {directory}/check.so\n"
        )
    with xrootd.serving(settings, owned=[directory / "host.key"]) as (data, url):
        port = url.rstrip("/").rpartition(":")[2]
        yield Secure(
            data,
            f"roots://localhost:{port}/",
            directory / "authority.pem",
            directory / "good",
            directory / "expired",
        )


def _make_check(directory: Path) -> None:
    source = f'#define GOOD "{(directory / "good").read_text()}"\n{_CHECK}'
    compiler = ["c++", "-shared", "-fPIC", "-o", "check.so", "-x", "c++", "-"]
    subprocess.run(compiler, cwd=directory, input=source, text=True, check=True)


def token(end_s: int) -> str:
    parts = ({"alg": "RS256", "typ": "JWT"}, {"iss": "https://issuer", "sub": "somebody", "exp": end_s})
    written = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join((*written, "c2lnbmF0dXJl"))


class Relay:
    """What stands before a server, and breaks the connections to it."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"roots://localhost:{self._listening.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break the connections that there are; new ones are passed on."""
        while self._open:
            with contextlib.suppress(OSError), self._open.pop() as connection:
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Pass on nothing more."""
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
