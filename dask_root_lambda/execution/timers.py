"""Calls after a while, also where a container allows few threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def later(delay_s: float, call: Callable[..., None], *arguments: Any) -> threading.Timer | None:
    """Have something called after a while, by a thread that does not outlive the interpreter.

    Parameters
    ----------
    delay_s
        Seconds.
    call, arguments
        What is called, and with what.

    Returns
    -------
    threading.Timer or None
        To cancel it by; None where the system allows no more threads. Then nothing is called.
    """
    timer = threading.Timer(delay_s, call, arguments)
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:
        return None
    return timer
