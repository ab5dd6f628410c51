"""A process for each identity: code of one run is never in the process that runs another's.

C++ that was declared, headers, libraries and a working directory cannot be taken out of a process again.
So the process that speaks to Lambda runs no code of a user's. For each identity that an event brings it
forks a child, in which that code lives; events of the same identity go to the same child. A fork takes
0.02 s, and has all that was compiled before a SnapStart snapshot.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from lambda_runtime import scratch

Answer = Callable[[Mapping[str, Any], int], dict[str, Any]]

_KEPT = 3
"""Children that an environment keeps, those used last: each has some 100 MB of its own."""
_FULL_BYTES = 1 << 20
"""A disk with less room is full."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Children:
    """Answers events in children, one for each identity.

    Parameters
    ----------
    answer
        Answers an event, as JSON, given how many events this environment had before; called in the child.
    is_spent
        Tells by an answer whether the child that gave it can answer no others: it is ended.
    full
        Answers an event whose child has filled the disk, and ended by that; given the disk's size in bytes.
    """

    def __init__(
        self,
        answer: Answer,
        is_spent: Callable[[Mapping[str, Any]], bool],
        full: Callable[[int], dict[str, Any]],
    ) -> None:
        self._answer = answer
        self._is_spent = is_spent
        self._full = full
        self._children: OrderedDict[str, _Child] = OrderedDict()
        self._events = 0
        self._scratch = scratch.make()

    def answer(self, event: Mapping[str, Any], request_id: str) -> dict[str, Any]:
        """Let the child of an event's identity answer it.

        How long that may take is the function's time limit, which Lambda keeps: it ends the children too.
        Where the child ends, this process ends in the same way, so that Lambda says what happened. But for a
        child that has filled the disk: then ROOT ends the process, and Lambda would not say why.
        """
        # What is no request, a child tells.
        identity = str(event.get("identity", "")) if isinstance(event, Mapping) else ""
        if identity not in self._children:
            while len(self._children) >= _KEPT or (self._children and self._is_tight()):
                self._children.popitem(last=False)[1].end()
            self._children[identity] = self._fork()
        self._children.move_to_end(identity)
        self._events += 1
        child = self._children[identity]
        try:
            answer = child.answer(event, self._events - 1, request_id)
        except (EOFError, OSError):
            disk = shutil.disk_usage(self._scratch)
            filled = disk.free < _FULL_BYTES and scratch.used_bytes(child.directory) > disk.total / 2
            status = self._buried(identity)
            # A kill from outside has other reasons.
            if not filled or os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
                _die_like(status)
            self._children.clear()
            self._scratch = scratch.make()
            return self._full(disk.total)
        if self._is_spent(answer):
            self._children.pop(identity).end()
        return answer

    def _is_tight(self) -> bool:
        """Whether the children's files take more than they leave to the next child."""
        return scratch.used_bytes(self._scratch) > shutil.disk_usage(self._scratch).free

    def _buried(self, identity: str) -> int:
        """Wait for the end of a child, end the others, leave nothing in /tmp; return its wait status.

        AWS keeps /tmp for the process that it starts next.
        """
        status = self._children.pop(identity).wait()
        for other in self._children.values():
            other.end()
        shutil.rmtree(self._scratch, ignore_errors=True)
        return status

    def _fork(self) -> _Child:
        ours, theirs = Pipe()
        directory = Path(tempfile.mkdtemp(dir=self._scratch))
        parent = os.getpid()
        # What is buffered would be written by both.
        sys.stdout.flush()
        _LIBC.fflush(None)
        pid = os.fork()
        if pid:
            theirs.close()
            return _Child(pid, ours, directory)
        try:
            ours.close()
            for child in self._children.values():
                child.connection.close()
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                # Everything that is temporary here goes with the child.
                tempfile.tempdir = str(directory)
                self._serve(theirs)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            _LIBC.fflush(None)
            # Not the parent's clean-up, nor its runtime client's.
            os._exit(1)

    def _serve(self, connection: Connection) -> None:
        request_id = _RequestId()
        for log_handler in logging.getLogger().handlers:
            log_handler.addFilter(request_id)
        while True:
            try:
                event, number, request_id.value = _unpacked(connection.recv_bytes())
            except EOFError:
                return
            connection.send_bytes(json.dumps(self._answer(event, number)).encode())


class _Child:
    """A forked process, as its parent sees it."""

    def __init__(self, pid: int, connection: Connection, directory: Path) -> None:
        self._pid = pid
        self.connection = connection
        self.directory = directory

    def answer(self, event: Mapping[str, Any], number: int, request_id: str) -> dict[str, Any]:
        """Let it answer an event; EOFError or OSError where it has ended."""
        self.connection.send_bytes(_packed(event, number, request_id))
        answer: dict[str, Any] = json.loads(self.connection.recv_bytes())
        return answer

    def wait(self) -> int:
        """Wait until it has ended; return its wait status."""
        return os.waitpid(self._pid, 0)[1]

    def end(self) -> None:
        """End it, and remove what it has written."""
        self.connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def _packed(event: object, number: int, request_id: str) -> bytes:
    """Write what a child is told. What is nested deeper than Python reads is no request: null, as good."""
    try:
        text = json.dumps(event)
    except RecursionError:
        text = "null"
    return f"{json.dumps([number, request_id])}\n{text}".encode()


def _unpacked(told: bytes) -> tuple[Any, int, str]:
    head, _, text = told.partition(b"\n")
    number, request_id = json.loads(head)
    try:
        return json.loads(text), number, request_id
    except RecursionError:
        return None, number, request_id


def _die_like(status: int) -> NoReturn:
    """End this process as a child has ended, by its wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        # The child has told where it was.
        faulthandler.disable()
        with contextlib.suppress(OSError):  # of signals that cannot be handled
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        # A container's first process does not end by a signal that is sent to it, but by a fault.
        if -code == signal.SIGSEGV:
            ctypes.string_at(0)
        code = 128 - code
    os._exit(code)


class _RequestId(logging.Filter):
    """Gives log records the identifier of the request that this process answers.

    The runtime client's own filter has that of the request for which the process was forked.
    """

    value = ""

    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = self.value
        return True
