"""Objects in S3: looked at, read in parts, and written."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.manager import TransferConfig, TransferManager

from dask_root_lambda.protocol.errors import InputError, StoreError, UnavailableInputError
from lambda_runtime.copying.content import Content
from lambda_runtime.remote import access
from lambda_runtime.remote.names import S3Name

PART_BYTES = 8 << 20
PARTS_AT_ONCE = 3
IDENTITY = "source-identity"
"""Metadata of an object that says what it is a copy of."""
_T = TypeVar("_T")

_ADVICE = {
    "404": "there is no such object or bucket: check the name",
    "NoSuchKey": "there is no such object: check the name",
    "NoSuchBucket": "there is no such bucket: check its name and the endpoint",
    "412": "it was replaced while it was copied: copy it again",
    "PreconditionFailed": "it was replaced while it was copied: copy it again",
    "403": "access is denied: check the credentials and the bucket's policy",
    "AccessDenied": "access is denied: check the credentials and the bucket's policy",
    "ExpiredToken": "the credentials have expired: renew them, for instance with 'aws sso login'",
    "InvalidAccessKeyId": "this S3 does not know the credentials: check the profile and the endpoint",
    "SignatureDoesNotMatch": "the secret key is wrong: check the profile and the endpoint",
    "InvalidObjectState": "it is in an archive (Glacier): restore it first",
}


class Flow(Protocol):
    """Bytes that come one after the other."""

    crc32: int

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""


def look(url: str, name: S3Name) -> Content:
    """Ask for an object's size, ETag and checksum."""
    found = _asked(name, lambda client: head(client, name))
    changed = found["LastModified"]
    return Content(
        url,
        int(found["ContentLength"]),
        str(found.get("VersionId", "")) + str(found["ETag"]),
        int(changed.timestamp()) * 1_000_000_000,
        _crc32(found),
    )


def read(content: Content, name: S3Name, offset: int, size: int) -> bytes:
    """Read a part of an object, of the version that was looked at."""
    parameters = {"Range": f"bytes={offset}-{offset + size - 1}", **payer(name)}
    tag = content.version[content.version.index('"') :]

    def get(client: Any) -> bytes:
        answer = client.get_object(Bucket=name.bucket, Key=name.key, IfMatch=tag, **parameters)
        with answer["Body"] as body:
            return bytes(body.read())

    return _asked(name, get)


def stored(name: S3Name) -> tuple[int, str] | None:
    """Return the size of an object, and of what it is a copy; None if there is none."""
    try:
        found = head(access.signer(name.place).client(name.bucket), name)
    except ClientError as error:
        if code(error) in ("404", "NoSuchKey"):
            return None
        raise failed(f"write {name}", error) from None
    except BotoCoreError as error:
        raise failed(f"write {name}", error) from None
    return int(found["ContentLength"]), str(found["Metadata"].get(IDENTITY, ""))


def write(flow: Flow, name: S3Name, content: Content) -> None:
    """Write an object, which is there when it is complete, and compare what S3 has with what was sent."""
    client = access.signer(name.place).client(name.bucket)
    extra: dict[str, Any] = {"Metadata": {IDENTITY: content.identity}, **payer(name)}
    if client.meta.config.request_checksum_calculation != "when_required":
        extra |= {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
    try:
        with TransferManager(client, _config()) as manager:
            manager.upload(flow, name.bucket, name.key, extra, [_Sized(content.size)]).result()
        found = head(client, name)
    except (BotoCoreError, ClientError) as error:
        raise failed(f"write {name}", error) from None
    if found["Metadata"].get(IDENTITY) != content.identity:
        raise StoreError(f"{name} was written by another program just now: see which is to be there")
    sums = flow.crc32 if _crc32(found) is not None else None
    if (found["ContentLength"], _crc32(found)) != (content.size, sums):
        client.delete_object(Bucket=name.bucket, Key=name.key)
        raise StoreError(f"{name} has not the content that was sent: it was deleted; copy it again")


class _Sized:
    """Tells s3transfer how long a flow is: that of a large one needs larger parts."""

    def __init__(self, size: int) -> None:
        self._size = size

    def on_queued(self, future: Any, **_: Any) -> None:
        future.meta.provide_transfer_size(self._size)

    def on_progress(self, **_: Any) -> None:
        """Say nothing: bytes are counted where they are read."""

    def on_done(self, **_: Any) -> None:
        """Do nothing."""


def _config() -> TransferConfig:
    return TransferConfig(
        multipart_threshold=PART_BYTES,
        multipart_chunksize=PART_BYTES,
        max_request_concurrency=PARTS_AT_ONCE,
        max_submission_concurrency=1,
        max_in_memory_upload_chunks=PARTS_AT_ONCE,
    )


def head(client: Any, name: S3Name) -> Any:
    """Ask for what S3 knows of an object, its metadata and checksum included."""
    return client.head_object(Bucket=name.bucket, Key=name.key, ChecksumMode="ENABLED", **payer(name))


def payer(name: S3Name) -> dict[str, str]:
    """Return the parameter of requests by which who asks agrees to pay, where that is asked for."""
    return {"RequestPayer": "requester"} if name.place.requester_pays else {}


def _crc32(found: Any) -> int | None:
    """Return the checksum of the whole object; that of an object in parts may be one of their checksums."""
    text = found.get("ChecksumCRC32", "")
    if not text or "-" in text or found.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    return int.from_bytes(base64.b64decode(text), "big")


def _asked(name: S3Name, ask: Callable[[Any], _T]) -> _T:
    """Ask for an object, unsigned where what is signed is denied: it may be public."""
    signer = access.signer(name.place)
    try:
        try:
            return ask(signer.client(name.bucket))
        except ClientError as error:
            if code(error) not in ("403", "AccessDenied") or signer.is_public(name.bucket):
                raise
            return _asked_without_signature(signer, name, ask, error)
    except (BotoCoreError, ClientError) as error:
        raise failed(f"read {name}", error) from None


def _asked_without_signature(
    signer: access.Signer, name: S3Name, ask: Callable[[Any], _T], denied: ClientError
) -> _T:
    signer.make_public(name.bucket)
    try:
        return ask(signer.client(name.bucket))
    except ClientError:
        signer.keep_private(name.bucket)
        raise denied from None


def code(error: Any) -> str:
    """Return S3's name of an error; empty for errors of the connection."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def failed(what: str, error: Exception) -> InputError:
    """Make the error of a request that S3 refused, or did not answer."""
    advice = _ADVICE.get(code(error))
    if advice is not None or (isinstance(error, ClientError) and not _passes(error)):
        return InputError(f"cannot {what}: {advice or error}")
    return UnavailableInputError(f"cannot {what}: {error}")


def _passes(error: ClientError) -> bool:
    """Whether S3 may do later what it did not do now: it was busy, or failed."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return bool(status >= 500 or status == 429)
