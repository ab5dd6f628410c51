"""Objects in S3 that ranges of a Snapshot write: created once, found, moved and removed.

What an object is a part of stands in its metadata. So parts of a Snapshot are known from other objects, and
those of one run from those of another.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.manager import TransferConfig, TransferManager

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import IncompleteResultError, InputError, UnavailableInputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from lambda_runtime.copying import buckets, sending
from lambda_runtime.remote import access, listing
from lambda_runtime.remote.names import S3Name

_OUTPUT, _PART = "snapshot-output", "snapshot-part"
"""Metadata: the digest of where the Snapshot writes; the run and the range."""
_THERE = ("412", "PreconditionFailed", "ConditionalRequestConflict")
_MISSING = ("404", "NoSuchKey")
_DENIED = ("403", "AccessDenied")
_AT_ONCE = 16
_COPIED_WHOLE_BYTES = 5 << 30
"""What S3 copies in one request: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""
_T = TypeVar("_T")
_V = TypeVar("_V")


@dataclass(frozen=True)
class Mark:
    """What the metadata of an object says."""

    output: str
    """Digest of where the Snapshot writes."""
    part: str
    """The run and the range that wrote it."""

    @property
    def metadata(self) -> dict[str, str]:
        """The mark as metadata."""
        return {_OUTPUT: self.output, _PART: self.part}


@dataclass(frozen=True)
class Found:
    """An object that is where a Snapshot writes."""

    name: S3Name
    is_part: bool
    """Whether a Snapshot to this output wrote it."""
    changed_s: float
    """When, in seconds since the epoch."""


def output_of(stem: S3Name) -> str:
    """Return the digest of where a Snapshot writes, by what the names of its parts begin with."""
    return hashlib.sha256(f"{stem.bucket}/{stem.key}".encode()).hexdigest()[:32]


def create(path: Path, name: S3Name, mark: Mark, watch: Callable[[int], None]) -> FileIdentity:
    """Create an object of a file: complete, or not at all, and never over another.

    One that another attempt of the same range created is as good. What ``watch`` raises cuts off what is
    being sent.

    Raises
    ------
    InputError
        The file is not complete, or S3 refuses.
    UnavailableInputError
        S3 is busy, or does not answer.
    IncompleteResultError
        Another program created an object of this name.
    """
    rootfile.identify_local(path)
    client = access.signer(name.place).client(name.bucket, writes=True)
    try:
        # Where the object is there, another attempt made it, or this one, to which S3's answer was lost.
        with _passing(_THERE), sending.raising():
            _send(client, path, name, mark, watch)
        found = buckets.head(client, name)
    except (BotoCoreError, ClientError) as error:
        if buckets.code(error) in _MISSING:
            raise UnavailableInputError(f"cannot write {name}: S3 was busy with another request") from None
        raise _failed(name, error) from None
    return _checked(name, found, mark)


def find(begin: S3Name, stem: S3Name, pattern: str) -> list[Found]:
    """Find objects that are where a Snapshot writes.

    Parameters
    ----------
    begin
        What their keys begin with.
    stem
        What the keys of the Snapshot's parts begin with.
    pattern
        The expression that their keys match.

    Raises
    ------
    InputError
        The bucket cannot be listed, or an object not be looked at.
    """
    named = [name for name in listing.below(begin) if re.fullmatch(pattern, name.key)]
    output = output_of(stem)
    return [each for each in _side_by_side(lambda name: _found(name, output), named) if each is not None]


def move(moves: Sequence[tuple[S3Name, S3Name, Mark]]) -> list[FileIdentity]:
    """Give objects other names, in the place of what has those; what was moved before stays so.

    Raises
    ------
    InputError
        S3 refuses.
    IncompleteResultError
        An object is gone.
    """
    return _side_by_side(lambda move: _moved(*move), moves)


def remove(names: Iterable[S3Name]) -> None:
    """Remove objects.

    Raises
    ------
    InputError
        S3 refuses.
    """
    _side_by_side(_removed, list(names))


def _side_by_side(work: Callable[[_T], _V], items: Sequence[_T]) -> list[_V]:
    if not items:
        return []
    with ThreadPoolExecutor(min(_AT_ONCE, len(items)), "snapshot-objects") as pool:
        return list(pool.map(work, items))


@contextlib.contextmanager
def _passing(codes: Sequence[str]) -> Any:
    try:
        yield
    except ClientError as error:
        if buckets.code(error) not in codes:
            raise


