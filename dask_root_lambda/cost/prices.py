"""List prices of AWS Lambda: what a bill costs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from dask_root_lambda.cost.billing import MB_PER_GB, Billing
from dask_root_lambda.protocol.errors import ConfigurationError

_FREE_STORAGE_MB = 512


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
        storage_gb = max(0, storage_mb - _FREE_STORAGE_MB) / MB_PER_GB
        restored_gb = billing.memory_mb / MB_PER_GB if billing.restore_s is not None else 0.0
        return (
            self.request
            + billing.gb_seconds * self.gb_second
            + storage_gb * billing.billed_s * self.storage_gb_second
            + restored_gb * self.restore_gb
        )

    def standing_usd_per_s(self, memory_mb: int) -> float:
        """Cost in USD per second of keeping one version with SnapStart, invoked or not."""
        return memory_mb / MB_PER_GB * self.cache_gb_second


NO_PRICES = Prices("this machine", "", 0.0, 0.0, 0.0, 0.0, 0.0)
"""Prices of what runs in the user's own process: nothing."""


def prices_of(region: str, architecture: str = "x86_64", own: Mapping[str, Any] | None = None) -> Prices:
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
