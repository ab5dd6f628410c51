"""Functions that are called inside the image, and what they find there."""

from __future__ import annotations


def writable_directories() -> tuple[list[str], int]:
    """Directories in which a file can be made, and the user's number."""
    import os
    import uuid
    from pathlib import Path

    found = []
    for directory in (
        "/",
        "/var/task",
        "/opt/python",
        "/etc",
        "/usr",
        "/var",
        "/var/tmp",
        "/dev",
        "/sys",
        "/tmp",
    ):
        path = Path(directory, uuid.uuid4().hex)
        try:
            path.touch()
            path.unlink()
            found.append(directory)
        except OSError:
            continue
    return found, os.getuid()


def fill_tmp(size_mb: int) -> str:
    """Try to make a file of a size in /tmp."""
    import errno
    import os
    from pathlib import Path

    path = Path("/tmp/large")
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size_mb << 20)
        except OSError as error:
            return errno.errorcode[error.errno]
        finally:
            path.unlink()
    return "written"


def take_memory(size_mb: int, step_mb: int) -> int:
    """Take memory and use it, a step at a time."""
    import time

    held = []
    for _ in range(0, size_mb, step_mb):
        held.append(b"x" * (step_mb << 20))
        time.sleep(0.01)
    return len(held)


def connect(addresses: list[tuple[str, int]]) -> tuple[list[str], list[str]]:
    """Try to connect to addresses; what came of it, and the network interfaces."""
    import socket

    said = []
    for address in addresses:
        try:
            socket.create_connection(address, 5).close()
            said.append("connected")
        except OSError as error:
            said.append(error.strerror or str(error))
    return said, [name for _, name in socket.if_nameindex()]


def random_bytes(count: int) -> bytes:
    """The same bytes everywhere, which cannot be compressed."""
    import random

    return random.Random(1).randbytes(4) + random.Random(2).randbytes(count - 4)


def sleep(seconds: float) -> None:
    """Be busy."""
    import time

    time.sleep(seconds)


def crash() -> None:
    """Read where nothing is."""
    import ctypes

    ctypes.string_at(0)
