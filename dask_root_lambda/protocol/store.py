"""Stores of blobs: S3, a directory, or memory.

Every store keeps the same contract. A write is create-only: the first one wins, a later one under the
same key changes nothing and says so, which is what makes a task that ran twice harmless.
"""

from __future__ import annotations

import functools
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from dask_root_lambda.protocol.errors import ConfigurationError, MissingBlobError, StoreError

STORE_VARIABLE = "DASK_ROOT_LAMBDA_STORE"
"""Environment variable of the function: URL of the store for bodies that are too large to be inline."""
EMULATED_KEY = "emulated"
"""Access key and secret key for an emulator, which takes any: the user's own stay out of it."""
FAR = "far"
"""Last part of the prefix of far data, in the place of that of the store."""
_CONFLICTS = 5
"""Tries of a write that meets another one of the same key."""
_READ_LIMIT_S = 300.0
"""Seconds that a body may take; between two of its bytes the SDK's limit holds."""
_PIECE = 2**20
_READS = 3
"""Tries of a read whose connection breaks."""
_DELETE_BATCH = 1000
"""Keys of one S3 DeleteObjects request, at most."""


class Store(Protocol):
    """Blobs by key. Keys are relative paths with ``/`` between their parts."""

    @property
    def url(self) -> str:
        """Where the store is; `open_store` opens the same one."""

    def put(self, key: str, blob: bytes) -> bool:
        """Write ``blob`` unless ``key`` exists; tell whether it was written."""

    def get(self, key: str) -> bytes:
        """Return the blob under ``key``; `MissingBlobError` if there is none."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove ``keys``; those that do not exist are no error."""

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Iterate over the keys that begin with ``prefix``, sorted."""


class MemoryStore:
    """Blobs in this process."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """``memory:``, which nobody else can open."""
        return "memory:"

    def put(self, key: str, blob: bytes) -> bool:
        """See `Store.put`."""
        _check_key(key)
        with self._lock:
            if key in self._blobs:
                return False
            self._blobs[key] = blob
            return True

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        _check_key(key)
        with self._lock:
            if key not in self._blobs:
                raise _missing(self, key)
            return self._blobs[key]

    def delete(self, keys: Iterable[str]) -> None:
        """See `Store.delete`."""
        with self._lock:
            for key in keys:
                self._blobs.pop(key, None)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """See `Store.keys`."""
        with self._lock:
            return iter(sorted(key for key in self._blobs if key.startswith(prefix)))


class DirectoryStore:
    """Blobs as files below a directory."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()

    @property
    def url(self) -> str:
        """The directory as a ``file:`` URL."""
        return self._path.as_uri()

    def put(self, key: str, blob: bytes) -> bool:
        """See `Store.put`. The file appears whole or not at all."""
        target = self._file(key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=".")
        except OSError as error:
            raise StoreError(f"could not write {target}: {error}") from error
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(blob)
            os.link(name, target)
        except FileExistsError:
            return False
        except OSError as error:
            raise StoreError(f"could not write {target}: {error}") from error
        finally:
            Path(name).unlink(missing_ok=True)
        return True

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        try:
            return self._file(key).read_bytes()
        except FileNotFoundError:
            raise _missing(self, key) from None
        except OSError as error:
            raise StoreError(f"could not read {key} of {self.url}: {error}") from error

    def delete(self, keys: Iterable[str]) -> None:
        """See `Store.delete`."""
        for key in keys:
            self._file(key).unlink(missing_ok=True)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """See `Store.keys`."""
        files = (path for path in self._path.rglob("*") if path.is_file() and not path.name.startswith("."))
        names = sorted(path.relative_to(self._path).as_posix() for path in files)
        return (name for name in names if name.startswith(prefix))

    def _file(self, key: str) -> Path:
        _check_key(key)
        return self._path / key


