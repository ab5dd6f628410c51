"""Objects in S3: looked at, read in parts, and written."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.manager import TransferConfig, TransferManager

from dask_root_lambda.protocol.errors import InputError, StoreError, UnavailableInputError
from lambda_runtime.copying import sending
from lambda_runtime.copying.content import Content, Flow
from lambda_runtime.remote import access, names
from lambda_runtime.remote.names import S3Name

PART_BYTES = 8 << 20
PARTS_AT_ONCE = 3
IDENTITY = "source-identity"
"""Metadata of an object that says what it is a copy of."""
_MOST_PARTS = 10_000
"""S3 takes no more parts in one upload: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
_ROUND_BYTES = 1 << 20
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
    "NoSuchUpload": "the upload was ended by another program, or a rule of the bucket: copy it again",
    "InvalidObjectState": "it is in an archive (Glacier): restore it first",
}


def look(url: str, name: S3Name) -> Content:
    """Ask for an object's size, ETag and checksum."""
    found = _asked(name, lambda client: head(client, name))
    changed = found["LastModified"]
    return Content(
        url,
        int(found["ContentLength"]),
        str(found.get("VersionId", "")) + str(found["ETag"]),
        int(changed.timestamp()) * 1_000_000_000,
        crc32_of(found),
    )


def read(content: Content, name: S3Name, offset: int, size: int) -> bytes:
    """Read a part of an object, of the version that was looked at."""
    parameters = {"Range": f"bytes={offset}-{offset + size - 1}", **payer(name)}

    def get(client: Any) -> bytes:
        answer = client.get_object(Bucket=name.bucket, Key=name.key, IfMatch=_tag(content), **parameters)
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


def write(flow: Flow, name: S3Name, content: Content, watch: Callable[[int], None]) -> None:
    """Write an object, which is there when it is complete, and compare what S3 has with what was sent.

    What ``watch`` raises cuts off what is being sent.
    """
    client = access.signer(name.place).client(name.bucket, writes=True)
    extra = {"Metadata": {IDENTITY: content.identity}, **payer(name), **checksum(client)}
    try:
        with sending.raising(), TransferManager(client, _config()) as manager:
            manager.upload(flow, name.bucket, name.key, extra, [_Watched(content.size, watch)]).result()
    except (BotoCoreError, ClientError) as error:
        raise failed(f"write {name}", error) from None
    compare(name, content, flow.crc32)


def is_within(content: Content, name: S3Name) -> bool:
    """Tell whether a file is an object in the S3 that it is to be copied to, which may copy it by itself."""
    source = names.parse_s3(content.url)
    return source is not None and source.place.endpoint == name.place.endpoint


def duplicate(content: Content, name: S3Name) -> bool:
    """Have S3 copy an object, of the version that was looked at; False where it does not do that.

    Raises
    ------
    InputError
        The object was replaced, or S3 fails.
    StoreError
        The copy has another checksum.
    """
    client = access.signer(name.place).client(name.bucket, writes=True)
    asked = {
        "Metadata": {IDENTITY: content.identity},
        "MetadataDirective": "REPLACE",
        **payer(name),
        **copied(content),
        **({"ChecksumAlgorithm": "CRC32"} if checksum(client) else {}),
    }
    try:
        client.copy_object(Bucket=name.bucket, Key=name.key, **asked)
    except (BotoCoreError, ClientError) as error:
        if does_not_copy(error):
            return False
        raise failed(f"copy {names.shown(content.url)} to {name}", error) from None
    compare(name, content, content.crc32)
    return True


def copied(content: Content) -> dict[str, Any]:
    """Return the parameters of a request by which S3 copies this version of an object."""
    source = names.parse_s3(content.url)
    assert source is not None
    place = {"Bucket": source.bucket, "Key": source.key}
    return {"CopySource": place, "CopySourceIfMatch": _tag(content), **payer(source)}


def does_not_copy(error: Exception) -> bool:
    """Whether S3 refuses to copy an object by itself, which may be read all the same: as a public one is."""
    return _answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode") in (400, 403, 405, 501)


def compare(name: S3Name, content: Content, crc32: int | None) -> None:
    """Compare the object that S3 has with what was sent.

    Parameters
    ----------
    name
        The object.
    content
        What it is a copy of.
    crc32
        Checksum of what was sent; None where that is not known.

    Raises
    ------
    StoreError
        It is another program's; or it is not what was sent, and was deleted.
    """
    client = access.signer(name.place).client(name.bucket, writes=True)
    try:
        found = head(client, name)
    except (BotoCoreError, ClientError) as error:
        raise failed(f"write {name}", error) from None
    if found["Metadata"].get(IDENTITY) != content.identity:
        raise StoreError(f"{name} was written by another program just now: see which is to be there")
    there = crc32_of(found)
    if found["ContentLength"] != content.size or (None not in (there, crc32) and there != crc32):
        client.delete_object(Bucket=name.bucket, Key=name.key)
        raise StoreError(f"{name} has not the content that was sent: it was deleted; copy it again")


class _Watched:
    """Tells s3transfer how long a flow is: that of a large one needs larger parts; and when to stop."""

    def __init__(self, size: int, watch: Callable[[int], None]) -> None:
        self._size = size
        self._watch = watch

    def on_queued(self, future: Any, **_: Any) -> None:
        future.meta.provide_transfer_size(self._size)

    def on_progress(self, **_: Any) -> None:
        """Ask whether to go on; bytes are counted where they are read."""
        sending.ask(self._watch)

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


def part_bytes(size: int, wanted: int = PART_BYTES) -> int:
    """Return the bytes of each part but the last of an object: as many as wanted, or more for a large one."""
    return max(wanted, math.ceil(size / _MOST_PARTS / _ROUND_BYTES) * _ROUND_BYTES)


def checksum(client: Any) -> dict[str, str]:
    """Return the parameters by which S3 keeps the CRC32 of a whole object; none where none is wanted."""
    if client.meta.config.request_checksum_calculation == "when_required":
        return {}
    return {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}


def checksum_of(client: Any, crc32: int | None) -> dict[str, str]:
    """Return the parameter that tells S3 a checksum, which it compares; none where none is wanted."""
    if crc32 is None or not checksum(client):
        return {}
    return {"ChecksumCRC32": base64.b64encode(crc32.to_bytes(4, "big")).decode()}


def crc32_of(found: Any) -> int | None:
    """Return the checksum of the whole object; that of an object in parts may be one of their checksums."""
    text = found.get("ChecksumCRC32", "")
    if not text or "-" in text or found.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    return int.from_bytes(base64.b64decode(text), "big")


def _tag(content: Content) -> str:
    return content.version[content.version.index('"') :]


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
    return str(_answer(error).get("Error", {}).get("Code", ""))


def _answer(error: Any) -> dict[str, Any]:
    """Return what S3 answered; errors of the connection have an attribute for it that is None."""
    return getattr(error, "response", None) or {}


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
