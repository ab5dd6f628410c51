"""Certificates of an authority of our own, for servers of the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certify(directory: Path) -> None:
    """Make an authority, ``authority.pem``, and a certificate of it for this machine, ``host.pem``."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "authority.pem", "-subj", "/CN=Tests")
    openssl("req", *new, "-keyout", "host.key", "-out", "host.csr", "-subj", "/CN=localhost")
    (directory / "names").write_text("subjectAltName=DNS:localhost\n")
    by = ("-CA", "authority.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "host.csr", *by, "-out", "host.pem")
