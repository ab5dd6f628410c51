"""The records that travel between client and function, and their form in the JSON envelope.

A request asks for one of three operations. ``map`` runs a range of entries through an RDataFrame graph,
``merge`` merges partial results, ``call`` runs a Python function. Large bodies do not travel inline but
lie in the store under a key.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from dask_root_lambda.protocol import errors, members, seal, store, wire
from dask_root_lambda.protocol.errors import (
    CorruptBlobError,
    MissingBlobError,
    ProtocolError,
    VersionMismatchError,
)
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.protocol.traffic import Traffic

Operation = Literal["map", "merge", "call"]
_OPERATIONS: dict[str, Operation] = {"map": "map", "merge": "merge", "call": "call"}

MAX_ENVELOPE_BYTES = 5_000_000
"""Largest JSON envelope that is sent inline, either way. Lambda takes 6,291,556 bytes:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

PYTHON_VERSION = ".".join(platform.python_version_tuple()[:2])
"""Minor version of this interpreter: functions pickled by value do not cross it."""


_LOOKS, _LOOK_AGAIN_S = 3, 0.5
"""How often a blob is looked for in a store, and how many seconds are between."""

_SESSION = uuid.uuid4().hex


def session() -> str:
    """Identify this process; a fork is another one."""
    return f"{_SESSION}-{os.getpid()}"


@dataclass(frozen=True)
class Versions:
    """What has to agree between the client and the function."""

    python: str = PYTHON_VERSION
    """Python's minor version, such as ``3.11``."""
    root: str | None = None
    """ROOT's minor version, such as ``6.40``; None where ROOT is not involved."""
    wire: int = wire.WIRE_VERSION
    """Version of the wire format."""

    def check(self, other: Versions) -> None:
        """Compare the client's versions (self) with the function's.

        Raises
        ------
        VersionMismatchError
            Naming what differs, both sides, and the fix.
        """
        for name, here, there in (
            ("the wire format", self.wire, other.wire),
            ("Python", self.python, other.python),
            ("ROOT", self.root, other.root),
        ):
            if here is not None and there is not None and here != there:
                raise VersionMismatchError(
                    f"{name} is {here} on the client and {there} in the function: deploy an image made for "
                    f"{name} {here}, or run the client with {name} {there}"
                )


@dataclass(frozen=True)
class Body:
    """A blob on its way: its bytes, or its key in the store."""

    inline: bytes | None = None
    """The blob itself."""
    key: str | None = None
    """Where it lies in the store."""
    size: int = 0
    """Length of the blob in bytes; requests go without, for a blob in the store."""
    store: str = ""
    """URL of that store, for readers that may have another; the envelope goes without."""

    @classmethod
    def of(cls, blob: bytes) -> Body:
        """Wrap a blob that travels inline."""
        return cls(inline=blob, size=len(blob))

    def fetch(self, key: bytes) -> bytes:
        """Return the blob, from the store that it lies in if it is not inline.

        Parameters
        ----------
        key
            Has sealed it there.

        Raises
        ------
        MissingBlobError, StoreError
            The store has no such blob, or failed.
        CorruptBlobError
            What lies there is not what was put there.
        """
        if self.inline is not None:
            return self.inline
        if self.key is None:
            raise ProtocolError("a body with neither bytes nor key")
        for _ in range(_LOOKS - 1):
            # Not every store that speaks S3 shows at once what has just been written.
            with suppress(MissingBlobError):
                return seal.opened(key, self.key, store.connect(self.store).get(self.key))
            time.sleep(_LOOK_AGAIN_S)
        return seal.opened(key, self.key, store.connect(self.store).get(self.key))

    def stored_in(self, url: str) -> Body:
        """Say in which store the key is to be looked up."""
        return self if self.inline is not None else replace(self, store=url)

    def to_json(self) -> dict[str, Any]:
        """Return the body as it stands in the envelope."""
        if self.inline is not None:
            return {"inline": wire.encode(self.inline)}
        return {"key": self.key, "size": self.size}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Body:
        """Read what `to_json` wrote."""
        if "inline" in data:
            return cls.of(wire.decode(members.text(data, "inline")))
        return cls(key=_key(data, "key"), size=members.whole(data, "size", default=0))

    def __sizeof__(self) -> int:
        """Bytes that Dask should count for it."""
        return object.__sizeof__(self) + len(self.inline or b"")


