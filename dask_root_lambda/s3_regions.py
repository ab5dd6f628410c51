"""In which regions buckets are."""

from __future__ import annotations

import functools
from typing import Any

from lambda_runtime.remote import access
from lambda_runtime.remote.names import Place, parse_s3


def region_of(url: str) -> str | None:
    """Return the region of the bucket that an object is in; None where S3 does not say.

    It asks S3 once per bucket and process. S3 names the region also to who may not read the bucket.

    Parameters
    ----------
    url
        The object's name, as ROOT is given it.
    """
    name = parse_s3(url)
    return None if name is None else _region(name.place, name.bucket)


@functools.cache
def _region(place: Place, bucket: str) -> str | None:
    try:
        answer: Any = access.signer(place).client(bucket).head_bucket(Bucket=bucket)
    except Exception as error:  # botocore makes its error classes at run time
        answer = getattr(error, "response", {})
    named = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return str(named) if named else None
