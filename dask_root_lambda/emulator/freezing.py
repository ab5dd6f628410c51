"""An idle environment is frozen, as on AWS: its processes are stopped until the next event.

What a thread or a timer would do between events happens in the next one.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable


class Freezer:
    """Stops the processes of one environment, and lets them go on.

    Most are in the process group of the first, which one signal reaches.
    """

    def __init__(self) -> None:
        self._group = 0
        self._outside: list[int] = []

    def freeze(self, pid: int, descendants: Iterable[int]) -> None:
        """Stop a process, its group, and those of its descendants that have left the group."""
        self._group = pid
        self._outside = [each for each in descendants if _group_of(each) != pid]
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all go on that were stopped."""
        if self._group:
            self._signal(signal.SIGCONT)
            self._group = 0

    def _signal(self, number: int) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            os.killpg(self._group, number)
        for pid in self._outside:
            with contextlib.suppress(OSError):
                os.kill(pid, number)


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0
