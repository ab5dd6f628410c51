"""The functions of a deployment by their memory: a task that needs more goes to the next larger one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from dask_root_lambda.config import Settings
from dask_root_lambda.invocation import aws
from dask_root_lambda.invocation.function import FunctionInfo

Larger = Sequence[tuple[int, str]]
"""Memory in MB, and name, of the functions that are larger than the first."""


class Tiers:
    """The functions, the first of which is known; all methods may be called from any thread.

    Parameters
    ----------
    session, settings
        How to ask AWS for the others, which is done when a task needs one.
    first
        The function where tasks begin.
    larger
        The others.
    """

    def __init__(
        self, session: aws.Session, settings: Settings, first: FunctionInfo, larger: Larger = ()
    ) -> None:
        above = sorted((mb, name) for mb, name in larger if mb > first.memory_mb)
        self.memory_mb = (first.memory_mb, *(mb for mb, _ in above))
        """Memory of each, ascending, MB of 2^20 bytes."""
        self._names = (first.name, *(name for _, name in above))
        self._session = session
        self._settings = settings
        self._known = {0: first}
        self._lock = threading.Lock()

    def function(self, tier: int) -> FunctionInfo:
        """Return the function of a tier, from 0.

        Raises
        ------
        FunctionNotFoundError, AccessError, UnreachableError
            It cannot be used, and why.
        """
        if tier not in self._known:
            with self._lock:
                if tier not in self._known:
                    named = replace(self._settings, function=self._names[tier])
                    self._known[tier] = FunctionInfo.look_up(self._session, named)
        return self._known[tier]
