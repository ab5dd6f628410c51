"""Looking at files, several at once, in threads that may be left to their waiting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from dask_root_lambda.protocol.rootfile import FileIdentity
from lambda_runtime import ending, storage

_AT_ONCE = 16


def identify(urls: Sequence[str]) -> list[FileIdentity]:
    """Read what identifies the content of files, local or remote; see `look`.

    Raises
    ------
    InputError
        For the first that is missing, unreachable, truncated, or not a ROOT file.
    """
    found = []
    for answer in look(urls):
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer)
    return found


def look(urls: Sequence[str]) -> list[FileIdentity | BaseException]:
    """Read what identifies the content of files; in the place of one that cannot be read is its error.

    A thread in ROOT that waits for a server cannot be interrupted. The one that calls this can be: it waits
    for others, which end with the process.
    """
    places: queue.SimpleQueue[int] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[int, FileIdentity | BaseException]] = queue.SimpleQueue()
    for place in range(len(urls)):
        places.put(place)

    def look() -> None:
        while True:
            try:
                place = places.get_nowait()
            except queue.Empty:
                return
            try:
                with ending.at_work():
                    answers.put((place, storage.identify(urls[place])))
            except BaseException as error:  # it is raised where the answer is waited for
                answers.put((place, error))

    for _ in range(min(_AT_ONCE, len(urls))):
        threading.Thread(target=look, daemon=True).start()
    return [answer for _, answer in sorted((answers.get() for _ in urls), key=lambda pair: pair[0])]
