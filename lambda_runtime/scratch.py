"""The directory that an environment has for itself in /tmp, and what earlier processes left there.

A process that was killed removes nothing, and Lambda may start the next one in the same sandbox, with the
same /tmp. On one machine, as in the emulator, several environments may share a /tmp: each holds a lock on
its directory, which ends with the last of its processes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "dask-root-lambda-environment-"
"""How the names of these directories begin, and of nothing else."""


def make() -> Path:
    """Make this environment's directory, after removing those that nobody holds any more."""
    temporary = Path(tempfile.gettempdir())
    for left in temporary.glob(f"{PREFIX}*"):
        _remove_if_left(left)
    # Made under another name: without its lock, others would take it for one that was left.
    directory = Path(tempfile.mkdtemp(prefix="dask-root-lambda-new-", dir=temporary))
    _lock(directory)
    return directory.rename(temporary / f"{PREFIX}{directory.name.rpartition('-')[2]}")


def used_bytes(directory: Path) -> int:
    """Return the size of all files below a directory."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())


def _remove_if_left(directory: Path) -> None:
    try:
        descriptor = _lock(directory)
    except OSError:  # somebody holds it, removes it, or it is not ours
        return
    shutil.rmtree(directory, ignore_errors=True)
    os.close(descriptor)


def _lock(directory: Path) -> int:
    """Lock a directory for as long as the descriptor is open, here or in a fork."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
