"""Processes that run programs, and may crash or hang."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzz.programs import Program
from fuzz.running import Outcome

_TIMEOUT_S = 120.0
_START_TIMEOUT_S = 120.0


class Worker:
    """A process that runs one program after the other; it is made anew when it has ended.

    Parameters
    ----------
    data
        The folder of the sources' files.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._process: Any = None
        self._pipe: Any = None

    def run(self, program: Program, timeout_s: float = _TIMEOUT_S) -> Outcome:
        """Run a program; that the process crashes or hangs is an outcome."""
        if self._process is None:
            self._start()
        locally = True
        try:
            self._pipe.send(program)
            while self._pipe.poll(timeout_s):
                said = self._pipe.recv()
                if isinstance(said, Outcome):
                    if said.spoils:
                        # Every program after it would be invalid.
                        self._end()
                    return said
                locally = False
        except (EOFError, OSError):
            self._process.join(timeout_s)
            return self._ended(
                "invalid" if locally else "crashes", f"signal {-(self._process.exitcode or 0)}"
            )
        return self._ended("invalid" if locally else "hangs", f"no answer within {timeout_s:g} s")

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(20)
        self._end()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._data))
        self._process.start()
        other.close()
        if not self._pipe.poll(_START_TIMEOUT_S) or self._pipe.recv() != "ready":
            self._end()
            raise RuntimeError("the process that runs programs does not start")

    def _ended(self, status: str, what: str) -> Outcome:
        self._end()
        return Outcome(status, what, f"{status}: {what}")

    def _end(self) -> None:
        """End the process and those that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._pipe.close()
        self._process = self._pipe = None


def _serve(pipe: Connection, data: Path) -> None:
    os.setpgid(0, 0)
    _silence()
    from fuzz.running import Runner

    runner = Runner(data)
    pipe.send("ready")
    with contextlib.suppress(EOFError):
        while (program := pipe.recv()) is not None:
            pipe.send(runner.run(program, lambda: pipe.send("local ROOT is done")))
    runner.close()


def _silence() -> None:
    """Let nothing be printed: programs that crash print pages. With FUZZ_OUTPUT set, they may."""
    warnings.simplefilter("ignore")
    if not os.environ.get("FUZZ_OUTPUT"):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)


@contextlib.contextmanager
def data_folder() -> Iterator[Path]:
    """Write the sources' files into a folder that is deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-data-"))
    process = multiprocessing.get_context("spawn").Process(target=_write, args=(folder,))
    process.start()
    try:
        process.join(_START_TIMEOUT_S)
        if process.exitcode != 0:
            process.kill()
            raise RuntimeError("the files of the sources could not be written")
        yield folder
    finally:
        shutil.rmtree(folder)


def _write(folder: Path) -> None:
    _silence()
    from fuzz import sources

    sources.write(folder)


def examine(program: Program) -> Outcome:
    """Run one program in a process of its own."""
    with data_folder() as data:
        worker = Worker(data)
        try:
            return worker.run(program)
        finally:
            worker.close()
