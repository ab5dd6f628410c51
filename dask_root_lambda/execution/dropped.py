"""Invocations that run on in AWS though nobody waits for their answers, and the sentence that says so."""

from __future__ import annotations

import logging
import threading

from dask_root_lambda.execution import timers

logger = logging.getLogger(__name__)

_GATHER_S = 0.3
"""What is stopped within so long is told together."""


class Dropped:
    """Gathers what is stopped at about the same time; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._untold = 0
        self._timer: threading.Timer | None = None

    def add(self) -> None:
        """Count an invocation that was stopped here, and that AWS runs to its end."""
        with self._lock:
            self._untold += 1
            if self._timer is None:
                self._timer = timers.later(_GATHER_S, self.tell)
            told_later = self._timer is not None
        if not told_later:
            self.tell()

    def tell(self) -> None:
        """Say how many there were, unless that was said."""
        with self._lock:
            count, self._untold = self._untold, 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if count:
            logger.warning(
                "%d invocation%s cannot be stopped in AWS: %s on to the end, at most to the function's time "
                "limit, and AWS bills that; the answers are dropped",
                count, *(("", "it runs") if count == 1 else ("s", "they run")),
            )  # fmt: skip
