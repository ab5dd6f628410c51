"""Looking at files, many at once, in threads that may be left to their waiting."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.rdf import known, xrootd
from dask_root_lambda.rdf.known import Known
from dask_root_lambda.rdf.xrootd import Problem, State
from lambda_runtime import ending, storage
from lambda_runtime import xrootd as client

_AT_ONCE = 16
"""Threads that each look at one file."""
_FEW = 4
"""Files on XRootD servers up to which nothing is gained by looking at them in another way than at others."""
_SETTLED_NS = 60_000_000_000
"""How long ago a file was changed whose time of change, in seconds, tells its content from later ones."""

T = TypeVar("T")


def identify(urls: Sequence[str]) -> list[FileIdentity]:
    """Read what identifies the content of files, local or remote.

    A thread in ROOT that waits for a server cannot be interrupted. The one that calls this can be: it waits
    for others, which end with the process.

    Raises
    ------
    InputError
        For one that is missing, unreachable, truncated, or not a ROOT file.
    """
    far = [url for url in urls if xrootd.serves(url)]
    if len(far) <= _FEW:
        return waited_for([partial(storage.identify, url) for url in urls])
    others = [url for url in urls if not xrootd.serves(url)]
    # ROOT gives the XRootD client its limits when it opens a file; and a server that does not answer is told.
    identities = dict(zip(far[:1], waited_for([partial(storage.identify, far[0])]), strict=True))
    found = waited_for([partial(_identify_far, far[1:]), partial(identify, others)])
    identities.update(zip((*far[1:], *others), (*found[0], *found[1]), strict=True))
    return [identities[url] for url in urls]


def waited_for(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Call functions that wait in ROOT, side by side, and wait for them; the first error is raised."""
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

    for _ in range(min(_AT_ONCE, len(calls))):
        threading.Thread(target=look, daemon=True).start()
    found = []
    for _, answer in sorted((answers.get() for _ in calls), key=lambda pair: pair[0]):
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer)
    return found


def _identify_far(urls: Sequence[str]) -> list[FileIdentity]:
    """Identify files on XRootD servers: by one request each, if they are as they were."""
    for url in urls:
        client.prepare(url)
    states = dict(zip(urls, xrootd.states(urls), strict=True))
    found = {
        url: remembered.identity
        for url, remembered in known.recall(urls).items()
        if _is_same(remembered.identity, states[url])
    }
    unknown = [url for url in urls if url not in found]
    learned = dict(zip(unknown, map(_with_time(states), unknown, _headers(unknown)), strict=True))
    known.remember(
        {url: Known(identity) for url, identity in learned.items() if _is_settled(identity.mtime_ns)}
    )
    found.update(learned)
    return [found[url] for url in urls]


def _headers(urls: Sequence[str]) -> list[FileIdentity]:
    if not urls:
        return []
    found = xrootd.headers(urls)
    for url, header in zip(urls, found, strict=True):
        if isinstance(header, Problem):
            raise storage.unreadable(url, header.text)
    return [header for header in found if isinstance(header, FileIdentity)]


def _with_time(states: dict[str, State | None]) -> Callable[[str, FileIdentity], FileIdentity]:
    def add(url: str, identity: FileIdentity) -> FileIdentity:
        state = states[url]
        return identity if state is None else replace(identity, mtime_ns=state.mtime_ns)

    return add


def _is_same(identity: FileIdentity, state: State | None) -> bool:
    return state is not None and (identity.size, identity.mtime_ns) == (state.size, state.mtime_ns)


def _is_settled(mtime_ns: int) -> bool:
    return 0 < mtime_ns < time.time_ns() - _SETTLED_NS
