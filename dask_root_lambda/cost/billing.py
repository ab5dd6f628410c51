"""What an invocation is billed for, as Lambda's own records say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

MB_PER_GB = 1024
"""Lambda's gigabyte: 1,769 MB are 1.73 GB on the bill."""
_REPORT_FIELD = re.compile(r"(Billed Restore Duration|[A-Z][A-Za-z]+(?: [A-Z][A-Za-z]+)*): ([0-9.]+) (ms|MB)")


@dataclass(frozen=True)
class Billing:
    """What the REPORT line of an invocation says.

    https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
    """

    duration_s: float = 0.0
    """Seconds that the handler ran."""
    billed_s: float = 0.0
    """Seconds billed: duration and, in a new environment, INIT or the function's part of the restore; rounded
    up to a millisecond."""
    memory_mb: int = 0
    """The function's configured memory, MB of 2^20 bytes."""
    peak_memory_mb: float = 0.0
    """Largest memory use of the environment so far, MB of 2^20 bytes."""
    init_s: float | None = None
    """Seconds of INIT; None in an environment that was there already."""
    restore_s: float | None = None
    """Seconds of restoring a SnapStart snapshot; None where none was."""

    @property
    def cold(self) -> bool:
        """Whether the environment was started, or restored, for this invocation."""
        return self.init_s is not None or self.restore_s is not None

    @property
    def gb_seconds(self) -> float:
        """Memory times billed duration."""
        return self.billed_s * self.memory_mb / MB_PER_GB


def parse_report(log_tail: str) -> Billing | None:
    """Read the REPORT line out of the last 4 KB of an invocation's log, text or JSON.

    Returns
    -------
    Billing or None
        None where the line is missing or cut off.
    """
    for line in reversed(log_tail.splitlines()):
        if line.startswith("REPORT "):
            found = {
                name: float(value) / (1000 if unit == "ms" else 1)
                for name, value, unit in _REPORT_FIELD.findall(line)
            }
            return _billing(found)
        if '"platform.report"' in line:
            return _from_json(line)
    return None


def _billing(found: Mapping[str, float]) -> Billing | None:
    if not {"Duration", "Billed Duration", "Memory Size"} <= found.keys():
        return None
    return Billing(
        duration_s=found["Duration"],
        # What is billed of INIT or of a restore is in it: Lambda's reports of restores show so.
        billed_s=found["Billed Duration"],
        memory_mb=int(found["Memory Size"]),
        peak_memory_mb=found.get("Max Memory Used", 0.0),
        init_s=found.get("Init Duration"),
        restore_s=found.get("Restore Duration"),
    )


_JSON_NAMES = {
    "durationMs": "Duration",
    "billedDurationMs": "Billed Duration",
    "memorySizeMB": "Memory Size",
    "maxMemoryUsedMB": "Max Memory Used",
    "initDurationMs": "Init Duration",
    "restoreDurationMs": "Restore Duration",
}


def _from_json(line: str) -> Billing | None:
    try:
        # Output that does not end its line is before the record.
        metrics = json.loads(line[line.rfind('{"time"') :])["record"]["metrics"]
    except (ValueError, KeyError, TypeError):
        return None
    return _billing(
        {
            _JSON_NAMES[name]: float(value) / (1000 if name.endswith("Ms") else 1)
            for name, value in metrics.items()
            if name in _JSON_NAMES
        }
    )
