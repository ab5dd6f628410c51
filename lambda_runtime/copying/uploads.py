"""Objects that several processes write: one upload, whose parts they send, and which one of them completes.

S3 computes the CRC32 of the whole object from those of its parts, so parts can be read and sent in any order,
and by anybody: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambda_runtime.copying import buckets, checksums, sending
from lambda_runtime.copying.content import Content
from lambda_runtime.remote import access
from lambda_runtime.remote.names import S3Name, shown

_APPEARS_S = 60.0
_GONE = "NoSuchUpload"


@dataclass(frozen=True)
class Upload:
    """An upload that is under way."""

    name: S3Name
    """The object that it will be."""
    upload_id: str
    """S3's name of it, which is of no use to who may not write to the bucket."""
    size: int
    """Bytes of the object."""
    part_bytes: int
    """Bytes of each part but the last."""

    @property
    def numbers(self) -> range:
        """Numbers of the parts, from 1."""
        return range(1, math.ceil(self.size / self.part_bytes) + 1)

    def span(self, number: int) -> tuple[int, int]:
        """Return where a part begins in the file, and its length, in bytes."""
        offset = (number - 1) * self.part_bytes
        return offset, min(self.part_bytes, self.size - offset)


@dataclass(frozen=True)
class Part:
    """A part that S3 has."""

    number: int
    tag: str
    """Its ETag."""
    crc32: int | None
    """Its checksum; None where S3 copied it, and did not tell."""


def begin(name: S3Name, content: Content, part_bytes: int) -> Upload:
    """Begin an upload, with parts of this size, or larger ones where there would be too many.

    Raises
    ------
    InputError
        S3 refuses.
    """
    with _telling(f"write {name}"):
        client = _client(name)
        to = {"Bucket": name.bucket, "Key": name.key, **buckets.payer(name)}
        marked = {"Metadata": {buckets.IDENTITY: content.identity}, **buckets.checksum(client)}
        answer = client.create_multipart_upload(**to, **marked)
    return Upload(name, str(answer["UploadId"]), content.size, buckets.part_bytes(content.size, part_bytes))


def is_there(upload: Upload) -> bool:
    """Tell whether S3 has an upload still: a rule of the bucket may have ended it.

    Who may not ask finds out when the next part is sent.

    Raises
    ------
    InputError
        S3 fails.
    """
    try:
        _client(upload.name).list_parts(**_of(upload), MaxParts=1)
    except (BotoCoreError, ClientError) as error:
        code = buckets.code(error)
        if code not in (_GONE, "AccessDenied"):
            raise buckets.failed(f"write {upload.name}", error) from None
        return code != _GONE
    return True


def send(upload: Upload, number: int, block: bytes | bytearray, watch: Callable[[int], None]) -> Part:
    """Send a part, with its checksum; what ``watch`` raises cuts it off.

    Raises
    ------
    InputError
        S3 refuses.
    """
    crc32 = zlib.crc32(block)
    with _telling(f"write {upload.name}"), sending.raising():
        client, body = _client(upload.name), sending.Body(block, watch)
        answer = client.upload_part(
            **_of(upload), PartNumber=number, Body=body, **buckets.checksum_of(client, crc32)
        )
    return Part(number, str(answer["ETag"]), crc32)


def copy(content: Content, upload: Upload, number: int) -> Part | None:
    """Have S3 copy a part of an object, of the version that was looked at; None where it does not do that.

    Raises
    ------
    InputError
        The object was replaced, or S3 fails.
    """
    offset, size = upload.span(number)
    bytes_copied = f"bytes={offset}-{offset + size - 1}"
    asked = {**_of(upload), **buckets.copied(content), "CopySourceRange": bytes_copied}
    try:
        answer = _client(upload.name).upload_part_copy(PartNumber=number, **asked)
    except (BotoCoreError, ClientError) as error:
        if buckets.does_not_copy(error):
            return None
        raise buckets.failed(f"copy {shown(content.url)} to {upload.name}", error) from None
    told = answer["CopyPartResult"]
    return Part(number, str(told["ETag"]), buckets.crc32_of(told))


def complete(upload: Upload, parts: Sequence[Part], content: Content) -> None:
    """Make the object of all parts, and compare what S3 has with what was sent.

    Raises
    ------
    InputError
        S3 refuses.
    StoreError
        The object is not what was sent.
    """
    whole = crc32_of(upload, parts)
    client = _client(upload.name)
    told = buckets.checksum_of(client, whole)
    if told:
        told["ChecksumType"] = "FULL_OBJECT"
    listed = [
        {"PartNumber": part.number, "ETag": part.tag, **buckets.checksum_of(client, part.crc32)}
        for part in _ordered(parts)
    ]
    try:
        client.complete_multipart_upload(**_of(upload), **told, MultipartUpload={"Parts": listed})
    except (BotoCoreError, ClientError) as error:
        failed = buckets.failed(f"write {upload.name}", error)
        if not (failed.retryable and _appears(upload.name, content)):
            raise failed from None
    buckets.compare(upload.name, content, content.crc32 if whole is None else whole)


def _appears(name: S3Name, content: Content) -> bool:
    """Tell whether an object appears though S3's answer was lost: it may take minutes to make a large one."""
    end_s = time.monotonic() + _APPEARS_S
    while buckets.stored(name) != (content.size, content.identity):
        if time.monotonic() > end_s:
            return False
        time.sleep(1)
    return True


def crc32_of(upload: Upload, parts: Sequence[Part]) -> int | None:
    """Return the checksum of all parts together; None where that of one is not known."""
    known = [(part.crc32, upload.span(part.number)[1]) for part in _ordered(parts) if part.crc32 is not None]
    return checksums.joined(known) if len(known) == len(parts) else None


def abort(upload: Upload) -> None:
    """End an upload, and remove its parts; one that is gone is no error.

    Parts that are being sent meanwhile may stay: call it again when nobody sends any more
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html).

    Raises
    ------
    InputError
        S3 refuses.
    """
    try:
        _client(upload.name).abort_multipart_upload(**_of(upload))
    except (BotoCoreError, ClientError) as error:
        if buckets.code(error) != _GONE:
            raise buckets.failed(f"end the upload of {upload.name}", error) from None


@contextmanager
def _telling(what: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise buckets.failed(what, error) from None


def _client(name: S3Name) -> Any:
    return access.signer(name.place).client(name.bucket, writes=True)


def _of(upload: Upload) -> dict[str, str]:
    name = upload.name
    return {"Bucket": name.bucket, "Key": name.key, "UploadId": upload.upload_id, **buckets.payer(name)}


def _ordered(parts: Sequence[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: part.number)