def _send(client: Any, path: Path, name: S3Name, mark: Mark, watch: Callable[[int], None]) -> None:
    to = {"Bucket": name.bucket, "Key": name.key, **buckets.payer(name)}
    size = path.stat().st_size
    if size <= buckets.PART_BYTES:
        body = sending.Body(path.read_bytes(), watch)
        client.put_object(**to, Body=body, Metadata=mark.metadata, IfNoneMatch="*")
        return
    checksum = buckets.checksum(client)
    algorithm = {name: value for name, value in checksum.items() if name == "ChecksumAlgorithm"}
    kind = {name: value for name, value in checksum.items() if name == "ChecksumType"}
    started = client.create_multipart_upload(**to, **checksum, Metadata=mark.metadata)
    upload = {**to, "UploadId": started["UploadId"]}
    try:
        parts = _sent(client, path, size, {**upload, **algorithm}, watch)
        client.complete_multipart_upload(**upload, **kind, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
    except BaseException:
        # What is left of it would be billed.
        with contextlib.suppress(BotoCoreError, ClientError):
            client.abort_multipart_upload(**upload)
        raise


def _sent(
    client: Any, path: Path, size: int, upload: dict[str, Any], watch: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Send the parts of a file; return what S3 has to be told of them."""
    step = buckets.part_bytes(size)

    def send(number: int) -> dict[str, Any]:
        with path.open("rb") as file:
            file.seek((number - 1) * step)
            body = sending.Body(file.read(step), watch)
        answer = client.upload_part(**upload, PartNumber=number, Body=body)
        return {
            "PartNumber": number,
            **{key: answer[key] for key in ("ETag", "ChecksumCRC32") if key in answer},
        }

    with ThreadPoolExecutor(buckets.PARTS_AT_ONCE, "snapshot-send") as pool:
        try:
            return list(pool.map(send, range(1, math.ceil(size / step) + 1)))
        finally:
            pool.shutdown(cancel_futures=True)


def _checked(name: S3Name, found: Any, mark: Mark) -> FileIdentity:
    if found["Metadata"].get(_PART) != mark.part:
        raise IncompleteResultError(
            f"{name} was written by another program meanwhile: does another Snapshot write there at the same "
            "time? Give each a file name of its own"
        )
    return FileIdentity(int(found["ContentLength"]), "", version=str(found["ETag"]))


def _found(name: S3Name, output: str) -> Found | None:
    client = access.signer(name.place).client(name.bucket, writes=True)
    try:
        found = buckets.head(client, name)
    except (BotoCoreError, ClientError) as error:
        if buckets.code(error) in _MISSING:
            return None
        raise buckets.failed(f"look at {name}", error) from None
    return Found(name, found["Metadata"].get(_OUTPUT) == output, found["LastModified"].timestamp())


def _moved(source: S3Name, target: S3Name, mark: Mark) -> FileIdentity:
    client = access.signer(target.place).client(target.bucket, writes=True)
    extra = {"Metadata": mark.metadata, "MetadataDirective": "REPLACE", **buckets.payer(target)}
    config = TransferConfig(multipart_threshold=_COPIED_WHOLE_BYTES, multipart_chunksize=1 << 30)
    try:
        # The step that does this may run twice.
        with _passing(_MISSING), TransferManager(client, config) as manager:
            place = {"Bucket": source.bucket, "Key": source.key}
            manager.copy(place, target.bucket, target.key, extra).result()
        identity = _checked(target, buckets.head(client, target), mark)
    except (BotoCoreError, ClientError) as error:
        if buckets.code(error) in _MISSING:
            raise IncompleteResultError(
                f"{target} was written as {source}, which is gone: does another Snapshot write there at the "
                "same time? Give each a file name of its own"
            ) from None
        raise _failed(target, error) from None
    _removed(source)
    return identity


def _removed(name: S3Name) -> None:
    client = access.signer(name.place).client(name.bucket, writes=True)
    try:
        client.delete_object(Bucket=name.bucket, Key=name.key, **buckets.payer(name))
    except (BotoCoreError, ClientError) as error:
        raise _failed(name, error, "remove", "s3:DeleteObject") from None


def _failed(name: S3Name, error: Exception, verb: str = "write", action: str = "s3:PutObject") -> InputError:
    if buckets.code(error) in _DENIED:
        return InputError(
            f"cannot {verb} {name}: access is denied. The credentials need {action} and s3:GetObject on it. "
            "Functions have the deployment's role: name the bucket with 'dask-root-lambda deploy "
            f"--output-bucket {name.bucket}'"
        )
    return buckets.failed(f"{verb} {name}", error)
