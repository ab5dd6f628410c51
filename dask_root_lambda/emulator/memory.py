"""How much memory an environment uses, from /proc.

cgroups would limit it exactly, and are not there for every user of every machine; so the emulator looks,
and ends what is over its limit. A process that grows and shrinks between two looks is caught by its high
water mark, which the kernel keeps.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

# Time between two looks at an environment that is busy.
INTERVAL_S = 0.1

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MIB = 1 << 20


def peak_rss_bytes(pid: int) -> int:
    """Largest resident set that a process has had; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:  # noqa: PTH123 - once per invocation; half the time
            text = status.read()
    except OSError:
        return 0
    start = text.find(b"VmHWM:")
    return int(text[start + 6 :].split(None, 1)[0]) * 1024 if start >= 0 else 0


def rss_bytes(pid: int, limit_bytes: int = 0) -> int:
    """Resident set of a process and all its descendants, what they share counted once.

    Their exact share costs the kernel a walk over their pages, milliseconds: it is asked for only where it
    can matter, which is where there are descendants, and sets that share nothing would be over a limit.
    """
    processes = (pid, *descendants(pid))
    at_most = sum(map(_resident_bytes, processes))
    if len(processes) == 1 or at_most <= limit_bytes:
        return at_most
    return sum(map(_proportional_bytes, processes))


def megabytes(size_bytes: int) -> int:
    """Size in MB as Lambda counts them, rounded up."""
    return -(-size_bytes // _MIB)


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _proportional_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
    except OSError:
        return _resident_bytes(pid)
    start = text.find(b"\nPss:")
    return int(text[start + 5 :].split(None, 1)[0]) * 1024 if start >= 0 else 0


def descendants(pid: int) -> list[int]:
    """Find the processes that a process has started, and those that they have."""
    found: list[int] = []
    to_visit = [pid]
    while to_visit:
        children = _children(to_visit.pop())
        found += children
        to_visit += children
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - ten times a second and environment
            text = Path(f"/proc/{pid}/task/{thread}/children").read_bytes()
            children += map(int, text.split())
    except OSError:
        # The process or a thread has ended, or the kernel does not list children.
        return children
    return children


class MemoryWatch:
    """Looks at the processes of busy environments, and reports those over their limit.

    Must be used from the event loop's thread.
    """

    def __init__(self) -> None:
        self._watched: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, pid: int, limit_bytes: int, on_excess: Callable[[int], None]) -> None:
        """Look at a process until told otherwise, or until it is over its limit.

        Parameters
        ----------
        pid
            The process; its descendants count as well.
        limit_bytes
            What they may use together.
        on_excess
            Called with what they use.
        """
        self._watched[pid] = (limit_bytes, on_excess)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._look)

    def forget(self, pid: int) -> None:
        """Stop looking at a process."""
        self._watched.pop(pid, None)

    def close(self) -> None:
        """Stop looking."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        for pid, (limit_bytes, on_excess) in tuple(self._watched.items()):
            used = rss_bytes(pid, limit_bytes)
            if used > limit_bytes:
                self.forget(pid)
                on_excess(used)
        if self._watched:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._look)