@dataclass(frozen=True)
class FarData:
    """That what is fetched of far files is kept, and taken from there."""

    key: bytes = field(repr=False)
    """Names it, and seals it."""
    days: int
    """How old it may be."""
    ends_s: int = 0
    """When the invocation ends at the latest, seconds since the epoch, 0 if unknown."""

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in the envelope."""
        return {"key": wire.encode(self.key), "days": self.days}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FarData:
        """Read what `to_json` wrote."""
        ends_s = members.whole(data, "ends", default=0)
        return cls(wire.decode(members.text(data, "key")), members.whole(data, "days", low=1), ends_s)


@dataclass(frozen=True)
class Request:
    """One operation for the function to do."""

    operation: Operation
    task: str
    """Key of the task, for logs and errors."""
    bodies: tuple[Body, ...]
    """``map``: the mapper. ``merge``: the partial results, in order. ``call``: the call."""
    attempt: int = 1
    range_index: int | None = None
    """``map``: number of the range in its run."""
    interval: Interval | None = None
    """``map``: which part of the mapper's dataset."""
    result_key: str = ""
    """Key of the result in the store, should it be too large to be inline."""
    seal_key: bytes = field(default=b"", repr=False)
    """Seals the result there, and has sealed bodies that lie there; graphs are named by their content."""
    identity: str = ""
    """Names what it brings into the process that answers it: code, headers, libraries and files; the client
    of a plain call. Empty if it brings nothing."""
    versions: Versions = field(default_factory=Versions)
    """The client's versions."""
    far: FarData | None = None
    """``map``: whether what is fetched of far files is kept; None if it is not."""
    tier: int = 0
    """Which of the invoker's functions it goes to, by their memory, from 0; the envelope goes without."""

    def to_json(self) -> dict[str, Any]:
        """Return the request as a JSON object, without what is empty."""
        versions = self.versions
        interval = str(self.interval) if self.interval is not None else ""
        event: dict[str, Any] = {
            "wire": versions.wire,
            "python": versions.python,
            "root": versions.root,
            "op": self.operation,
            "task": self.task,
            "attempt": self.attempt if self.attempt > 1 else None,
            "range": self.range_index,
            "interval": interval,
            "result": self._result(interval),
            "seal": wire.encode(self.seal_key),
            "identity": self.identity,
            "far": self.far.to_json() if self.far is not None else None,
            "bodies": [body.to_json() if body.key is None else {"key": body.key} for body in self.bodies],
        }
        return {name: value for name, value in event.items() if value not in (None, "")}

    def _result(self, interval: str) -> str:
        """Shorten the key of a result that is named by its interval, which is in the envelope anyway."""
        key = self.result_key
        return key.removesuffix(interval) if interval and key.endswith(f"/{interval}") else key

    @classmethod
    def from_json(cls, event: Mapping[str, Any]) -> Request:
        """Read what `to_json` wrote.

        Raises
        ------
        ProtocolError
            The event is not a request; its versions may differ, see `requested_versions`.
        """
        try:
            operation = _OPERATIONS[members.text(event, "op")]
            is_range = operation == "map"
            return cls(
                operation=operation,
                task=members.text(event, "task"),
                bodies=_bodies(operation, event),
                attempt=members.whole(event, "attempt", default=1, low=1),
                range_index=members.whole(event, "range") if is_range else None,
                interval=Interval.parse(members.text(event, "interval")) if is_range else None,
                result_key=_result_key(event) if "result" in event else "",
                seal_key=wire.decode(members.text(event, "seal", default="")),
                identity=members.text(event, "identity", default=""),
                versions=_versions(event),
                far=FarData.from_json(event["far"]) if is_range and "far" in event else None,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"the event is not a request of dask-root-lambda: {error!r}") from None


