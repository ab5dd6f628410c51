"""Objects that a bucket lists: those that a pattern matches, and what they are now."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dask_root_lambda.protocol.errors import InputError
from lambda_runtime.remote import access, names
from lambda_runtime.remote.names import S3Name

_MOVES = 2
FEW = 64
"""Objects up to which each is asked for as quickly as the bucket is listed."""
_PAGE = 1000
"""Objects in a page of a list, at most."""
_VAIN = 4
"""How many times as many pages may be listed as objects are wanted: others may lie between them."""


@dataclass(frozen=True)
class State:
    """What a list says of an object."""

    size: int
    tag: str
    """Its ETag, with quotes."""
    mtime_ns: int
    """Time of the last change, ns since the epoch, in whole seconds."""


def matching(pattern: S3Name) -> list[S3Name]:
    """Return the objects that a pattern matches, sorted; ``*`` stops at a slash, as for files.

    Raises
    ------
    InputError
        The bucket cannot be listed.
    """
    fits = re.compile("/".join(_expression(part) for part in pattern.key.split("/")))
    keys = sorted(key for key in _keys(pattern, pattern.fixed) if fits.fullmatch(key))
    return [S3Name(pattern.bucket, key, pattern.place) for key in keys]


def below(folder: S3Name) -> list[S3Name]:
    """Return the objects whose keys begin with a folder's, sorted.

    Raises
    ------
    InputError
        The bucket cannot be listed.
    """
    keys = sorted(key for key in _keys(folder, folder.key) if not key.endswith("/"))
    return [S3Name(folder.bucket, key, folder.place) for key in keys]


def are_many(urls: Iterable[str]) -> bool:
    """Whether among files are so many objects that to list their bucket is quicker than to ask for each."""
    far = (url for url in urls if names.parse_s3(url) is not None)
    return next(itertools.islice(far, FEW, None), None) is not None


def states(objects: Iterable[S3Name]) -> dict[S3Name, State]:
    """Return what objects are now, of those that are listed sooner than each could be asked for.

    Parameters
    ----------
    objects
        The objects. Where they are few, or lie among many others, and where a bucket cannot be listed, they
        are not among those that are returned.
    """
    groups = defaultdict(set)
    for name in objects:
        groups[name.bucket, name.place].add(name.key)
    found = {}
    for (bucket, place), keys in groups.items():
        if len(keys) <= FEW:
            continue
        first = S3Name(bucket, min(keys), place)
        try:
            for key, state in _states(first, _prefix(min(keys), max(keys)), max(keys), len(keys)):
                if key in keys:
                    found[S3Name(bucket, key, place)] = state
        except InputError:
            continue  # of one that may not be listed, objects may be read
    return found


def _prefix(first: str, last: str) -> str:
    """Return what keys begin with, of which these are the first and the last in order."""
    pairs = zip(first, last, strict=False)
    return first[: sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))]


def _states(name: S3Name, prefix: str, last: str, wanted: int) -> Iterator[tuple[str, State]]:
    """Go through a list as far as the last key, and not for long."""
    most = _VAIN * (wanted // _PAGE + 1) * _PAGE
    for item in itertools.islice(_items(name, prefix), most):
        if item["Key"] > last:
            return
        changed_s = int(item["LastModified"].timestamp())
        yield item["Key"], State(item["Size"], item["ETag"], changed_s * 1_000_000_000)


def _expression(part: str) -> str:
    """Return the expression of a part of a pattern; `fnmatch` lets its signs match slashes, too."""
    translated = fnmatch.translate(part).removeprefix("(?s:").removesuffix(")\\Z").removesuffix(")\\z")
    return translated.replace(".*", "[^/]*")


def _keys(name: S3Name, prefix: str) -> Iterator[str]:
    return (item["Key"] for item in _items(name, prefix))


def _items(name: S3Name, prefix: str) -> Iterator[Any]:
    """Go through what the bucket of a name lists: keys, sizes, times and ETags.

    Raises
    ------
    InputError
        It cannot be listed.
    """
    signer, began, made_public = access.signer(name.place), False, False
    for _ in range(_MOVES):
        try:
            for page in _pages(signer.client(name.bucket), name, prefix):
                began = True
                yield from page
        except Exception as error:  # botocore makes its error classes at run time
            region, denied = _region(error), _code(error) == "AccessDenied"
            if not began and region and signer.move(name.bucket, region):
                continue
            if not began and denied and not signer.is_public(name.bucket):
                signer.make_public(name.bucket)
                made_public = True
                continue
            if made_public:
                # Who may not list a bucket may read of it, with a signature.
                signer.keep_private(name.bucket)
            raise InputError(
                f"cannot list {name}: {error}. Check the bucket and the endpoint, and that the "
                "credentials have s3:ListBucket; or name the files one by one"
            ) from None
        return
    raise InputError(f"cannot list {name}: its bucket is in another region than it says")


def _pages(client: Any, name: S3Name, prefix: str) -> Iterator[Any]:
    payer = {"RequestPayer": "requester"} if name.place.requester_pays else {}
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=name.bucket, Prefix=prefix, **payer)
    for page in pages:
        yield page.get("Contents", [])


def _response(error: Exception) -> dict[str, Any]:
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return response


def _code(error: Exception) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))


def _region(error: Exception) -> str:
    headers = _response(error).get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("x-amz-bucket-region") or _response(error).get("Error", {}).get("Region", ""))
