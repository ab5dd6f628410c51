"""One execution environment: a process that runs ``awslambdaric``, one event at a time."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from dask_root_lambda.emulator import memory
from dask_root_lambda.emulator.endpoint import Exchange, Response
from dask_root_lambda.emulator.faults import LambdaFault
from dask_root_lambda.emulator.freezing import Freezer
from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.host import MIB, Outcome, Platform, lines_of
from dask_root_lambda.emulator.log_lines import Usage, iso_time
from dask_root_lambda.emulator.logs import LogPipe
from dask_root_lambda.emulator.networks import ContainerNetwork
from dask_root_lambda.emulator.outcomes import (
    Answered,
    Ending,
    Exited,
    Failed,
    OutOfMemory,
    Ready,
    TimedOut,
    TooLarge,
    judge,
)
from dask_root_lambda.emulator.processes import Exit, ProcessSpec, waited_for_cpu_s
from dask_root_lambda.emulator.runtime_api import Event, RuntimeApi, refusal

logger = logging.getLogger(__name__)

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html says 6 MB; this is the number in
# AWS's error for larger responses. That for requests is another.
RESPONSE_LIMIT_BYTES = 6_291_556

# Less than this is how machines are; more is a process that waits for others.
STARVED_S = 0.05


class Environment:
    """A process that runs a function's handler.

    Parameters
    ----------
    version
        What to run.
    platform
        What it needs from the emulator.
    on_loss
        Called if its process ends while it has nothing to do.
    """

    initialization_type = "on-demand"

    def __init__(
        self, version: FunctionVersion, platform: Platform, on_loss: Callable[[Environment], None]
    ) -> None:
        self.version = version
        self.idle_since_s = 0.0
        """When it finished its last event, by the monotonic clock."""
        self.usable = True
        """Whether it can take another event."""
        self.killed = False
        """Whether it was ended on purpose, in the middle of its work or not."""
        self._platform = platform
        self._on_loss = on_loss
        self._name = f"env-{secrets.token_hex(8)}"
        self._stream = platform.logs.open(version.log_group, version.version)
        self._lines = lines_of(version, platform.clock)
        self._api = RuntimeApi(self)
        self._network: ContainerNetwork | None = None
        self._address = ""
        self._starts = 0
        self._pid = 0
        self._descendants: list[int] = []
        self._freezer = Freezer()
        self._gone = asyncio.Event()
        self._exit_status = 0
        self._busy = False
        self._fault: LambdaFault | None = None
        self._peak_bytes = 0
        self._over_limit = False
        self._init_ms: float | None = None
        self._restore_ms: float | None = None
        self._billed_restore_ms = 0.0
        self._event: Event | None = None
        self._waiting: Exchange | None = None
        self._awaited: asyncio.Future[Ending] | None = None
        self._pipe = LogPipe(self._stream)

    async def run(self, event: Event, fault: LambdaFault | None = None) -> Outcome | None:
        """Run one event, starting the process first if there is none yet.

        Parameters
        ----------
        event
            What to run.
        fault
            What happens to it.

        Returns
        -------
        Outcome or None
            None if its process was gone before it could take the event: use another environment.
        """
        self._freezer.thaw()
        self._busy = True
        self._fault = fault
        try:
            return await self._run(event)
        finally:
            self._busy = False
            self._freeze_if_idle()

    async def _run(self, event: Event) -> Outcome | None:
        self._stream.open_tail()
        begun_s = _now_s()
        if not self._starts:
            return await self._first(event)
        if not self._asks() and not isinstance(await self._wait(self.version.timeout_s), Ready):
            # It has posted its last result, and did not live to ask for more.
            self.usable = False
            return None
        return await self._invoke(event, begun_s)

    def kill(self) -> None:
        """End the process now, whatever it does."""
        self.usable = False
        self.killed = True
        if self._pid:
            self._platform.processes.kill(self._process_name)

    def end(self) -> None:
        """End the process and give back everything that the environment holds."""
        self.kill()
        self._api.close()
        self._platform.memory.forget(self._pid)
        self._pipe.close()
        if self._network is not None:
            self._network.close()

    # What the runtime tells (runtime_api.Listener).

    def runtime_waits(self, exchange: Exchange) -> None:
        """Keep the request for the next event until there is one."""
        self._waiting = exchange
        if self._event is None:
            self._settle(Ready())
        self._freeze_if_idle()

    def runtime_answers(self, request_id: str, payload: bytes) -> Response | None:
        """Take the handler's result."""
        if self._event is None or request_id != self._event.request_id:
            return refusal(400, "InvalidRequestID", f"no invocation {request_id} is running here")
        if len(payload) > RESPONSE_LIMIT_BYTES:
            self._settle(TooLarge(RESPONSE_LIMIT_BYTES))
            message = f"Exceeded maximum allowed payload size ({RESPONSE_LIMIT_BYTES} bytes)."
            return refusal(413, "RequestEntityTooLarge", message)
        self._settle(Answered(payload))
        return None

    def runtime_fails(self, request_id: str, payload: bytes) -> Response | None:
        """Take the handler's error."""
        if self._event is None or request_id != self._event.request_id:
            return refusal(400, "InvalidRequestID", f"no invocation {request_id} is running here")
        self._settle(Failed(payload, ""))
        return None

    def initialisation_fails(self, payload: bytes, error_type: str) -> None:
        """Take the error of loading the handler."""
        self._settle(Failed(payload, error_type))

    def restore_fails(self, payload: bytes, error_type: str) -> None:
        """Take the error of a hook after a restore."""
        self._settle(Failed(payload, error_type))

    # Phases of an invocation.

    async def _first(self, event: Event) -> Outcome:
        """Start the process and run its first event."""
        failure = await self._initialise()
        if failure is not None:
            return await self._retry_initialisation(event, failure)
        return await self._invoke(event, _now_s())

    async def _initialise(self, limit_s: float | None = None) -> Ending | None:
        """Start the process; None if it asks for its first event in time."""
        begun_s = _now_s()
        await self._start()
        ending = await self._wait_for_start(limit_s or self._platform.options.init_timeout_s)
        self._init_ms = (_now_s() - begun_s) * 1000
        if isinstance(ending, Ready):
            return None
        await self._stop()
        return ending

    async def _retry_initialisation(self, event: Event, failure: Ending) -> Outcome:
        """Initialise again within the function's own time, as Lambda does after a failure."""
        self._log_init_failure("init", failure)
        begun_s = _now_s()
        again = failure if self.killed else await self._initialise(self.version.timeout_s)
        if again is None:
            self._init_ms = None
            return await self._invoke(event, begun_s)
        self._log_init_failure("invoke", again)
        self._init_ms = None
        self._stream.write_line(self._lines.start(event.request_id, self.version.version))
        return self._conclude(event, again, begun_s)

    async def _invoke(self, event: Event, begun_s: float) -> Outcome:
        self._pipe.drain()
        self._stream.write_line(self._lines.start(event.request_id, self.version.version))
        left_s = self.version.timeout_s - (_now_s() - begun_s)
        exchange, self._waiting = self._waiting, None
        self._event = event
        self._watch_memory()
        if exchange is not None:
            exchange.respond(event.response(int((self._platform.clock.now_s() + left_s) * 1000)))
        self._suffer()
        ending = Exited(self._exit_status) if self._gone.is_set() else await self._wait(left_s)
        self._platform.memory.forget(self._pid)
        self._event = None
        return self._conclude(event, ending, begun_s)

    def _suffer(self) -> None:
        """Let happen what was ordered for this event."""
        fault, event = self._fault, self._event
        if fault is not None and fault.kind in ("kill", "timeout"):
            asyncio.get_running_loop().call_later(fault.delay_s, self._strike, fault.kind, event)

    def _strike(self, kind: str, event: Event | None) -> None:
        if self._event is not event:
            # It was faster than its fault, and what runs now is another one.
            return
        if kind == "kill":
            self._platform.processes.kill(self._process_name)
        else:
            self._settle(TimedOut())

    def _conclude(self, event: Event, ending: Ending, begun_s: float) -> Outcome:
        duration_ms = (_now_s() - begun_s) * 1000
        if isinstance(ending, TimedOut):
            duration_ms = self.version.timeout_s * 1000
        ending = self._check_peak(ending)
        self._pipe.drain()
        verdict = judge(
            ending, event.request_id, self.version.timeout_s, iso_time(self._platform.clock.now_s())
        )
        if verdict.remark:
            self._stream.write_line(self._lines.remark(verdict.remark))
        peak_mb = min(memory.megabytes(self._peak_bytes), self.version.memory_mb)
        usage = Usage(
            duration_ms,
            self.version.memory_mb,
            peak_mb,
            self._init_ms,
            self._restore_ms,
            self._billed_restore_ms,
            status=verdict.status,
            error_type=verdict.error_type,
        )
        self._init_ms = None
        self._restore_ms = None
        self._billed_restore_ms = 0.0
        self._stream.write_line(self._lines.end(event.request_id))
        self._stream.write_line(self._lines.report(event.request_id, usage))
        self.usable = self.usable and verdict.survives
        return Outcome(verdict, usage, self._stream.tail)

    def _check_peak(self, ending: Ending) -> Ending:
        """Find excesses that came and went between two looks."""
        if self._pid:
            self._descendants = memory.descendants(self._pid)
            self._peak_bytes = max(
                self._peak_bytes, *map(memory.peak_rss_bytes, (self._pid, *self._descendants))
            )
        if self._peak_bytes > self.version.memory_mb * MIB and isinstance(
            ending, (Answered, Failed, TooLarge)
        ):
            return OutOfMemory()
        return ending

    # The process.

    @property
    def _process_name(self) -> str:
        return f"{self._name}-{self._starts}"

    async def _start(self) -> None:
        self._address = self._address or await self._open()
        self._starts += 1
        self._over_limit = False
        self._gone.clear()
        spec = self._platform.specify(
            self.version,
            self._process_name,
            self._address,
            self._stream.name,
            self.initialization_type,
            self._network.path if self._network else "",
        )
        if self._fault is not None and self._fault.kind == "slow-start":
            await asyncio.sleep(self._fault.delay_s)
        self._launch(spec)

    async def _open(self) -> str:
        """Open the Runtime API, for a container in a network of its own."""
        self._network = await self._platform.open_network(self.version)
        return await self._api.open(self._network.runtime_api if self._network else None)

    def _launch(self, spec: ProcessSpec) -> None:
        self._platform.processes.spawn(spec, (self._pipe.writer(),), self._started, self._exited)

    async def _stop(self) -> None:
        """End the process, but not the environment."""
        self._platform.processes.kill(self._process_name)
        await self._gone.wait()
        self._pipe.drain()

    def _started(self, pid: int) -> None:
        self._pid = pid
        if self.killed:
            # It was ended while the warden was still starting it.
            self._platform.processes.kill(self._process_name)
        else:
            self._watch_memory()

    def _exited(self, end: Exit) -> None:
        self._platform.memory.forget(self._pid)
        self._pid = 0
        self._exit_status = end.status
        self._peak_bytes = max(self._peak_bytes, end.peak_bytes)
        self._over_limit = self._over_limit or end.out_of_memory
        self._waiting = None
        self._gone.set()
        if self._awaited is not None:
            self._settle(OutOfMemory() if self._over_limit else Exited(end.status))
        elif not self._busy:
            self._on_loss(self)

    def _asks(self) -> bool:
        """Whether the runtime waits for an event at this moment."""
        return self._waiting is not None and self._waiting.open

    def _freeze_if_idle(self) -> None:
        """Stop its processes once it has answered and asks for more."""
        if self._pid and not self._busy and self._asks():
            self._freezer.freeze(self._pid, self._descendants)

    def _watch_memory(self) -> None:
        if self._pid:
            self._platform.memory.watch(self._pid, self.version.memory_mb * MIB, self._exceeds)

    def _exceeds(self, used_bytes: int) -> None:
        self._peak_bytes = max(self._peak_bytes, used_bytes)
        self._over_limit = True
        self._platform.processes.kill(self._process_name)

    async def _wait_for_start(self, limit_s: float) -> Ending:
        """Wait for the runtime; time in which it would have run, had it had a CPU, does not count.

        On AWS, environments do not wait for each other.
        """
        ending, excused_s = await self._wait(limit_s), 0.0
        if isinstance(ending, TimedOut) and not self._pid and not self._gone.is_set():
            # Not even its process was there: its time has not begun.
            ending = await self._wait(limit_s)
        while isinstance(ending, TimedOut) and self._pid:
            if self._asks():
                return Ready()
            starved_s = waited_for_cpu_s(self._pid) - excused_s
            if starved_s < STARVED_S:
                break
            excused_s += starved_s
            ending = await self._wait(starved_s)
        return ending

    async def _wait(self, limit_s: float) -> Ending:
        """Wait for the next thing to happen, at most so long."""
        loop = asyncio.get_running_loop()
        self._awaited = loop.create_future()
        timer = loop.call_later(limit_s, self._settle, TimedOut())
        try:
            return await self._awaited
        finally:
            timer.cancel()
            self._awaited = None

    def _settle(self, ending: Ending) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(ending)

    # The log.

    def _log_init_failure(self, phase: str, failure: Ending) -> None:
        verdict = judge(failure, "", self.version.timeout_s, iso_time(self._platform.clock.now_s()))
        line = self._lines.init_report(self._init_ms or 0.0, phase, verdict.status, verdict.error_type)
        self._stream.write_line(line)


def _now_s() -> float:
    return time.monotonic()