class S3Store:
    """Blobs as objects of an S3 bucket.

    Parameters
    ----------
    bucket
        Name of the bucket.
    prefix
        What every key begins with.
    client
        A boto3 S3 client; one of the default session if None.
    emulator
        Endpoint of the emulator that the bucket is in, if it is in one: then the URL names it, and any
        process of this machine can open it.
    """

    def __init__(
        self, bucket: str, prefix: str = "", client: Any = None, emulator: str | None = None
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._client = client if client is not None else _s3_client(emulator)
        self._root = f"s3+{emulator.rstrip('/')}" if emulator else "s3:/"

    @property
    def url(self) -> str:
        """The bucket and prefix as an ``s3:`` URL."""
        return f"{self._root}/{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, key: str, blob: bytes) -> bool:
        """See `Store.put`.

        S3 answers 412 where the key exists, and 409 where another write of it is under way:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        for _ in range(_CONFLICTS):
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=blob, IfNoneMatch="*")
            except Exception as error:  # botocore makes its error classes at run time
                if _code(error) in ("PreconditionFailed", "412"):
                    return False
                failure = error
                if _code(error) != "ConditionalRequestConflict":
                    break
            else:
                return True
        raise self._failed("write", key, failure) from failure

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        for _ in range(_READS):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
                blob = _read(answer["Body"])
            except Exception as error:
                if _code(error) in ("NoSuchKey", "404"):
                    raise _missing(self, key) from None
                failure = error
                # What S3 says, the SDK has asked for again by itself; not a body that broke off.
                if _code(error) or isinstance(error, TimeoutError):
                    break
            else:
                return blob
        raise self._failed("read", key, failure) from failure

    def delete(self, keys: Iterable[str]) -> None:
        """See `Store.delete`."""
        names = [{"Key": self._key(key)} for key in keys]
        for start in range(0, len(names), _DELETE_BATCH):
            batch = {"Objects": names[start : start + _DELETE_BATCH], "Quiet": True}
            try:
                answer = self._client.delete_objects(Bucket=self._bucket, Delete=batch)
            except Exception as error:
                raise self._failed("delete", names[start]["Key"], error) from error
            for failed in answer.get("Errors", []):
                raise StoreError(f"could not delete {failed['Key']} of {self.url}: {failed.get('Message')}")

    def keys(self, prefix: str = "") -> Iterator[str]:
        """See `Store.keys`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        try:
            for page in pages:
                for item in page.get("Contents", []):
                    yield item["Key"][len(self._prefix) :]
        except Exception as error:
            raise self._failed("list", prefix, error) from error

    def part(self, key: str, offset: int, size: int) -> bytes:
        """Return a part of a blob; fewer bytes where the blob ends.

        Raises
        ------
        MissingBlobError, StoreError
            The blob is missing, or S3 failed.
        """
        bounds = f"bytes={offset}-{offset + size - 1}"
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key), Range=bounds)
            return _read(answer["Body"])
        except Exception as error:  # botocore makes its error classes at run time
            if _code(error) in ("NoSuchKey", "404"):
                raise _missing(self, key) from None
            raise self._failed("read", key, error) from error

    def address(self, key: str) -> str:
        """Return a signed URL, by which a blob can be read for an hour."""
        named = {"Bucket": self._bucket, "Key": self._key(key)}
        return str(self._client.generate_presigned_url("get_object", Params=named, ExpiresIn=3600))

    @property
    def source(self) -> str:
        """What its traffic is counted under; see `dask_root_lambda.protocol.traffic.Traffic.key`."""
        endpoint = str(self._client.meta.endpoint_url)
        is_aws = str(urlsplit(endpoint).hostname).endswith((".amazonaws.com", ".amazonaws.com.cn"))
        return f"s3://{self._bucket} {'' if is_aws else endpoint.rstrip('/')}".rstrip()

    @property
    def client(self) -> Any:
        """The boto3 client."""
        return self._client

    def _key(self, key: str) -> str:
        _check_key(key)
        return self._prefix + key

    def _failed(self, verb: str, key: str, error: Exception) -> StoreError:
        return StoreError(f"could not {verb} {key} of {self.url}: {error}")


def _read(body: Any) -> bytes:
    """Read a body to its end; one that trickles has a deadline, which the SDK does not give it."""
    deadline_s, pieces = time.monotonic() + _READ_LIMIT_S, []
    while piece := body.read(_PIECE):
        pieces.append(piece)
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{sum(map(len, pieces)):,} bytes came within {_READ_LIMIT_S:g} s")
    return b"".join(pieces)


def open_store(url: str) -> Store:
    """Open the store at ``url``: ``s3://BUCKET[/PREFIX]`` or ``file:///DIRECTORY``.

    ``s3+http://HOST:PORT/BUCKET[/PREFIX]`` is a bucket of an emulator.

    Raises
    ------
    ConfigurationError
        Another scheme.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path)
    if parts.scheme in ("s3+http", "s3+https") and parts.path:
        bucket, _, prefix = parts.path.strip("/").partition("/")
        return S3Store(bucket, prefix, emulator=f"{parts.scheme.removeprefix('s3+')}://{parts.netloc}")
    if parts.scheme == "file" and parts.path:
        return DirectoryStore(parts.path)
    raise ConfigurationError(f"no store at {url!r}: use s3://BUCKET/PREFIX or file:///DIRECTORY")


def open_far(url: str) -> S3Store | None:
    """Open the store of far data that belongs to a store; None if that is in no bucket.

    It lies beside the other one, under ``far``, so that it can be kept for longer. Its client does not wait
    for long: what it does not have can be fetched from where it came.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        return None
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        connect_timeout=2,
        read_timeout=5,
        max_pool_connections=16,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    above = parts.path.strip("/").rpartition("/")[0]
    return S3Store(parts.netloc, f"{above}/{FAR}", boto3.client("s3", config=config))


_connected: dict[str, list[Store]] = {}
"""Registered stores by URL: two clusters of one process may use one bucket."""


def connect(url: str) -> Store:
    """Return the store that this process registered for ``url``, or open it."""
    registered = _connected.get(url)
    return registered[-1] if registered else _opened(url)


@functools.lru_cache(maxsize=8)
def _opened(url: str) -> Store:
    """Open a store once: a client takes a tenth of a second, and has connections to keep."""
    return open_store(url)


# Two processes cannot read from one connection.
os.register_at_fork(after_in_child=_opened.cache_clear)


def register(store: Store) -> None:
    """Let `connect` find ``store``, with the client and endpoint it was made with."""
    _connected.setdefault(store.url, []).append(store)


def unregister(store: Store) -> None:
    """Forget a store that was registered, and with it its client and connections."""
    registered = [each for each in _connected.pop(store.url, []) if each is not store]
    if registered:
        _connected[store.url] = registered


def _s3_client(emulator: str | None) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(retries={"mode": "standard", "total_max_attempts": 5})
    if emulator is None:
        return boto3.client("s3", config=config)
    return boto3.client(
        "s3",
        endpoint_url=emulator,
        region_name="us-east-1",
        aws_access_key_id=EMULATED_KEY,
        aws_secret_access_key=EMULATED_KEY,
        config=config,
    )


def is_key(key: str) -> bool:
    """Whether a text may be the key of a blob: a relative path that stays in the store."""
    return bool(key) and not key.startswith("/") and ".." not in key.split("/") and key.isprintable()


def _check_key(key: str) -> None:
    if not is_key(key):
        raise StoreError(f"{key!r} is no key: use a relative path")


def _missing(store: Store, key: str) -> MissingBlobError:
    return MissingBlobError(f"no {key} in {store.url}: it was deleted, has expired or was never written")


def _code(error: Exception) -> str:
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
