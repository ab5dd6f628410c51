"""Looking at files, several at once, in threads that may be left to their waiting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from dask_root_lambda.protocol.rootfile import FileIdentity
from lambda_runtime import ending, storage

_AT_ONCE = 16


def identify(urls: Sequence[str]) -> list[FileIdentity]:
    """Read what identifies the content of files, local or remote.

    A thread in ROOT that waits for a server cannot be interrupted. The one that calls this can be: it waits
    for others, which end with the process.

    Raises
    ------
    InputError
        For the first that is missing, unreachable, truncated, or not a ROOT file.
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
    found = []
    for _, answer in sorted((answers.get() for _ in urls), key=lambda pair: pair[0]):
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer)
    return found
