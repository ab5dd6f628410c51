"""Looking at files, many at once, in threads that may be left to their waiting."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TypeVar

from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.rdf import known, xrootd
from dask_root_lambda.rdf.known import Known
from dask_root_lambda.rdf.xrootd import Problem, State
from lambda_runtime import ending, storage
from lambda_runtime import xrootd as client
from lambda_runtime.remote import listing, names
from lambda_runtime.remote.names import S3Name

_AT_ONCE = 16
"""Threads that each look at one file."""
_OBJECTS_AT_ONCE = 32
"""The same, where some are objects: to look at one takes a round trip, and little CPU."""
_FEW = 4
"""Files on XRootD servers up to which nothing is gained by looking at them in another way than at others."""
_SETTLED_NS = 60_000_000_000
"""How long ago a file was changed whose time of change, in seconds, tells its content from later ones."""

T = TypeVar("T")


def identify(urls: Sequence[str]) -> list[FileIdentity]:
    """Read what identifies the content of files, local or remote; see `look`.

    Raises
    ------
    InputError
        For one that is missing, unreachable, truncated, or not a ROOT file.
    """
    found = []
    for answer in look(urls):
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer)
    return found


def look(urls: Sequence[str]) -> list[FileIdentity | BaseException]:
    """Read what identifies the content of files; in the place of one that cannot be read is its error."""
    objects = {url: name for url in urls if (name := names.parse_s3(url)) is not None}
    if len(objects) <= listing.FEW:
        return _look(urls)
    found: dict[str, FileIdentity | BaseException] = dict(_unchanged(objects))
    rest = [url for url in urls if url not in found]
    found.update(zip(rest, _look(rest), strict=True))
    # An ETag stands for the content, also of an object that has just been written.
    seen = {url: identity for url in rest if isinstance(identity := found[url], FileIdentity)}
    known.remember({url: Known(each) for url, each in seen.items() if url in objects and each.version})
    return [found[url] for url in urls]


def are_many(urls: Iterable[str]) -> bool:
    """Whether among files are so many on XRootD servers that they are looked at all at once."""
    return sum(map(names.is_xrootd, urls)) > _FEW


def ahead(urls: Sequence[str]) -> Callable[[], dict[str, FileIdentity | BaseException]] | None:
    """Begin to look at files on XRootD servers, if they are many; return what waits for the answers.

    One of the same data set was looked at before: ROOT has given the XRootD client its limits.
    """
    far = [url for url in urls if names.is_xrootd(url)]
    if not are_many(far):
        return None
    answers: Future[dict[str, FileIdentity | BaseException]] = Future()

    def run() -> None:
        try:
            (found,) = waited_for([partial(_look_far, far)])
            answers.set_result(dict(zip(far, found, strict=True)))
        except BaseException as error:  # it is raised where the answers are waited for
            answers.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answers.result


def unchanged(urls: Iterable[str]) -> dict[str, FileIdentity]:
    """Identify those objects, if they are many, that are as an earlier process has seen them."""
    objects = {url: name for url in urls if (name := names.parse_s3(url)) is not None}
    return _unchanged(objects) if len(objects) > listing.FEW else {}


def _unchanged(objects: Mapping[str, S3Name]) -> dict[str, FileIdentity]:
    """Identify objects that their buckets list as an earlier process has seen them."""
    remembered = {url: each.identity for url, each in known.recall(objects).items() if each.identity.version}
    states = listing.states(objects[url] for url in remembered)
    return {
        url: identity
        for url, identity in remembered.items()
        if (state := states.get(objects[url])) is not None
        and (identity.size, identity.version, identity.mtime_ns) == (state.size, state.tag, state.mtime_ns)
    }


def _look(urls: Sequence[str]) -> list[FileIdentity | BaseException]:
    far = [url for url in urls if names.is_xrootd(url)]
    if len(far) <= _FEW:
        at_once = _OBJECTS_AT_ONCE if any(map(names.is_remote, urls)) else _AT_ONCE
        return _answers([partial(storage.identify, url) for url in urls], at_once)
    others = [url for url in urls if not names.is_xrootd(url)]
    # ROOT gives the XRootD client its limits when it opens a file. A server that does not answer then is not
    # waited for again.
    found = dict(zip(far[:1], _answers([partial(storage.identify, far[0])]), strict=True))
    both = waited_for([partial(_look_far, far[1:]), partial(look, others)])
    found.update(zip((*far[1:], *others), (*both[0], *both[1]), strict=True))
    return [found[url] for url in urls]


def waited_for(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Call functions that wait in ROOT, side by side, and wait for them; the first error is raised."""
    found = []
    for answer in _answers(calls):
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer)
    return found


def _answers(calls: Sequence[Callable[[], T]], at_once: int = _AT_ONCE) -> list[T | BaseException]:
    """Call functions side by side, and wait for them; in the place of one that fails is its error.

    A thread in ROOT that waits for a server cannot be interrupted. The one that calls this can be: it waits
    for others, which end with the process.
    """
    places: queue.SimpleQueue[int] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[int, T | BaseException]] = queue.SimpleQueue()
    for place in range(len(calls)):
        places.put(place)

    def look() -> None:
        while True:
            try:
                place = places.get_nowait()
            except queue.Empty:
                return
            try:
                with ending.at_work():
                    answers.put((place, calls[place]()))
            except BaseException as error:  # it is raised where the answer is waited for
                answers.put((place, error))

    for _ in range(min(at_once, len(calls))):
        threading.Thread(target=look, daemon=True).start()
    return [answer for _, answer in sorted((answers.get() for _ in calls), key=lambda pair: pair[0])]


def _look_far(urls: Sequence[str]) -> list[FileIdentity | BaseException]:
    """Identify files on XRootD servers: by one request each, if they are as they were."""
    for url in urls:
        client.prepare(url)
    states = dict(zip(urls, xrootd.states(urls), strict=True))
    found: dict[str, FileIdentity | BaseException] = {
        url: remembered.identity
        for url, remembered in known.recall(urls).items()
        if _is_same(remembered.identity, states[url])
    }
    unknown = [url for url in urls if url not in found]
    learned = dict(zip(unknown, _headers(unknown, states), strict=True))
    known.remember(
        {
            url: Known(identity)
            for url, identity in learned.items()
            if isinstance(identity, FileIdentity) and is_settled(identity.mtime_ns)
        }
    )
    found.update(learned)
    return [found[url] for url in urls]


def _headers(urls: Sequence[str], states: Mapping[str, State | None]) -> list[FileIdentity | BaseException]:
    return [
        _with_time(url, header, states[url])
        for url, header in zip(urls, xrootd.headers(urls) if urls else (), strict=True)
    ]


def _with_time(
    url: str, header: FileIdentity | InputError | Problem, state: State | None
) -> FileIdentity | BaseException:
    if isinstance(header, Problem):
        return storage.unreadable(url, header.text)
    if isinstance(header, InputError) or state is None:
        return header
    return replace(header, mtime_ns=state.mtime_ns)


def _is_same(identity: FileIdentity, state: State | None) -> bool:
    return state is not None and (identity.size, identity.mtime_ns) == (state.size, state.mtime_ns)


def is_settled(mtime_ns: int) -> bool:
    """Whether the time of a file's last change, to the second, tells its content from later ones."""
    return 0 < mtime_ns < time.time_ns() - _SETTLED_NS
