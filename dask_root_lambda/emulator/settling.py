"""Changes that take a while: what a function shows until they are done, and what is refused meanwhile.

Source: https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html.
"""

from __future__ import annotations

from dask_root_lambda.emulator.clock import Clock
from dask_root_lambda.emulator.errors import ResourceConflictError
from dask_root_lambda.emulator.functions import FunctionVersion, begin, settle
from dask_root_lambda.emulator.registry import Function


class Settling:
    """Lets changes of functions be in progress for a time.

    Parameters
    ----------
    clock
        For waiting.
    settle_s
        How long a change takes; 0 for changes that are done when they are answered.
    """

    def __init__(self, clock: Clock, settle_s: float) -> None:
        self._clock = clock
        self._settle_s = settle_s

    def begin(self, function: Function, *, created: bool = False) -> None:
        """Show that a function was created or changed, and settle it later."""
        if self._settle_s <= 0:
            return
        function.latest = begin(function.latest, created=created)
        revision = function.latest.revision

        def finish() -> None:
            if function.latest.revision == revision:
                function.latest = settle(function.latest)

        self._clock.call_later(self._settle_s, finish)


def check_settled(version: FunctionVersion) -> None:
    """Refuse to change or publish a function that is not settled.

    Raises
    ------
    ResourceConflictError
        Telling what it waits for.
    """
    start = "The operation cannot be performed at this time. "
    if version.state == "Pending":
        raise ResourceConflictError(start + "The function is currently in the following state: Pending")
    if version.document["LastUpdateStatus"] == "InProgress":
        raise ResourceConflictError(start + f"An update is in progress for resource: {version.arn}")
