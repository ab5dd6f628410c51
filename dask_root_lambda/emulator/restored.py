"""An execution environment that is restored from a snapshot instead of being initialised."""

from __future__ import annotations

import time
from collections.abc import Callable

from dask_root_lambda.emulator.environment import Environment
from dask_root_lambda.emulator.errors import SnapStartError, SnapStartTimeoutError
from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.host import Outcome, Platform
from dask_root_lambda.emulator.outcomes import Ending, Exited, Ready, TimedOut, judge
from dask_root_lambda.emulator.processes import ProcessSpec
from dask_root_lambda.emulator.runtime_api import Event
from dask_root_lambda.emulator.snapshots import Snapshot

# https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-restore
RESTORE_LIMIT_S = 10.0


class RestoredEnvironment(Environment):
    """A process forked from the one in which the function was initialised.

    Parameters
    ----------
    version
        What to run.
    platform
        What it needs from the emulator.
    on_loss
        Called if its process ends while it has nothing to do.
    snapshot
        Where it comes from.
    """

    initialization_type = "snap-start"

    def __init__(
        self,
        version: FunctionVersion,
        platform: Platform,
        on_loss: Callable[[Environment], None],
        snapshot: Snapshot,
    ) -> None:
        super().__init__(version, platform, on_loss)
        self._snapshot = snapshot
        self._forked_s = 0.0

    async def _first(self, event: Event) -> Outcome:
        """Restore the process and run its first event."""
        begun_s = time.monotonic()
        ending = await self._restore()
        if isinstance(ending, Exited) and not self._forked_s:
            # What it was to be forked from had ended, and nobody knew yet.
            ending = await self._restore()
        now_s = time.monotonic()
        self._restore_ms = (now_s - begun_s) * 1000
        self._billed_restore_ms = (now_s - (self._forked_s or now_s)) * 1000
        self._report_restore(ending)
        if not isinstance(ending, Ready):
            self._refuse(ending)
        return await self._invoke(event, now_s)

    async def _restore(self) -> Ending:
        await self._snapshot.revive()
        await self._start()
        return await self._wait(RESTORE_LIMIT_S)

    def _launch(self, spec: ProcessSpec) -> None:
        self._snapshot.restore(spec, self._pipe.writer(), self._started, self._exited)

    def _started(self, pid: int) -> None:
        self._forked_s = time.monotonic()
        super()._started(pid)

    def _report_restore(self, ending: Ending) -> None:
        self._pipe.drain()
        status, error_type = "", ""
        if not isinstance(ending, Ready):
            verdict = judge(ending, "", self.version.timeout_s, "")
            status, error_type = verdict.status, verdict.error_type
        self._stream.write_line(self._lines.restore_report(self._restore_ms or 0.0, status, error_type))

    def _refuse(self, ending: Ending) -> None:
        """Answer with the error that the Invoke API has for a restore that failed."""
        self.usable = False
        if isinstance(ending, TimedOut):
            raise SnapStartTimeoutError("Lambda couldn't restore the snapshot within the timeout limit.")
        raise SnapStartError(
            "The afterRestore() runtime hook encountered an error. For more information, check the Amazon "
            "CloudWatch logs."
        )
