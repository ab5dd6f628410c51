"""What a range fetches of far files is kept in the deployment's bucket, and later ranges read it from there.

Far is what is read over ``root://`` and ``https://``. A range writes what it had to fetch
as packs (`lambda_runtime.remote.packs`) of up to 16 MB, for each file of its own, under ``FILE/SHARE-ID``:
FILE is made of the user's key, the file's name and what identifies its content, SHARE is the part of the file
that the range had. A later range lists what there is of its files, and takes the packs of the shares that it
has a part in.

Nothing of this fails a range: what is not there, damaged or out of reach is fetched from afar.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import itertools
import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import ROOT

from dask_root_lambda.protocol.errors import DaskRootLambdaError
from dask_root_lambda.protocol.store import S3Store
from dask_root_lambda.protocol.task import DataFile, FarData
from dask_root_lambda.protocol.traffic import of_source
from lambda_runtime import storage, traffic
from lambda_runtime.remote import kept, names, objects, packs
from lambda_runtime.remote.packs import Extent, Index

logger = logging.getLogger(__name__)

PACK_BYTES = 16 * 2**20
"""Data that a pack has at most, but for a part that is larger alone."""
_MOST_BYTES = 256 * 2**20
"""What a range keeps at most, and of the function's memory no more than the share below."""
_MEMORY_SHARE = 8
_WRITING_S = 20.0
"""How long the writing may take when a range is done."""
_MARGIN_S = 10.0
"""What is left of an invocation when the writing ends."""
_AT_ONCE = 4
_LOOKING_AT_ONCE = 16
_DAY_S = 86400
_DAYS_VARIABLE = "DASK_ROOT_LAMBDA_FAR_DAYS"
"""Environment variable of the function: after how many days the bucket deletes far data."""

Share = tuple[Fraction, Fraction]
"""From where to where a range reads a file, as parts of it."""
Far = tuple[DataFile, Share]


@dataclass(frozen=True)
class Kept:
    """A pack, and what it has."""

    name: str
    index: Index


@dataclass
class Place:
    """Where far data is kept, for one range.

    Parameters
    ----------
    store
        Where.
    far
        The user's key, and how old what is taken may be.
    """

    store: S3Store
    far: FarData
    problems: list[str] = field(default_factory=list)
    """What kept it from reading or writing."""
    ends_s: float | None = None
    """When the invocation ends at the latest, seconds since the epoch; None if nobody knows."""
    silent: bool = False
    """Whether the store did not answer when it was asked for packs: it is not asked again."""

    @property
    def writing_s(self) -> float:
        """How long the writing may take from now on."""
        left_s = _WRITING_S if self.ends_s is None else self.ends_s - time.time() - _MARGIN_S
        return max(0.0, min(_WRITING_S, left_s))

    def packs(self, file: DataFile, share: Share) -> list[Kept]:
        """Return the packs of a file that a range can use."""
        shares = {name: _share(name) for name in self.store.keys(f"{self._name(file)}/")}
        wanted = [name for name, own in shares.items() if own is not None and _overlap(own, share)]
        return [pack for name in wanted if (pack := self._read(name)) is not None]

    def _read(self, name: str) -> Kept | None:
        try:
            index = packs.read(self.far.key, name, functools.partial(self.store.part, name))
        except (DaskRootLambdaError, ValueError, KeyError, TypeError) as error:
            self.problems.append(f"{name} is not read: {error}")
            return None
        return Kept(name, index) if time.time() - index.made_s < self.far.days * _DAY_S else None

    def write(self, file: DataFile, share: Share, extents: Sequence[Extent], data: bytes) -> None:
        """Keep parts of a file."""
        name = f"{self._name(file)}/{_text(share)}-{uuid.uuid4().hex}"
        blob = packs.packed(self.far.key, name, extents, data, int(time.time()))
        self.store.put(name, blob)
        written = len(blob)
        # The bucket has one rule for all; an emulated one has none, and ends with its emulator.
        days = int(os.environ.get(_DAYS_VARIABLE, self.far.days))
        traffic.add(of_source(self.store.source, bytes_kept=written, byte_days=written * days))

    def _name(self, file: DataFile) -> str:
        text = f"{file.url}\n{file.identity}"
        return hmac.new(self.far.key, text.encode(), hashlib.sha256).hexdigest()[:32]


@contextlib.contextmanager
def keeping(place: Place | None, files: Iterable[Far], *, ntuples: bool = False) -> Iterator[None]:
    """Read far files of a range from what is kept in the block; keep what was fetched when it went well.

    Parameters
    ----------
    place
        Where; None to keep nothing.
    files
        The files of the range, with the share that it reads. Their content has been compared with that which
        the client saw.
    ntuples
        Whether RNTuples are read of them.
    """
    far = {file.url: (file, share) for file, share in files if _is_far(file.url)}
    if place is None or not far:
        yield
        return
    held = _held(place, far, ntuples=ntuples)
    if held is None:
        yield
        return
    try:
        with objects.told([url for url in far if names.is_xrootd(url)]):
            yield
    finally:
        _leave(far)
    try:
        _write(place, far, held)
    except Exception as error:  # the SDK's, ROOT's, ours: what was read is right
        place.problems.append(f"not kept: {error}")
    for problem in dict.fromkeys(place.problems):
        logger.warning("far data: %s", problem)


