"""Objects that a pattern matches."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from typing import Any

from dask_root_lambda.protocol.errors import InputError
from lambda_runtime.remote import access
from lambda_runtime.remote.names import S3Name

_MOVES = 2


def matching(pattern: S3Name) -> list[S3Name]:
    """Return the objects that a pattern matches, sorted; ``*`` stops at a slash, as for files.

    Raises
    ------
    InputError
        The bucket cannot be listed.
    """
    fits = re.compile("/".join(_expression(part) for part in pattern.key.split("/")))
    keys = sorted(key for key in _keys(pattern) if fits.fullmatch(key))
    return [S3Name(pattern.bucket, key, pattern.place) for key in keys]


def below(folder: S3Name) -> list[S3Name]:
    """Return the objects whose keys begin with a folder's, sorted.

    Raises
    ------
    InputError
        The bucket cannot be listed.
    """
    keys = sorted(key for key in _keys(folder) if key.startswith(folder.key) and not key.endswith("/"))
    return [S3Name(folder.bucket, key, folder.place) for key in keys]


def _expression(part: str) -> str:
    """Return the expression of a part of a pattern; `fnmatch` lets its signs match slashes, too."""
    translated = fnmatch.translate(part).removeprefix("(?s:").removesuffix(")\\Z").removesuffix(")\\z")
    return translated.replace(".*", "[^/]*")


def _keys(pattern: S3Name) -> list[str]:
    signer = access.signer(pattern.place)
    for _ in range(_MOVES):
        try:
            return list(_listed(signer.client(pattern.bucket), pattern))
        except Exception as error:  # botocore makes its error classes at run time
            region, denied = _region(error), _code(error) == "AccessDenied"
            if region and signer.move(pattern.bucket, region):
                continue
            if denied and not signer.is_public(pattern.bucket):
                signer.make_public(pattern.bucket)
                continue
            raise InputError(
                f"cannot list {pattern}: {error}. Check the bucket and the endpoint, and that the "
                "credentials have s3:ListBucket; or name the files one by one"
            ) from None
    raise InputError(f"cannot list {pattern}: its bucket is in another region than it says")


def _listed(client: Any, pattern: S3Name) -> Iterator[str]:
    payer = {"RequestPayer": "requester"} if pattern.place.requester_pays else {}
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=pattern.bucket, Prefix=pattern.fixed, **payer
    )
    for page in pages:
        yield from (item["Key"] for item in page.get("Contents", []))


def _response(error: Exception) -> dict[str, Any]:
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return response


def _code(error: Exception) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))


def _region(error: Exception) -> str:
    headers = _response(error).get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("x-amz-bucket-region") or _response(error).get("Error", {}).get("Region", ""))
