"""List prices of AWS Lambda and S3: what a bill, and what was read, costs."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import yaml

from dask_root_lambda.cost.billing import MB_PER_GB, Billing
from dask_root_lambda.protocol.errors import ConfigurationError
from dask_root_lambda.protocol.traffic import Traffic

GB = 2**30
"""Bytes of a gigabyte of transfer and storage on the bill."""
DAYS_PER_MONTH = 30
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
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
    s3_get: float = 0.0
    """Per GET or HEAD request to S3."""
    s3_list: float = 0.0
    """Per LIST, PUT or POST request to S3."""
    s3_storage: float = 0.0
    """Per GB of 2^30 bytes and month that S3 stores."""

    def requests_usd(self, traffic: Iterable[Traffic]) -> float:
        """Cost of requests to S3 in USD; see `is_priced`."""
        return sum(
            (each.gets + each.heads) * self.s3_get + (each.lists + each.puts) * self.s3_list
            for each in traffic
            if is_priced(each)
        )

    def kept_usd(self, traffic: Iterable[Traffic]) -> float:
        """Cost in USD of storing what was written to be kept, for as long as it is; see `is_priced`."""
        byte_days = sum(each.byte_days for each in traffic if is_priced(each))
        return byte_days / GB / DAYS_PER_MONTH * self.s3_storage

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
    known, row, default = _row(region, own)
    try:
        return Prices(
            region=known,
            date=str(row.get("date", "")),
            gb_second=float(row[architecture]),
            request=float(row["request"]),
            storage_gb_second=float(row["storage"]),
            restore_gb=float(row["snapstart-restore"]),
            cache_gb_second=float(row["snapstart-cache"]),
            s3_get=float(row.get("s3-get", default["s3-get"])),
            s3_list=float(row.get("s3-list", default["s3-list"])),
            s3_storage=float(row.get("s3-storage", default["s3-storage"])),
        )
    except KeyError as error:
        raise ConfigurationError(
            f"the prices of {known} lack {error}: add it to dask-root-lambda.prices"
        ) from None


def transfer_usd_per_gb(source: str, target: str, own: Mapping[str, Any] | None = None) -> float:
    """Return the list price of transfer between regions, USD per GB of 2^30 bytes.

    Parameters
    ----------
    source, target
        Regions that the data is in, and is read in; a source that is not in the table has the price of the
        default region.
    own
        See `prices_of`.
    """
    if source == target:
        return 0.0
    _, row, default = _row(source, own)
    return float(row.get("transfer-to", {}).get(target, row.get("transfer", default["transfer"])))


def is_priced(traffic: Traffic) -> bool:
    """Whether something is AWS's S3, or on this machine, where it is an emulated one."""
    return traffic.is_s3 and (not traffic.endpoint or urlsplit(traffic.endpoint).hostname in _LOOPBACK)


def _row(region: str, own: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """Return a region of the table, its prices, and those of the default region."""
    table = _packaged_prices()
    packaged = {name: {"date": table["date"], **row} for name, row in table["regions"].items()}
    regions, default = {**packaged, **(own or {})}, str(table["default-region"])
    known = region if region in regions else default
    return known, regions[known], packaged[default]


@functools.cache
def _packaged_prices() -> Mapping[str, Any]:
    text = resources.files("dask_root_lambda.cost").joinpath("prices.yaml").read_text()
    table: Mapping[str, Any] = yaml.safe_load(text)
    return table
