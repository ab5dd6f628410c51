"""All benchmarks, one after the other, each in a process of its own.

A benchmark that fails, or misses a target, is said at the end; the others are run. The status is 1 then.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figure, read, run

NAMES = (
    "payload",
    "booking",
    "rate",
    "fleet",
    "page",
    "merge",
    "cold",
    "snapstart",
    "dimuon",
    "estimating",
    "chaos",
    "scaling",
    "soak",
    "reading",
    "copying",
    "starting",
)
_TIMEOUT_S = 1200.0


def measure(names: Sequence[str] = NAMES) -> list[Figure]:
    """Run benchmarks by name; return the figures of all.

    Raises
    ------
    SystemExit
        One of them failed.
    """
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            path = Path(directory) / f"{name}.json"
            command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", "--json", str(path)]
            subprocess.run(command, timeout=_TIMEOUT_S, check=False)
            print(flush=True)
            figures += read(path) if path.exists() else []
    failed = sorted(set(names) - {figure.benchmark for figure in figures})
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")
    return figures


if __name__ == "__main__":
    run(measure, __doc__)