def requested_versions(event: Mapping[str, Any]) -> Versions:
    """Read the client's versions of an event, which is possible whatever else has changed.

    Raises
    ------
    ProtocolError
        The event is no JSON object, or its versions are none.
    """
    try:
        return _versions(event)
    except (AttributeError, TypeError, ValueError) as error:
        raise ProtocolError(f"the event is not a request of dask-root-lambda: {error!r}") from None


def _versions(event: Mapping[str, Any]) -> Versions:
    root = members.text(event, "root") if event.get("root") is not None else None
    return Versions(members.text(event, "python", default=""), root, members.whole(event, "wire", default=0))


def _bodies(operation: Operation, event: Mapping[str, Any]) -> tuple[Body, ...]:
    bodies = tuple(map(Body.from_json, members.items(event, "bodies")))
    if not bodies or (operation != "merge" and len(bodies) > 1):
        raise ValueError(f"{len(bodies)} bodies for a {operation}")
    return bodies


def _result_key(event: Mapping[str, Any]) -> str:
    key = members.text(event, "result")
    return _checked_key(key + members.text(event, "interval") if key.endswith("/") else key, "result")


def _key(data: Mapping[str, Any], name: str) -> str:
    return _checked_key(members.text(data, name), name)


def _checked_key(key: str, name: str) -> str:
    if not store.is_key(key):
        raise ValueError(f"{name} is no key of a store: {key[:99]!r}")
    return key


Variables = tuple[tuple[str, bool | int | float | str], ...]
"""Variables of C++ code, by name, as ``a::b``, with their values."""


@dataclass(frozen=True)
class DataFile:
    """A file of the dataset."""

    url: str
    tree: str
    """Name of the TTree or RNTuple in it; empty for friends."""
    identity: FileIdentity
    """Content the client saw; another one there is an error."""


@dataclass(frozen=True)
class Attachment:
    """A file of the user's that goes along with the graph."""

    name: str
    kind: Literal["header", "library", "pcm", "file"]
    content: bytes


@dataclass(frozen=True)
class Program:
    """The callables of DistRDF that a range runs, unpickled once the user's code is declared."""

    initialize: Callable[[], object]
    """The user's function, given to ``initialize``."""
    range: Callable[[int, Interval], Any]
    """Number and interval of a range -> that range (``ROOT._distrdf.Ranges``)."""
    build: Callable[[Any], Any]
    """Range -> RDataFrame over it, and the entries of its trees."""
    nodes: dict[int, Any]
    """The booked operations, by number, each with the number of its parent (``ROOT._distrdf.Node``)."""


@dataclass(frozen=True)
class Mapper:
    """An RDataFrame graph and its dataset: all that a range needs besides its index."""

    program: bytes
    """Blob of a `Program`."""
    compiled_key: str
    """Graph and columns' types: mappers with the same key can use one compiled graph."""
    files: tuple[DataFile, ...]
    """The file table; empty for a frame of entries without a file."""
    friends: tuple[DataFile, ...] = ()
    """Files of friend trees, which every range may read."""
    code: str = ""
    """C++ to declare."""
    attachments: tuple[Attachment, ...] = ()
    source: Literal["tree", "rntuple", "spec", "entries"] = "tree"
    session: str = ""
    """The process that made it, where attachments are loaded already."""
    entries: tuple[int, ...] = ()
    """Entries of each file of the table, where the graph names their numbers; all, without files."""
    names: tuple[str, ...] = ()
    """What local ROOT calls each file of the table, where the graph names sample information."""
    alone: bool = False
    """Whether only one range at a time may run in a process."""
    variables: Variables = ()
    """What the variables are that the user's C++ code declares."""
    skips: bool = False
    """Whether ranges leave out what cannot be read."""


@dataclass(frozen=True)
class Skipped:
    """A part of the dataset that was left out because it cannot be read."""

    url: str
    """The file."""
    interval: Interval | None
    """The part of the dataset; None where the client left out the file."""
    reason: str
    entries: int | None = None
    """Entries that are missing; None where nobody knows, because the file could not be opened."""

    def __str__(self) -> str:
        missing = f"{self.entries:,}" if self.entries is not None else "nobody knows how many"
        return f"{self.url} was left out, {missing} entries are missing: {self.reason}"


