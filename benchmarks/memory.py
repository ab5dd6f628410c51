"""Memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")
_FORGET_PEAK = "5"
"""See clear_refs in https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html"""


def peak_mb() -> float:
    """Return the largest resident set of this process so far, MB of 10^6 bytes.

    Not ``ru_maxrss``: that of a child process begins with its parent's.
    """
    return _mb("VmHWM:")


def now_mb() -> float:
    """Return the resident set, MB of 10^6 bytes."""
    return _mb("VmRSS:")


def forget_peak() -> float:
    """Let the peak begin at the resident set of now, and return that, MB of 10^6 bytes."""
    Path("/proc/self/clear_refs").write_text(_FORGET_PEAK)
    return now_mb()


def _mb(name: str) -> float:
    lines = _STATUS.read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6
