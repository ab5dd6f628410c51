"""What a run read, by source, and what that costs: once for each range, and besides what other tries read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dask_root_lambda.cost.prices import GB, Prices, is_priced
from dask_root_lambda.protocol.traffic import Traffic

UsdPerGb = Callable[[str, Traffic], float]
"""Region of a function, and what it reads -> USD per GB of transfer to there."""


@dataclass
class Readings:
    """Sums of what answers told. Not thread-safe: the ledger holds its lock."""

    usd_per_gb: UsdPerGb = lambda *_: 0.0
    untold: int = 0
    """Tries of ranges whose answers were lost, or did not tell."""
    _told: dict[tuple[Prices, str], dict[str, Traffic]] = field(default_factory=dict)
    """What all answers told: by price list and region of the function, then by source."""
    _taken: dict[str, Traffic] = field(default_factory=dict)
    """What the answers told whose results were taken, by source."""

    def tell(self, traffic: Iterable[Traffic], prices: Prices, region: str) -> float:
        """Count what an answer tells, whether its result is taken or not; return what it costs, USD."""
        parts = tuple(traffic)
        _add(self._told.setdefault((prices, region), {}), parts)
        return prices.requests_usd(parts) + prices.kept_usd(parts) + self._transfer_usd(parts, region)

    def take(self, traffic: Iterable[Traffic]) -> None:
        """Count what was read for a result that is taken."""
        _add(self._taken, traffic)

    @property
    def usd(self) -> tuple[float, float, float]:
        """Cost in USD of requests to S3, of transfer, and of keeping far data; all tries pay."""
        requests = transfer = kept = 0.0
        for (prices, region), parts in self._told.items():
            requests += prices.requests_usd(parts.values())
            transfer += self._transfer_usd(parts.values(), region)
            kept += prices.kept_usd(parts.values())
        return requests, transfer, kept

    def _transfer_usd(self, parts: Iterable[Traffic], region: str) -> float:
        return sum(part.bytes_read / GB * self.usd_per_gb(region, part) for part in parts if is_priced(part))

    def to_report(self) -> dict[str, Any]:
        """Return the fields of a report that say what was read."""
        every: dict[str, Traffic] = {}
        for parts in self._told.values():
            _add(every, parts.values())
        again = [
            each - self._taken[key] if key in self._taken else each for key, each in sorted(every.items())
        ]
        requests_usd, transfer_usd, kept_usd = self.usd
        return {
            "traffic": tuple(each for _, each in sorted(self._taken.items())),
            "again": tuple(each for each in again if each != Traffic(each.source, each.endpoint)),
            "untold": self.untold,
            "bytes_read": sum(each.bytes_read for each in self._taken.values()),
            "s3_usd": requests_usd,
            "transfer_usd": transfer_usd,
            "kept_usd": kept_usd,
        }


def _add(sums: dict[str, Traffic], traffic: Iterable[Traffic]) -> None:
    for part in traffic:
        sums[part.key] = sums[part.key] + part if part.key in sums else part