def _held(place: Place, far: Mapping[str, Far], *, ntuples: bool) -> dict[str, Any] | None:
    """Let ROOT read files from what is kept of them; return what takes what is fetched, by URL."""
    try:
        kept.code()
        if ntuples and any(map(names.is_xrootd, far)):
            kept.prepare_ntuples()
    except Exception as error:  # the compiler's, ours: without what is kept, the range reads from afar
        logger.warning("far data is not kept, and not taken from where it is kept: %s", error)
        return None
    try:
        return _hold(place, far)
    except Exception as error:  # ROOT's, ours: without what is kept, the range reads from afar
        logger.warning("far data is not kept, and not taken from where it is kept: %s", error)
        _leave(far)
        return None


def _hold(place: Place, far: Mapping[str, Far]) -> dict[str, Any]:
    code = kept.code()
    with ThreadPoolExecutor(min(_LOOKING_AT_ONCE, len(far))) as pool:
        found = dict(zip(far, pool.map(lambda each: _found(place, *each), far.values()), strict=True))
    code.SetRoom(_room())
    if any(map(names.is_xrootd, far)):
        code.RegisterXrootd()
    held = {}
    for url, (file, _) in far.items():
        near = code.MakeKept()
        for pack in found[url]:
            near.AddPack(
                place.store.address(pack.name),
                place.store.source,
                pack.index.begin,
                pack.index.size,
                pack.index.digests,
                ROOT.std.vector["long long"]([n for extent in pack.index.extents for n in extent]),
            )
        if names.is_xrootd(url):
            code.HoldXrootd(url, names.source(url), file.identity.size)
        code.Keep(url, near)
        held[url] = near
    return held


def _found(place: Place, file: DataFile, share: Share) -> list[Kept]:
    if place.silent:
        return []
    try:
        return place.packs(file, share)
    except DaskRootLambdaError as error:
        place.silent = True
        place.problems.append(str(error))
        return []


def _leave(far: Iterable[str]) -> None:
    for url in far:
        kept.code().Leave(url, names.is_xrootd(url))


def _write(place: Place, far: Mapping[str, Far], held: Mapping[str, Any]) -> None:
    """Keep what was fetched, as far as there is time."""
    pool = ThreadPoolExecutor(_AT_ONCE)
    until_s = time.monotonic() + place.writing_s
    try:
        writing: list[Future[None]] = []
        for url, (file, share) in far.items():
            if held[url].Damaged():
                place.problems.append(f"what is kept of {url} is damaged or out of reach: it is fetched anew")
            parts = _batches(held[url])
            first = next(parts, None)
            if first is None or not _is_right(place, file):
                continue
            for extents, data in itertools.chain([first], parts):
                if time.monotonic() < until_s:
                    writing.append(pool.submit(place.write, file, share, extents, data))
        done, late = wait(writing, max(0.0, until_s - time.monotonic()))
        for each in done:
            if (error := each.exception()) is not None:
                place.problems.append(f"not kept: {error}")
        if late or time.monotonic() >= until_s:
            place.problems.append(f"not all was written within {place.writing_s:.0f} s")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _batches(near: Any) -> Iterator[tuple[list[Extent], bytes]]:
    while str((batch := near.Next(PACK_BYTES)).fLines):
        numbers = (line.split() for line in str(batch.fLines).splitlines())
        yield [(int(at), int(size)) for at, size in numbers], bytes(batch.fData)


def _is_right(place: Place, file: DataFile) -> bool:
    """Look whether a file is still the one that the client saw: what is kept of it will be taken for that.

    Requests for objects with a strong ETag have asked for that content alone.
    """
    try:
        right = bool(file.identity.version) or storage.compare(file.url, file.identity) is None
    except DaskRootLambdaError as error:
        place.problems.append(f"not kept: {error}")
        return False
    if not right:
        place.problems.append(f"not kept: {file.url} was replaced meanwhile")
    return right


def _is_far(url: str) -> bool:
    return names.is_xrootd(url) or (names.is_remote(url) and names.parse_s3(url) is None)


def _room() -> int:
    """Return how many bytes a range may hold to keep them."""
    memory_mb = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"))
    return min(_MOST_BYTES, memory_mb * 2**20 // _MEMORY_SHARE)


def _overlap(one: Share, other: Share) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _text(share: Share) -> str:
    return "-".join(f"{each.numerator}.{each.denominator}" for each in share)


def _share(name: str) -> Share | None:
    """Read the share out of the name of a pack; None if the name is another's."""
    try:
        first, end, _ = name.rpartition("/")[2].split("-")
        return Fraction(first.replace(".", "/")), Fraction(end.replace(".", "/"))
    except (ValueError, ZeroDivisionError):
        return None
