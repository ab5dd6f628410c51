"""Users' scripts as processes: what they print, when they end, and what they leave behind."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

PATIENCE_S = 90.0
"""For what has to happen at some time, on a machine that is busy."""

SUM = """
import sys
from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.protocol.errors import DaskRootLambdaError
with LambdaCluster(execution=sys.argv[1], concurrency=1, dashboard_address=None) as cluster:
    with cluster.get_client():
        try:
            print(RDataFrame("Events", sys.argv[2], npartitions=2).Sum("x").GetValue())
        except DaskRootLambdaError as error:
            print(type(error).__name__, error)
"""
"""Sums ``x`` of a file, under an execution: its arguments; or prints the error."""


def limit_s(seconds):
    """Return a limit of time that holds on a machine which is busier than it has cores, in proportion."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Script:
    """A script that runs in a process of its own.

    Parameters
    ----------
    source
        Its text.
    arguments
        What ``sys.argv`` holds besides.
    options
        Of `subprocess.Popen`.
    """

    def __init__(self, source, *arguments, **options):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", source, *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options,
        )  # fmt: skip
        self.family = set()
        self.said = ""
        self._lines = queue.Queue()
        self._readers = [threading.Thread(target=each, daemon=True) for each in (self._read, self._listen)]
        for reader in self._readers:
            reader.start()

    def _read(self):
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _listen(self):
        with self.process.stderr as lines:
            for line in lines:
                self.said += line

    def line(self, timeout_s=PATIENCE_S):
        """Return its next line; None at the end."""
        return self._lines.get(timeout=timeout_s)

    def wait_for(self, word):
        """Wait for the line that is this word."""
        while (line := self.line()) != word:
            assert line is not None, self.said

    def wait_until(self, condition, timeout_s=PATIENCE_S):
        """Wait until something holds, which the script is to bring about."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline_s, self.said
            time.sleep(0.02)

    def children(self):
        """Return the processes that it has started, and theirs."""
        if self.process.poll() is None:
            self.family |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self.family

    def answer(self):
        """Send it an empty line, for which it waits; its standard input has to be a pipe."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def send(self, number):
        """Send a signal."""
        self.children()
        self.process.send_signal(number)

    def end(self, timeout_s=PATIENCE_S):
        """Wait for its end; return its status and what it wrote to standard error."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        status = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(timeout_s)
        return status, self.said

    @property
    def left_over(self):
        """Processes of it that live still."""
        return [each for each in self.family if each.is_running() and each.status() != "zombie"]


@contextmanager
def running(source, *arguments, **options) -> Iterator[Script]:
    """Run a script, and end it with all that it has started, whatever happens."""
    script = Script(source, *arguments, env={**os.environ, **options.pop("env", {})}, **options)
    try:
        yield script
    finally:
        for each in script.children():
            with suppress(psutil.NoSuchProcess):
                each.kill()
        script.process.kill()
        script.end()


def wait_until(condition, timeout_s=PATIENCE_S):
    """Wait until something holds."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