@dataclass(frozen=True)
class PartialResult:
    """Content of a blob that ``map`` or ``merge`` made."""

    values: list[Any] | None
    """One mergeable object per action, in booking order; None where the range was empty."""
    intervals: tuple[Interval, ...]
    """What it has seen of the dataset, in order, disjoint."""
    processed: int
    """Entries that the event loops saw."""
    entries_by_file: dict[int, int]
    """Entries of each file that was opened, by its index in the file table."""
    skipped: tuple[Skipped, ...] = ()
    """What was left out of it."""


@dataclass(frozen=True)
class Usage:
    """What one task used, as the function itself saw it."""

    environment: str = ""
    """Identifier of the execution environment."""
    invocation: int = 0
    """How many tasks this environment had run before: 0 says that it is new."""
    init_s: float = 0.0
    """Seconds this environment took to import and warm up."""
    duration_s: float = 0.0
    """Seconds of the operation."""
    peak_memory_mb: float = 0.0
    """Largest resident set of the process so far, MB of 2^20 bytes, as Lambda reports it."""
    entries: int = 0
    """Entries processed."""
    bytes_read: int = 0
    """Bytes that came from files, of all sources."""
    traffic: tuple[Traffic, ...] | None = None
    """What was read, by source; None of a function that does not tell."""
    far_problem: str = ""
    """Why far data was not all kept, or not taken from where it is kept; empty if it was."""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        own = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "traffic"}
        told = {} if self.traffic is None else {"traffic": [each.to_json() for each in self.traffic]}
        return own | told

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Usage:
        """Read what `to_json` wrote; fields this side does not know are left out."""
        known = _known(cls, data)
        if "traffic" in known:
            known["traffic"] = tuple(map(Traffic.from_json, members.items(known, "traffic")))
        return cls(**known)


@dataclass(frozen=True)
class Failure:
    """An error as data."""

    error: str
    """Name of the class in `dask_root_lambda.protocol.errors`."""
    message: str
    type_name: str = ""
    """Qualified name of the exception that user code raised."""
    traceback: str = ""
    diagnostics: str = ""
    exception: str = ""
    """For ``call``: the exception itself, a blob encoded as text, where it can be pickled."""

    def to_error(self, task: str, attempt: int, request_id: str | None) -> errors.DaskRootLambdaError:
        """Rebuild the error on the client."""
        kind = _error_classes().get(self.error, errors.RemoteError)
        if issubclass(kind, errors.RemoteError):
            return kind(
                self.message,
                type_name=self.type_name,
                traceback=self.traceback,
                diagnostics=self.diagnostics,
                task=task,
                attempt=attempt,
                request_id=request_id,
            )
        return kind(self.message, task=task, attempt=attempt, request_id=request_id)


def _error_classes() -> dict[str, type[errors.DaskRootLambdaError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.DaskRootLambdaError)
    }


@dataclass(frozen=True)
class Reply:
    """What the function answers."""

    body: Body | None = None
    failure: Failure | None = None
    usage: Usage = field(default_factory=Usage)
    versions: Versions = field(default_factory=Versions)
    """The function's versions."""

    def to_json(self) -> dict[str, Any]:
        """Return the reply as a JSON object."""
        reply: dict[str, Any] = {"usage": self.usage.to_json(), **asdict(self.versions)}
        if self.body is not None:
            reply["body"] = self.body.to_json()
        if self.failure is not None:
            reply["failure"] = asdict(self.failure)
        return reply

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reply:
        """Read what `to_json` wrote; fields this side does not know are left out.

        Raises
        ------
        CorruptBlobError
            The answer is not a reply.
        """
        try:
            return cls(
                body=Body.from_json(data["body"]) if "body" in data else None,
                failure=Failure(**_known(Failure, data["failure"])) if "failure" in data else None,
                usage=Usage.from_json(data["usage"]),
                versions=_versions(data),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CorruptBlobError(
                f"the function's answer is not a reply of dask-root-lambda ({error!r}): is another function "
                "deployed under this name?"
            ) from None


def _known(record: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    names = _NAMES[record]
    return {name: value for name, value in data.items() if name in names}


_NAMES = {record: frozenset(item.name for item in fields(record)) for record in (Failure, Usage)}
"""The fields of the records inside a reply."""
