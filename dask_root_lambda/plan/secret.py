"""A secret of the user's: it names runs and seals their partial results.

It stays in the state directory. Others see only what does not give it away: the names of runs, which differ
from user to user, and a key for each run, which its functions need.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

from dask_root_lambda import state_home
from dask_root_lambda.protocol.seal import KEY_BYTES

FILE = "secret"
"""Its name in the state directory."""

_BYTES = 32
_NAME_CHARACTERS = 24
"""96 bits: each request of a run names it twice."""


@dataclass(frozen=True)
class Secret:
    """A user's secret, or one of this process's where none can be kept."""

    value: bytes = field(repr=False)
    not_kept: str = ""
    """Why it is not kept, so that no later process knows what this one computed; empty if it is."""

    def run(self, identity: str) -> str:
        """Name the run of a graph on a dataset, by what identifies these."""
        return hmac.new(self.value, f"run {identity}".encode(), hashlib.sha256).hexdigest()[:_NAME_CHARACTERS]

    def key(self, run: str) -> bytes:
        """Return the key that seals the partial results of a run."""
        return hmac.new(self.value, f"key {run}".encode(), hashlib.sha256).digest()[:KEY_BYTES]

    @property
    def far_key(self) -> bytes:
        """The key that names and seals what is kept of far data, for all runs."""
        return hmac.new(self.value, b"far data", hashlib.sha256).digest()[:KEY_BYTES]


_reading = threading.Lock()
"""One that cannot be kept is made up, and must be the same in all threads."""


def of_user() -> Secret:
    """Return the user's secret, made the first time."""
    with _reading:
        return _read_or_make(state_home.home() / FILE)


@functools.cache
def _read_or_make(path: Path) -> Secret:
    try:
        _make(path)
        return Secret(_read(path))
    except (OSError, ValueError) as error:
        return Secret(secrets.token_bytes(_BYTES), str(error))


def _make(path: Path) -> None:
    """Write a new secret, unless there is one: it appears whole, and the first of two processes wins."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Nobody else can read what mkstemp makes.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        status, value = os.fstat(file.fileno()), file.read(_BYTES + 1)
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise ValueError(f"{path} is not this user's alone: remove it, and a new one is made")
    if len(value) != _BYTES:
        raise ValueError(f"{path} holds no secret: remove it, and a new one is made")
    return value
