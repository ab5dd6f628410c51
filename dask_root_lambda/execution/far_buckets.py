"""Buckets in other regions than the function: who reads them is warned, and the transfer is priced."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from dask_root_lambda import s3_regions
from dask_root_lambda.cost.prices import GB, is_priced, transfer_usd_per_gb
from dask_root_lambda.execution.account import Account
from dask_root_lambda.execution.ledger import Ledger
from dask_root_lambda.invocation.invokers import Invoker
from dask_root_lambda.plan.steps import PackedMapper
from dask_root_lambda.protocol.traffic import Traffic, of_source
from lambda_runtime.remote import names

logger = logging.getLogger(__name__)


class FarBuckets:
    """Looks where the buckets of each run are, before its first range is sent.

    Parameters
    ----------
    ledger
        Is told what transfer costs, and what the report is to say.
    prices
        More regions for the price table, from the user's configuration.
    region_of
        Returns the region of an object's bucket; None where nobody knows.
    """

    def __init__(
        self,
        ledger: Ledger,
        prices: Mapping[str, Any] | None = None,
        region_of: Callable[[str], str | None] = s3_regions.region_of,
    ) -> None:
        self._ledger = ledger
        self._prices = prices
        self._region_of = region_of
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], Account] = {}
        """Account under which each run was looked at last, for each region of a function."""

    def look(self, mapper: PackedMapper, account: Account, invoker: Invoker) -> None:
        """Look at the buckets of a run, once; other ranges of it need not wait."""
        region = invoker.region
        with self._lock:
            if not region or self._seen.get((mapper.run, region)) is account:
                return
            self._seen[mapper.run, region] = account
        for key, (url, size) in _buckets(mapper).items():
            found = self._region_of(url)
            if found is not None and found != region:
                self._warn(of_source(key), found, region, size)

    def _warn(self, bucket: Traffic, source: str, target: str, size: int) -> None:
        usd_per_gb = transfer_usd_per_gb(source, target, self._prices)
        self._ledger.price_transfer(target, bucket, usd_per_gb)
        size_gb = size / GB
        text = (
            f"{bucket.source} is in {source}, the function in {target}: transfer costs {usd_per_gb:g} USD "
            f"per GB, {usd_per_gb * size_gb:.3g} USD if the run reads all {size_gb:,.3f} GB that it names "
            f"there. A bucket in {target} costs none: 'dask-root-lambda copy'"
        )
        logger.warning("%s", text)
        self._ledger.note(f"{text}.")


def _buckets(mapper: PackedMapper) -> dict[str, tuple[str, int]]:
    """Return the buckets that a run reads, by their source's key: a URL, and the size of the files there."""
    found: dict[str, tuple[str, int]] = {}
    for url, size in zip(mapper.files, mapper.sizes, strict=True):
        if names.parse_s3(url) is not None:
            key = names.source(url)
            first, before = found.get(key, (url, 0))
            found[key] = first, before + size
    return {key: each for key, each in found.items() if is_priced(of_source(key))}
