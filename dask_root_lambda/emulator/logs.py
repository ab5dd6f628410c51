"""What environments write, and what Lambda writes beside it."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone

from dask_root_lambda.emulator.log_lines import TAIL_BYTES

# The emulator holds logs in memory; these bounds keep it flat, and are far above what anybody reads.
EVENTS_PER_STREAM = 10_000
STREAMS = 2_000
# CloudWatch Logs takes no longer events.
EVENT_BYTES = 256 * 1024
READ_BYTES = 1 << 16
# A pipe holds 64 KB: more than a few reads are what is written meanwhile, and the event loop has other work.
READS = 16


@dataclass(frozen=True)
class LogEvent:
    """One line of a log."""

    timestamp_ms: int
    """Since the epoch."""
    message: str
    """Without its end of line."""


@dataclass
class LogStream:
    """The log of one environment."""

    group: str
    """Log group."""
    name: str
    """Log stream."""
    now_s: Callable[[], float]
    """The clock."""
    events: deque[LogEvent] = field(default_factory=lambda: deque(maxlen=EVENTS_PER_STREAM))
    """Complete lines that were not handed over yet."""
    _partial: bytes = b""
    _tail: bytearray = field(default_factory=bytearray)

    def open_tail(self) -> None:
        """Start to collect the end of the log anew, for the next invocation."""
        self._tail.clear()

    @property
    def tail(self) -> bytes:
        """The last 4 KB since ``open_tail``."""
        return bytes(self._tail)

    def write(self, data: bytes) -> None:
        """Append what a process wrote."""
        self._tail += data
        if len(self._tail) > TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        for line in lines:
            self._append(line)
        if len(self._partial) > EVENT_BYTES:
            self._append(self._partial)
            self._partial = b""

    def write_line(self, line: str) -> None:
        """Append a line of Lambda's own, after ending what a process left unfinished."""
        if self._partial:
            self.write(b"\n")
        if line:
            self.write(line.encode())

    def _append(self, line: bytes) -> None:
        now_ms = int(self.now_s() * 1000)
        for start in range(0, max(len(line), 1), EVENT_BYTES):
            piece = line[start : start + EVENT_BYTES]
            self.events.append(LogEvent(now_ms, piece.decode("utf-8", "replace")))


class LogPipe:
    """What a process writes, on its way into a log stream.

    Parameters
    ----------
    stream
        Where it goes.
    """

    def __init__(self, stream: LogStream) -> None:
        self._stream = stream
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        asyncio.get_running_loop().add_reader(self._read_end, self.drain)

    def writer(self) -> int:
        """Return a new descriptor for a process to write to."""
        return os.dup(self._write_end)

    def drain(self) -> None:
        """Take over what was written so far; of somebody who writes without end, only some."""
        for _ in range(READS):
            if self._read_end < 0:
                return
            try:
                self._stream.write(os.read(self._read_end, READ_BYTES))
            except BlockingIOError:
                return

    def close(self) -> None:
        """Take over the rest, and no more."""
        if self._read_end < 0:
            return
        self.drain()
        asyncio.get_running_loop().remove_reader(self._read_end)
        os.close(self._read_end)
        os.close(self._write_end)
        self._read_end = -1


class LogStore:
    """The logs of all environments, the oldest forgotten first.

    Parameters
    ----------
    now_s
        The clock.
    """

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self.streams: OrderedDict[tuple[str, str], LogStream] = OrderedDict()
        """By group and name."""

    def open(self, group: str, version: str) -> LogStream:
        """Start the log of a new environment, under a name as AWS gives them."""
        day = datetime.fromtimestamp(self._now_s(), timezone.utc).strftime("%Y/%m/%d")
        stream = LogStream(group, f"{day}/[{version}]{secrets.token_hex(16)}", self._now_s)
        self.streams[group, stream.name] = stream
        while len(self.streams) > STREAMS:
            self.streams.popitem(last=False)
        return stream
