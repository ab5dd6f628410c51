"""What graphs took before, on this user's machine: by it, the next run is divided."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from dask_root_lambda import state_home

_MOST_GRAPHS = 1000
"""Graphs that are remembered; those used longest ago are forgotten."""


@dataclass(frozen=True)
class Record:
    """What a graph took when it was last run to its end."""

    work_s: float
    """Seconds that its ranges took together."""
    size: float
    """How much they read: bytes of files, or entries where there are none."""

    def work_of(self, size: float) -> float | None:
        """Return the seconds that as much of another dataset takes; None where nothing can be said."""
        return self.work_s / self.size * size if self.size > 0 and self.work_s > 0 else None


def remember(graph: str, record: Record) -> None:
    """Keep what a graph took; where nothing can be written, nothing is kept."""
    directory = _directory()
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=directory, prefix=".")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(asdict(record), file)
            Path(name).replace(directory / f"{graph}.json")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _forget_oldest(directory)


def recall(graph: str) -> Record | None:
    """Return what a graph took; None if it is not known."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        record = Record(**json.loads((_directory() / f"{graph}.json").read_text()))
        if math.isfinite(record.work_s + record.size):
            return record
    return None


def _directory() -> Path:
    return state_home.home() / "history"


def _forget_oldest(directory: Path) -> None:
    records = list(directory.glob("*.json"))
    if len(records) > _MOST_GRAPHS:
        by_age = sorted(records, key=lambda path: path.stat().st_mtime_ns)
        for path in by_age[: len(records) - _MOST_GRAPHS]:
            path.unlink(missing_ok=True)
