"""What was read, by where it came from: bytes, and the requests that brought them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from dask_root_lambda.protocol import members

LOCAL = "file://"
"""The source of files on the disks of the machine that reads them."""


@dataclass(frozen=True)
class Traffic:
    """What came from one source."""

    source: str
    """``s3://BUCKET``, ``https://HOST``, ``root://HOST``, or `LOCAL`."""
    endpoint: str = ""
    """URL of the S3 that the bucket is in; empty for AWS's own, and for what is no bucket."""
    bytes_read: int = 0
    """Bytes received: what was asked for, and gaps between."""
    gets: int = 0
    """GET requests; of disks and XRootD servers, reads."""
    heads: int = 0
    lists: int = 0
    puts: int = 0
    """PUT and POST requests."""
    bytes_kept: int = 0
    """Bytes written to be read by later runs."""
    byte_days: int = 0
    """The same times the days for which they are kept."""

    @property
    def key(self) -> str:
        """What it is told apart by."""
        return f"{self.source} {self.endpoint}".rstrip()

    @property
    def is_s3(self) -> bool:
        """Whether it came from a bucket."""
        return self.source.startswith("s3://")

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Traffic:
        """Read what `to_json` wrote."""
        counts = {name: members.whole(data, name, default=0) for name in _COUNTS}
        return cls(members.text(data, "source"), members.text(data, "endpoint", default=""), **counts)

    def __add__(self, other: Traffic) -> Traffic:
        """Add what came from the same source."""
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in _COUNTS})

    def __sub__(self, other: Traffic) -> Traffic:
        """Take away what is a part of it."""
        return replace(self, **{name: getattr(self, name) - getattr(other, name) for name in _COUNTS})


_COUNTS = ("bytes_read", "gets", "heads", "lists", "puts", "bytes_kept", "byte_days")


def of_source(key: str, **counts: int) -> Traffic:
    """Make traffic of a source's key; see `Traffic.key`."""
    source, _, endpoint = key.partition(" ")
    return Traffic(source, endpoint, **counts)


def summed(parts: Iterable[Traffic]) -> tuple[Traffic, ...]:
    """Add up traffic, each source once, in the order of their names."""
    found: dict[str, Traffic] = {}
    for part in parts:
        found[part.key] = found[part.key] + part if part.key in found else part
    return tuple(found[key] for key in sorted(found))
