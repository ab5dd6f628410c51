"""The exit status of a process that has to end before Python has ended it.

What a script passed to ``sys.exit``, or raised, is known to C code of the interpreter only, which uses it
when Python has been taken down. So a copy of the process is made, which has no other threads, and goes down
as the process would have; its status is the one that is wanted.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import signal
import sys
import time
import warnings

_LIMIT_S = 2.0
"""A copy may wait for a lock that a thread held which it does not have."""

_LOOK_S = 0.01


def status_of_a_copy() -> int | None:
    """Return the status of this process, as `subprocess` has it: a signal is negative.

    Returns
    -------
    int or None
        None in the copy, which is to go on to its end.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are threads
            copy = os.fork()
    except (OSError, RuntimeError):  # no memory; Python 3.12.0 and 3.12.1 do not fork any more
        return _guessed()
    if copy == 0:
        _go_quietly()
        return None
    return _waited_for(copy)


def flush() -> None:
    """Write what Python and C have kept of standard output and error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # there is none, or its reader has gone
            continue
    library = ctypes.CDLL(None)
    if hasattr(library, "stdout"):
        library.fflush(ctypes.c_void_p.in_dll(library, "stdout"))


def leave(status: int) -> None:
    """End the process at once, with a status as `subprocess` has it."""
    if status >= 0:
        os._exit(status)
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


def _go_quietly() -> None:
    """Let this process, a copy, do nothing on its way to the end."""
    atexit._clear()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)
    # What modules hold stays: destructors of ROOT's objects would wait for locks.
    held = [dict(vars(module)) for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))
    # Python looks for garbage several times on its way: in nothing.
    gc.freeze()
    # Nor does ROOT take itself down. glibc calls this first of all, with the status.
    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):
        library.on_exit(library._exit, None)


def _waited_for(copy: int) -> int:
    deadline_s = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline_s:
        ended, status = os.waitpid(copy, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_LOOK_S)
    os.kill(copy, signal.SIGKILL)
    os.waitpid(copy, 0)
    return _guessed()


def _guessed() -> int:
    error = getattr(sys, "last_type", None)
    if error is None:
        return 0
    return -signal.SIGINT if issubclass(error, KeyboardInterrupt) else 1
