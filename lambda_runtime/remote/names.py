"""Names of objects: those that users write, and those that ROOT is given.

Users write ``s3://BUCKET/KEY``. ROOT is given ``https://s3.invalid/PLACE/BUCKET/KEY``, in which PLACE says
which S3 it is and who pays: RNTuples are opened by names of http and https only, and ROOT takes some
characters of keys for its own signs. Names of web servers stay as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

_PREFIX = "https://s3.invalid/"
"""A host that never exists: https://datatracker.ietf.org/doc/html/rfc2606#section-2"""
_AWS = "aws"
_PAYER = ",requester-pays"
_REMOTE = re.compile(r"(?:s3|https?):", re.IGNORECASE)
_XROOTD = re.compile(r"x?roots?://")
_SAFE = "/-_.~"
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Place:
    """An S3, and how it is asked."""

    endpoint: str = ""
    """URL of the endpoint; empty for AWS's own."""
    requester_pays: bool = False
    """Whether the reader agrees to pay for requests and traffic."""


@dataclass(frozen=True)
class S3Name:
    """An object, or a pattern of keys."""

    bucket: str
    key: str
    place: Place = Place()

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def is_pattern(self) -> bool:
        """Whether the key is a pattern; a question mark alone is a character of a key."""
        return bool(re.search(r"[*\[]", self.key))

    @property
    def fixed(self) -> str:
        """What all keys that match begin with."""
        return _WILDCARD.split(self.key, maxsplit=1)[0]

    def internal(self) -> str:
        """Return the name that ROOT is given."""
        options = quote(self.place.endpoint or _AWS, safe="") + (_PAYER if self.place.requester_pays else "")
        # ROOT takes what follows ".root/" for a tree.
        key = quote(self.key, safe=_SAFE).replace(".root/", ".root%2F")
        return f"{_PREFIX}{options}/{self.bucket}/{key}"


def is_xrootd(url: str) -> bool:
    """Whether a name is that of a file on an XRootD server."""
    return _XROOTD.match(url) is not None


def is_remote(url: str) -> bool:
    """Whether a name is one of an object, in S3 or on a web server."""
    return _REMOTE.match(url) is not None


def parse_s3(url: str, place: Place | None = None) -> S3Name | None:
    """Read a name, the user's or the internal one; None if it is not one of S3.

    Parameters
    ----------
    url
        The name.
    place
        Which S3 a user's name means.
    """
    if url.startswith(_PREFIX):
        options, bucket, key = url.removeprefix(_PREFIX).split("/", 2)
        endpoint = unquote(options.removesuffix(_PAYER))
        named = Place("" if endpoint == _AWS else endpoint, options.endswith(_PAYER))
        return S3Name(bucket, unquote(key), named)
    if not url.startswith("s3://"):
        return None
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return S3Name(bucket, key, place or Place())


def shown(url: str) -> str:
    """Return a name as users know it."""
    name = parse_s3(url)
    return url if name is None else str(name)


def source(url: str) -> str:
    """Return where an object comes from, as `dask_root_lambda.protocol.traffic.Traffic.key` has it."""
    name = parse_s3(url)
    if name is not None:
        return f"s3://{name.bucket} {name.place.endpoint}".rstrip()
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
