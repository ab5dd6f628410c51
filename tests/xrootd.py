"""A real XRootD server on loopback, for the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest


@contextlib.contextmanager
def serving(settings: str = "", owned: Sequence[Path] = ()) -> Iterator[tuple[Path, str]]:
    """Serve a directory while in this context: that directory, and its URL.

    Parameters
    ----------
    settings
        Further lines of the server's configuration.
    owned
        Files that only the server's user may read.
    """
    binary = shutil.which("xrootd")
    if binary is None:
        pytest.skip("needs an XRootD server: apt-get install xrootd-server")
    # Not below pytest's directory, which every pytest of this user closes to all others when it starts.
    with tempfile.TemporaryDirectory(prefix="xrootd-") as directory:
        yield from _serve(binary, Path(directory), settings, owned)


def _serve(binary: str, root: Path, settings: str, owned: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    data, admin = root / "data", root / "admin"
    data.mkdir()
    admin.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = root / "xrootd.cfg"
    config.write_text(
        f"xrd.port {port}\nall.export / \noss.localroot {data}\nall.adminpath {admin}\nall.pidpath {admin}\n"
        f"xrd.network nodnr\n{settings}"
    )
    user = []
    if os.geteuid() == 0:
        # The server refuses to run as root.
        for path in (root, data, admin, *owned):
            shutil.chown(path, "nobody")
        user = ["-R", "nobody"]
    log = root / "xrootd.log"
    process = _started([binary, "-c", str(config), "-l", str(log), *user], admin, port, log)
    try:
        # ROOT takes a path on 127.0.0.1 for a file of this machine, and would not ask the server.
        yield data, f"root://127.0.0.2:{port}/"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def _started(command: Sequence[str], folder: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start the server, again where it crashes: now and then a thread of it reads what another changes."""
    for _ in range(3):
        process = subprocess.Popen(command, cwd=folder)
        try:
            if _answers(port, process):
                return process
        except BaseException:  # also of Ctrl-C: nothing else knows the process
            process.kill()
            process.wait(20)
            raise
        if process.returncode > 0:
            break
    raise RuntimeError(
        f"xrootd ended ({process.returncode}): {log.read_text()[-2000:] if log.exists() else ''}"
    )


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server answers, or has ended."""
    deadline = time.monotonic() + 30
    while process.poll() is None:
        with socket.socket() as attempt:
            attempt.settimeout(1)
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return True
        if time.monotonic() > deadline:
            raise TimeoutError("xrootd does not answer")
        time.sleep(0.1)
    return False
