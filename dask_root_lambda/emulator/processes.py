"""The emulator's side of the warden: ask for processes, learn of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_root_lambda.emulator import containers, warden

logger = logging.getLogger(__name__)

# How long the warden may take to end everything that it started.
END_TIMEOUT_S = warden.LAST_RITES_S + 5.0


@dataclass(frozen=True)
class ProcessSpec:
    """What to run."""

    identity: str
    """Unique; also the name of its directory."""
    argv: tuple[str, ...]
    """Absolute path of the program first."""
    environment: dict[str, str]
    """All of it: nothing else is inherited."""
    tmp_mb: int
    """Size of its directory for temporary files, where that can be limited."""
    keep: tuple[str, ...] | None = None
    """If its /tmp is private: directories of the machine's /tmp that it sees all the same."""
    directory: str = ""
    """Where it starts; empty for an empty directory of its own."""
    container: Mapping[str, Any] | None = None
    """If it is the first process of a container: what ``containers`` needs to know, in place of ``argv``."""


@dataclass(frozen=True)
class Exit:
    """How a process ended."""

    status: int
    """Wait status."""
    peak_bytes: int
    """Its largest resident set."""
    out_of_memory: bool = False
    """Whether the kernel ended it for want of memory, as far as that is known."""


@dataclass
class _Watched:
    on_start: Callable[[int], None]
    on_exit: Callable[[Exit], None]
    pid: int = 0


def waited_for_cpu_s(pid: int) -> float:
    """Tell how long a process was ready to run and did not get a CPU; 0 where the kernel does not count."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class Processes:
    """Processes that end with this one, however it ends.

    Must be used from the event loop's thread.

    Parameters
    ----------
    private_tmp
        Whether any of them will have a private /tmp.
    """

    def __init__(self, private_tmp: bool = False) -> None:
        self.limited_tmp = False
        """Whether directories for temporary files are limited in size, once the warden has told."""
        self.root = Path(tempfile.mkdtemp(prefix="lambda-emulator-"))
        """Directory for files of environments; the warden removes it."""
        self._watched: dict[str, _Watched] = {}
        self._preparing: dict[str, Callable[[], None]] = {}
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._control, self._warden = _start_warden(self.root, private_tmp)
        self._loop.add_reader(self._control, self._receive)

    def spawn(
        self,
        spec: ProcessSpec,
        descriptors: tuple[int, ...],
        on_start: Callable[[int], None],
        on_exit: Callable[[Exit], None],
    ) -> None:
        """Start a process.

        Parameters
        ----------
        spec
            What to run.
        descriptors
            What becomes its stdout and stderr, and possibly what becomes its descriptor 3; closed here.
        on_start
            Called with its process id.
        on_exit
            Called with how it ended.
        """
        self._watched[spec.identity] = _Watched(on_start, on_exit)
        message = {
            "op": "spawn",
            "id": spec.identity,
            "argv": spec.argv,
            "env": spec.environment,
            "tmp_mb": spec.tmp_mb,
            "keep": spec.keep,
            "directory": spec.directory,
            "container": spec.container,
        }
        self._send(json.dumps(message).encode(), descriptors)

    def prepare(self, spec: ProcessSpec, on_ready: Callable[[], None]) -> None:
        """Make the directories of a process that another one will fork, and call back."""
        self._preparing[spec.identity] = on_ready
        message = {"op": "prepare", "id": spec.identity, "tmp_mb": spec.tmp_mb}
        self._send(json.dumps(message).encode())

    def discard(self, identity: str) -> None:
        """Remove the directories of a process that was not forked."""
        self._send(json.dumps({"op": "discard", "id": identity}).encode())

    def adopt(
        self, spec: ProcessSpec, pid: int, on_start: Callable[[int], None], on_exit: Callable[[Exit], None]
    ) -> None:
        """Take over a process that one of them has forked and left to the warden.

        Parameters
        ----------
        spec
            Its identity and its variables.
        pid
            Its number.
        on_start
            Called with its number, when the warden has it.
        on_exit
            Called with how it ended.
        """
        self._watched[spec.identity] = _Watched(on_start, on_exit)
        mark = spec.environment["AWS_LAMBDA_RUNTIME_API"]
        self._send(json.dumps({"op": "adopt", "id": spec.identity, "pid": pid, "mark": mark}).encode())

    def kill(self, identity: str) -> None:
        """Send SIGKILL to a process and its group."""
        self._send(json.dumps({"op": "kill", "id": identity}).encode())

    def close(self) -> None:
        """End every process, and wait until they are gone."""
        self._loop.remove_reader(self._control)
        self._loop.remove_writer(self._control)
        self._control.close()
        for _, descriptors in self._outbox:
            _close(descriptors)
        try:
            self._warden.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            logger.warning("the warden of the execution environments did not end; killing it")
            self._warden.kill()
            self._warden.wait()
        # The warden has done it, unless it was killed.
        containers.clear_all(self.root)
        shutil.rmtree(self.root, ignore_errors=True)

    def _send(self, packet: bytes, descriptors: tuple[int, ...] = ()) -> None:
        if self._control.fileno() < 0:
            # Closed: every process has ended, and who is told to end one had not heard of it yet.
            _close(descriptors)
            return
        self._outbox.append((packet, descriptors))
        self._flush()

    def _flush(self) -> None:
        while self._outbox:
            packet, descriptors = self._outbox[0]
            try:
                socket.send_fds(self._control, [packet], descriptors)
            except BlockingIOError:
                self._loop.add_writer(self._control, self._flush)
                return
            except OSError as error:
                self._lost(error)
                return
            self._outbox.popleft()
            _close(descriptors)
        self._loop.remove_writer(self._control)

    def _receive(self) -> None:
        while True:
            try:
                packet = self._control.recv(warden.PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._lost(error)
                return
            if not packet:
                self._lost(ConnectionResetError("end of file"))
                return
            self._notify(json.loads(packet))

    def _notify(self, message: dict[str, Any]) -> None:
        if message["event"] == "hello":
            self.limited_tmp = message["limited_tmp"]
            return
        identity = message["id"]
        if message["event"] == "prepared":
            self._preparing.pop(identity)()
        elif message["event"] == "started":
            watched = self._watched[identity]
            watched.pid = message["pid"]
            watched.on_start(watched.pid)
        else:
            end = Exit(message["status"], message["peak_kib"] * 1024, message["out_of_memory"])
            self._watched.pop(identity).on_exit(end)

    def _lost(self, error: OSError) -> None:
        """End every process from here: without a warden, nobody else does."""
        logger.error("the warden of the execution environments is gone (%s); ending its environments", error)
        self._loop.remove_reader(self._control)
        self._loop.remove_writer(self._control)
        containers.end_all(self.root)
        lost, self._watched = self._watched, {}
        for watched in lost.values():
            with contextlib.suppress(ProcessLookupError):
                if watched.pid:
                    os.killpg(watched.pid, signal.SIGKILL)
            watched.on_exit(Exit(signal.SIGKILL, 0))


def _close(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _start_warden(root: Path, private_tmp: bool) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    argv = [sys.executable, "-I", "-S", warden.__file__, str(theirs.fileno()), str(root)]
    argv.append("private" if private_tmp else "shared")
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
    finally:
        theirs.close()
    return ours, process
