"""What a process makes once, whichever of its threads asks first."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
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
