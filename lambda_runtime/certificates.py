"""Certificates of authorities, for the XRootD client.

It looks in the grid's directory, and the OpenSSL in ROOT's wheel in none that Debian has. Where neither the
grid's is there nor the user names any, it is given those of the system.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path

DIRECTORY_VARIABLE = "X509_CERT_DIR"
FILE_VARIABLE = "X509_CERT_FILE"
"""Which the XRootD client reads: a directory as OpenSSL hashes it, or a file of many certificates."""

GRID = "/etc/grid-security/certificates"
"""Where it looks by itself."""
_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""Certificates of Debian and of Red Hat."""


def name(environment: MutableMapping[str, str], grid: str = GRID, files: Iterable[str] = _FILES) -> None:
    """Name certificates in a process's environment, where neither the user did nor the grid's are there.

    Parameters
    ----------
    environment
        The variables.
    grid, files
        Where certificates may be.
    """
    if DIRECTORY_VARIABLE in environment or FILE_VARIABLE in environment or Path(grid).is_dir():
        return
    for file in (environment.get("SSL_CERT_FILE", ""), *files):
        if Path(file).is_file():
            environment[FILE_VARIABLE] = file
            return


def problem(environment: Mapping[str, str], grid: str = GRID) -> str:
    """Return why no server can be recognised by the certificates that are named; empty if one can.

    The XRootD client then goes on without TLS, also where ``roots://`` asks for it.
    """
    file, directory = environment.get(FILE_VARIABLE), environment.get(DIRECTORY_VARIABLE, grid)
    if file is None:
        return "" if Path(directory).is_dir() else f"there is no directory {directory}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (OSError, ssl.SSLError) as error:
        return f"{file} holds no certificates ({error})"
    return ""
