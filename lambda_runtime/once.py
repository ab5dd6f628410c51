"""What a process makes once, or does first in one thread alone, whichever of its threads asks first."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Let a function run once, and give its result to all who call it; `functools.cache` may run it twice.

    Where it raises, nothing was made, and the next call runs it again.
    """
    made: list[T] = []
    making = threading.RLock()

    @functools.wraps(make)
    def get() -> T:
        if not made:
            with making:
                if not made:
                    made.append(make())
        return made[0]

    return get


_begun: set[str] = set()
_beginning = threading.RLock()


@contextmanager
def alone_at_first(what: str) -> Iterator[None]:
    """Let the first thread that enters such a block go through it alone; later ones enter side by side.

    ROOT compiles the call of a plugin, and PyROOT that of a method, when it is made first. Where several
    threads do so at once, while others of ROOT's wait for servers, it fails to compile, or crashes, in one
    process of some fifty.

    Parameters
    ----------
    what
        Which block.
    """
    if what in _begun:
        yield
        return
    with _beginning:
        try:
            yield
        finally:
            _begun.add(what)


def _renew() -> None:
    """Give a child that was forked a lock of its own: a thread that it does not have may hold the other."""
    global _beginning
    _beginning = threading.RLock()


os.register_at_fork(after_in_child=_renew)
