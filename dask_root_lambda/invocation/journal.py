"""The journal of a deployment: what this user's runs on it were billed, one line of JSON a minute at most.

AWS tells what was spent a day late, and only to whom may see the bill. This is what our own reports say.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from dask_root_lambda import state_home
from dask_root_lambda.invocation import aws

logger = logging.getLogger(__name__)

FILE = "journal.jsonl"
"""Its name in the directory of a deployment."""

_LINE_EVERY_S = 60.0
"""A process that is killed loses the figures of so long at most, plus what was in flight."""


@dataclass(frozen=True)
class Spent:
    """What invocations were billed, together."""

    invocations: int = 0
    """Times the function was run."""
    billed_s: float = 0.0
    """Seconds billed."""
    gb_seconds: float = 0.0
    """Billed seconds times memory, GB of 2^30 bytes."""
    usd: float = 0.0
    """Cost at list price, USD."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.invocations + other.invocations,
            self.billed_s + other.billed_s,
            self.gb_seconds + other.gb_seconds,
            self.usd + other.usd,
        )


class Journal:
    """Appends what is spent to a file; all methods may be called from any thread.

    Parameters
    ----------
    path
        The file; it and its directory are made when there is something to write.
    clock
        Seconds since the epoch.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._pending = Spent()
        self._written_s = clock()

    @classmethod
    def of(cls, deployment: str, account: str, session: aws.Session) -> Journal:
        """Open the journal of a deployment; see `dask_root_lambda.state_home.directory`."""
        return cls(state_home.directory(account, session.region, deployment, session.endpoint) / FILE)

    def add(self, spent: Spent) -> None:
        """Count an invocation, and write a line if the last one is a while ago."""
        with self._lock:
            self._pending += spent
            due = self._clock() - self._written_s >= _LINE_EVERY_S
        if due:
            self.flush()

    def flush(self) -> None:
        """Write what was not written yet. A journal that cannot be written is no reason to fail a run."""
        with self._lock:
            pending, self._pending = self._pending, Spent()
            now_s = self._clock()
            self._written_s = now_s
        if pending.invocations == 0:
            return
        time_text = datetime.fromtimestamp(now_s, timezone.utc).isoformat(timespec="seconds")
        line = json.dumps({"time": time_text, **asdict(pending)})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # One short write in append mode: lines of several processes do not mix.
            with self._path.open("a") as file:
                file.write(f"{line}\n")
        except OSError as error:
            logger.warning("the journal %s cannot be written: %s", self._path, error)


def spent_since(path: Path, start: datetime) -> Spent:
    """Add up the lines of a journal from ``start`` on; lines that cannot be read are left out."""
    total = Spent()
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return total
    for line in lines:
        try:
            entry = json.loads(line)
            if datetime.fromisoformat(entry.pop("time")) >= start:
                total += Spent(**entry)
        except (ValueError, TypeError, KeyError, AttributeError):
            logger.warning("a line of %s cannot be read: %.80s", path, line)
    return total


def month_start(now: datetime) -> datetime:
    """Return the first moment of a month in UTC, by which AWS bills."""
    return now.astimezone(timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
