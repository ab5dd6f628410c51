"""What this user's machine remembers of runs that are not done: who computes them, and how they are divided.

Each run has a directory in the state directory. A session, which is one client at work on the run, has a file
there that its process keeps locked: the kernel unlocks it when the process ends, however it ends. What a
session has left whose file nobody locks, another may adopt, by locking the file. So no two take the same,
and nobody deletes what somebody still uses.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dask_root_lambda import state_home
from dask_root_lambda.plan.secret import Secret
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.protocol.intervals import Division, Interval
from dask_root_lambda.protocol.task import session as process

_DIVISION = "division.json"
_SESSION = ".session"
_PARTS = ".parts"
_KEPT_S = 30 * 86_400.0
"""Seconds after which a run that nobody touches is forgotten: what it has put into the store has expired."""
_PARTS_KEPT_S = 86_400.0
"""Seconds after which partial results on this machine are deleted."""


@dataclass(eq=False)
class _Held:
    """A session's file that this process keeps locked."""

    descriptor: int
    owner: str
    """The session that uses it: its own, or the one that has adopted it."""
    alive: Callable[[], bool]
    """Whether somebody is still at work on it."""


_lock = threading.Lock()
_held: dict[Path, _Held] = {}
_ended: Counter[str] = Counter()
"""How often each run has been done in this process: the next time it is another session."""
_swept: set[Path] = set()


def begin(secret: Secret, run: str, worker: str, alive: Callable[[], bool] = lambda: True) -> RunSpace:
    """Begin a run, or go on with it; return its space, with what ended sessions have left of it.

    Parameters
    ----------
    secret
        The user's.
    run
        Identity of the run.
    worker
        Tells those apart that may be at work on one run at once in this process: client and division.
    alive
        Whether they still are.
    """
    described = f"{process()} {worker} {_ended[run]}"
    name = hashlib.sha256(described.encode()).hexdigest()[:16]
    key, reason = secret.key(run), secret.not_kept
    adopted: tuple[str, ...] = ()
    is_new = False
    if not reason:
        try:
            adopted, is_new = _adopted(_directory(run), name, alive)
        except OSError as error:
            reason = f"{_directory(run)} cannot be used: {error}"
    return RunSpace(run, key, name, adopted, reason, process() if is_new and not adopted else "")


def end(space: RunSpace) -> None:
    """Forget a run that is done: its sessions, and with the last of them its division."""
    directory = _directory(space.run)
    with _lock:
        _ended[space.run] += 1
        for session in (space.session, *space.adopted):
            path = directory / f"{session}{_SESSION}"
            held = _held.pop(path, None)
            if held is not None:
                file(space.run, session).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                os.close(held.descriptor)
        if not any(directory.glob(f"*{_SESSION}")):
            shutil.rmtree(directory, ignore_errors=True)


def division(secret: Secret, run: str, decide: Callable[[], Division]) -> Division:
    """Return how a run is divided: as it was when it was first tried, else as is decided now."""
    known = decided(secret, run)
    if known is not None:
        return known
    decision = decide()
    if secret.not_kept:
        return decision
    path = _directory(run) / _DIVISION
    with contextlib.suppress(OSError, ValueError):
        _write_new(path, decision)
        # Another process may have decided first.
        return _read(path)
    return decision


def decided(secret: Secret, run: str) -> Division | None:
    """Return how a run was divided when it was first tried; None if it was not, or nobody knows."""
    if not secret.not_kept:
        with contextlib.suppress(OSError, ValueError):
            return _read(_directory(run) / _DIVISION)
    return None


def file(run: str, session: str) -> Path:
    """Return the file of a session's partial results on this machine."""
    return _directory(run) / f"{session}{_PARTS}"


def _directory(run: str) -> Path:
    return state_home.home() / "runs" / run


def _adopted(directory: Path, name: str, alive: Callable[[], bool]) -> tuple[tuple[str, ...], bool]:
    """Lock a session's file, and those of ended sessions; return these, and whether the first is new."""
    with _lock:
        _release_others(directory)
        _sweep(directory.parent)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        own = directory / f"{name}{_SESSION}"
        is_new = not own.exists()
        for path in {own, *directory.glob(f"*{_SESSION}")}:
            held = _held.get(path)
            if held is not None and not held.alive():
                held.owner, held.alive = name, alive
            elif held is None and (descriptor := _locked(path)) is not None:
                _held[path] = _Held(descriptor, name, alive)
        used = [path for path, held in _held.items() if held.owner == name and path.parent == directory]
        return tuple(sorted(path.name.removesuffix(_SESSION) for path in used if path != own)), is_new


def _release_others(directory: Path) -> None:
    """Unlock the sessions of other runs on which nobody is at work any more: each takes a descriptor."""
    for path, held in list(_held.items()):
        if path.parent != directory and not held.alive():
            del _held[path]
            os.close(held.descriptor)


def _locked(path: Path) -> int | None:
    """Lock a session's file; None where another process has it, or has just ended it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return None
    return descriptor


def _sweep(runs: Path) -> None:
    """Remove what is left of runs that nobody has touched for long; once in a process."""
    if runs in _swept:
        return
    _swept.add(runs)
    now_s = time.time()
    # Another process may remove the same.
    for directory in runs.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if directory.stat().st_mtime < now_s - _KEPT_S:
                shutil.rmtree(directory, ignore_errors=True)
    for parts in runs.glob(f"*/*{_PARTS}"):
        with contextlib.suppress(FileNotFoundError):
            if parts.stat().st_mtime < now_s - _PARTS_KEPT_S:
                parts.unlink()


def _read(path: Path) -> Division:
    return tuple(Interval.parse(name) for name in json.loads(path.read_text()))


def _write_new(path: Path, division: Division) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump([str(interval) for interval in division], file)
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()
