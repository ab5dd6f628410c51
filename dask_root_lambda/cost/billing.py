"""What an invocation is billed for, and what that costs."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from dask_root_lambda.protocol.errors import ConfigurationError

_MB_PER_GB = 1024
"""Lambda's gigabyte: 1,769 MB are 1.73 GB on the bill."""
_FREE_STORAGE_MB = 512

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
        return self.billed_s * self.memory_mb / _MB_PER_GB


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


@dataclass(frozen=True)
class Prices:
    """List prices of one region, USD."""

    region: str
    """The region that the prices are of."""
    date: str
    """When they were read off the price list; empty where nobody says."""
    gb_second: float
    """Per GB-second of billed duration, of the function's architecture."""
    request: float
    storage_gb_second: float
    """Per GB-second of /tmp beyond 512 MB."""
    restore_gb: float
    """Per GB restored from a SnapStart snapshot."""
    cache_gb_second: float
    """Per GB-second that a version with SnapStart is kept."""

    def usd(self, billing: Billing, storage_mb: int = _FREE_STORAGE_MB) -> float:
        """Cost of one invocation in USD: request, duration, restore, and /tmp beyond what is free."""
        storage_gb = max(0, storage_mb - _FREE_STORAGE_MB) / _MB_PER_GB
        restored_gb = billing.memory_mb / _MB_PER_GB if billing.restore_s is not None else 0.0
        return (
            self.request
            + billing.gb_seconds * self.gb_second
            + storage_gb * billing.billed_s * self.storage_gb_second
            + restored_gb * self.restore_gb
        )

    def standing_usd_per_s(self, memory_mb: int) -> float:
        """Cost in USD per second of keeping one version with SnapStart, invoked or not."""
        return memory_mb / _MB_PER_GB * self.cache_gb_second


NO_PRICES = Prices("this machine", "", 0.0, 0.0, 0.0, 0.0, 0.0)
"""Of what runs in the user's own process."""


def prices(region: str, architecture: str = "x86_64", own: Mapping[str, Any] | None = None) -> Prices:
    """Return the list prices of a region, or of the default region where it is not in the table.

    Parameters
    ----------
    region
        AWS's name of the region.
    architecture
        ``x86_64`` or ``arm64``.
    own
        More regions, in the form of the packaged table, from the user's configuration; each may have a
        ``date`` of its own.
    """
    table = _packaged_prices()
    packaged = {name: {"date": table["date"], **row} for name, row in table["regions"].items()}
    regions = {**packaged, **(own or {})}
    known = region if region in regions else str(table["default-region"])
    row = regions[known]
    try:
        return Prices(
            region=known,
            date=str(row.get("date", "")),
            gb_second=float(row[architecture]),
            request=float(row["request"]),
            storage_gb_second=float(row["storage"]),
            restore_gb=float(row["snapstart-restore"]),
            cache_gb_second=float(row["snapstart-cache"]),
        )
    except KeyError as error:
        raise ConfigurationError(
            f"the prices of {known} lack {error}: add it to dask-root-lambda.prices"
        ) from None


@functools.cache
def _packaged_prices() -> Mapping[str, Any]:
    text = resources.files("dask_root_lambda.cost").joinpath("prices.yaml").read_text()
    table: Mapping[str, Any] = yaml.safe_load(text)
    return table
