"""Snapshots of initialised functions: a template process each, from which environments are forked.

Source: https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from dask_root_lambda.emulator import template
from dask_root_lambda.emulator.endpoint import Exchange, Response
from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.host import MIB, Platform, lines_of
from dask_root_lambda.emulator.logs import LogPipe
from dask_root_lambda.emulator.outcomes import Ending, Exited, Failed, OutOfMemory, Ready, TimedOut, judge
from dask_root_lambda.emulator.processes import Exit, ProcessSpec
from dask_root_lambda.emulator.runtime_api import RuntimeApi

# Initialisation before a snapshot may take the function's timeout, or this if that is longer.
INIT_LIMIT_S = 130.0


@dataclass
class _Fork:
    spec: ProcessSpec
    log: int
    on_start: Callable[[int], None]
    on_exit: Callable[[Exit], None]


class Snapshot:
    """A process that was initialised once, and is forked for each environment.

    Parameters
    ----------
    version
        What to initialise.
    platform
        What it needs from the emulator.
    """

    def __init__(self, version: FunctionVersion, platform: Platform) -> None:
        self.version = version
        """What is initialised in it."""
        self._platform = platform
        self._name = ""
        self._pid = 0
        self._over_limit = False
        self._stream = platform.logs.open(version.log_group, version.version)
        self._pipe = LogPipe(self._stream)
        self._api = RuntimeApi(self)
        self._address = ""
        self._control: socket.socket | None = None
        self._awaited: asyncio.Future[Ending] | None = None
        self._forks: dict[str, _Fork] = {}
        self._reviving = asyncio.Lock()
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether it can be restored at this moment."""
        return self._control is not None and self._awaited is None

    async def take(self) -> Ending:
        """Initialise the function; `Ready`, or why it failed."""
        begun_s = self._platform.clock.monotonic_s()
        self._address = self._address or await self._api.open()
        self._over_limit = False
        loop = asyncio.get_running_loop()
        self._awaited = loop.create_future()
        timer = loop.call_later(max(INIT_LIMIT_S, self.version.timeout_s), self._settle, TimedOut())
        self._start()
        ending = await self._awaited
        self._awaited = None
        timer.cancel()
        self._platform.memory.forget(self._pid)
        if not isinstance(ending, Ready):
            self._platform.processes.kill(self._name)
        self._report((self._platform.clock.monotonic_s() - begun_s) * 1000, ending)
        return ending

    async def revive(self) -> None:
        """Initialise again if the process was lost; on AWS, snapshots do not get lost."""
        async with self._reviving:
            if not self.ready and not self._closed:
                await self.take()

    def restore(
        self, spec: ProcessSpec, log: int, on_start: Callable[[int], None], on_exit: Callable[[Exit], None]
    ) -> None:
        """Fork an environment.

        Parameters
        ----------
        spec
            Its identity and its variables; what it runs is what was initialised.
        log
            Descriptor for its output; closed here.
        on_start
            Called with its process id.
        on_exit
            Called with how it ended, at once if this process has ended before it.
        """
        self._forks[spec.identity] = _Fork(spec, log, on_start, on_exit)
        self._platform.processes.prepare(spec, partial(self._ask, spec.identity))

    def close(self) -> None:
        """End the process, but not what was forked from it."""
        self._closed = True
        self._platform.processes.kill(self._name)
        self._platform.memory.forget(self._pid)
        self._api.close()
        self._lose()
        self._pipe.close()

    # What the runtime tells (runtime_api.Listener); only errors come before a snapshot.

    def runtime_waits(self, exchange: Exchange) -> None:
        """Refuse: a template has no events."""
        exchange.respond(Response(403))

    def runtime_answers(self, request_id: str, payload: bytes) -> Response | None:
        """Refuse: a template has no events."""
        return Response(403)

    def runtime_fails(self, request_id: str, payload: bytes) -> Response | None:
        """Refuse: a template has no events."""
        return Response(403)

    def initialisation_fails(self, payload: bytes, error_type: str) -> None:
        """Take the error of loading the handler, or of a hook before the snapshot."""
        self._settle(Failed(payload, error_type))

    def restore_fails(self, payload: bytes, error_type: str) -> None:
        """Take what cannot come before a restore."""
        self._settle(Failed(payload, error_type))

    # The process.

    def _start(self) -> None:
        self._name = f"snapshot-{secrets.token_hex(8)}"
        platform = self._platform
        spec = platform.specify(self.version, self._name, self._address, self._stream.name, "snap-start")
        argv = (spec.argv[0], template.__file__, spec.argv[-1])
        descriptors = (self._pipe.writer(), self._open_control())
        exited = partial(self._exited, self._name)
        platform.processes.spawn(replace(spec, argv=argv), descriptors, self._started, exited)

    def _open_control(self) -> int:
        """Open the socket to the process, and return the descriptor of its end."""
        self._lose()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._receive)
        return theirs.detach()

    def _started(self, pid: int) -> None:
        self._pid = pid
        if self._awaited is not None:
            self._platform.memory.watch(pid, self.version.memory_mb * MIB, self._exceeds)

    def _exceeds(self, used_bytes: int) -> None:
        self._over_limit = True
        self._platform.processes.kill(self._name)

    def _exited(self, name: str, end: Exit) -> None:
        if name != self._name:
            # Another process has taken its place already.
            return
        self._platform.memory.forget(self._pid)
        self._pipe.drain()
        self._lose()
        self._settle(OutOfMemory() if self._over_limit else Exited(end.status))

    def _receive(self) -> None:
        while self._control is not None:
            try:
                packet = self._control.recv(template.PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lose()
                return
            message = json.loads(packet)
            if message["event"] == "ready":
                self._settle(Ready())
            else:
                fork = self._forks.pop(message["id"])
                self._platform.processes.adopt(fork.spec, message["pid"], fork.on_start, fork.on_exit)

    def _ask(self, identity: str) -> None:
        """Ask the process for a fork, for which there is room now."""
        fork = self._forks.get(identity)
        if fork is None or self._control is None:
            self._lose()
            return
        root = self._platform.processes.root
        message = {
            "id": identity,
            "directory": fork.spec.directory or str(root / identity / "task"),
            # The disk is part of the snapshot.
            "tmp": [str(root / self._name / "tmp"), str(root / identity / "tmp")],
            "env": fork.spec.environment,
        }
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], [fork.log])
        except OSError:
            self._lose()
            return
        os.close(fork.log)
        fork.log = -1

    def _lose(self) -> None:
        """Close the socket; forks that were asked for and did not come never will."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        lost, self._forks = self._forks, {}
        for fork in lost.values():
            if fork.log >= 0:
                os.close(fork.log)
            self._platform.processes.discard(fork.spec.identity)
            fork.on_exit(Exit(signal.SIGKILL, 0))

    def _settle(self, ending: Ending) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(ending)

    def _report(self, duration_ms: float, ending: Ending) -> None:
        """Write INIT_REPORT, which functions with SnapStart always have."""
        self._pipe.drain()
        lines = lines_of(self.version, self._platform.clock)
        if isinstance(ending, Ready):
            self._stream.write_line(lines.init_report(duration_ms, "init"))
        else:
            verdict = judge(ending, "", self.version.timeout_s, "")
            report = lines.init_report(duration_ms, "init", verdict.status, verdict.error_type)
            self._stream.write_line(report)


class Snapshots:
    """The snapshots of all versions that have SnapStart.

    Parameters
    ----------
    platform
        What they need from the emulator.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._snapshots: dict[str, Snapshot] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def prepare(self, version: FunctionVersion, on_end: Callable[[Ending], None]) -> None:
        """Take the snapshot of a new version, and tell how that ended.

        Containers cannot be forked from outside: their versions have none, and are ready at once.
        """
        if version.package.container is not None:
            asyncio.get_running_loop().call_soon(on_end, Ready())
            return
        snapshot = Snapshot(version, self._platform)
        self._snapshots[version.revision] = snapshot

        async def take() -> None:
            ending = await snapshot.take()
            if not isinstance(ending, Ready):
                self.drop(version.revision)
            on_end(ending)

        task = asyncio.get_running_loop().create_task(take())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def get(self, version: FunctionVersion) -> Snapshot | None:
        """Find the snapshot of a version; None if it has no SnapStart."""
        return self._snapshots.get(version.revision)

    def drop(self, revision: str) -> None:
        """Forget a snapshot."""
        snapshot = self._snapshots.pop(revision, None)
        if snapshot is not None:
            snapshot.close()

    def retire(self, function: str, revision: str | None) -> None:
        """Forget the snapshots of a function, or of one revision of it."""
        for key, snapshot in tuple(self._snapshots.items()):
            if snapshot.version.name == function and revision in (None, key):
                self.drop(key)

    def close(self) -> None:
        """Forget all snapshots."""
        for task in self._tasks:
            task.cancel()
        for revision in tuple(self._snapshots):
            self.drop(revision)


def reason_of_failure(ending: Ending) -> tuple[str, str]:
    """Tell StateReasonCode and StateReason of a version whose initialisation ended; empty if it is ready."""
    if isinstance(ending, Ready):
        return "", ""
    if isinstance(ending, TimedOut):
        return "FunctionError.InitTimeout", "Function initialization took too long."
    if isinstance(ending, OutOfMemory):
        return "FunctionError.InitResourceExhausted", "Function initialization ran out of memory."
    error = ending.payload.decode("utf-8", "replace") if isinstance(ending, Failed) else "the runtime exited"
    return "FunctionError", f"Function initialization failed: {error}"
