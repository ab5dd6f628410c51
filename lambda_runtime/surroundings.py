"""Working directory and environment variables, which any code in a process may change.

In the function, each event finds them as its mapper made them, whatever ran in the process before.
"""

from __future__ import annotations

import ctypes
import itertools
import os

_ENVIRON = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")


class Surroundings:
    """Keeps both of a process, which must not change them in another thread meanwhile."""

    def __init__(self) -> None:
        self._directory = ""
        self._variables: dict[bytes, bytes] = {}

    def keep(self) -> None:
        """Take them for what they should be."""
        self._directory, self._variables = os.getcwd(), _variables()  # noqa: PTH109  (chdir takes it)

    def restore(self) -> None:
        """Make them what was kept; keep them the first time."""
        if not self._directory:
            self.keep()
            return
        os.chdir(self._directory)
        found = _variables()
        for name in found.keys() - self._variables.keys():
            # What C++ has set, Python does not know.
            os.unsetenv(name)
            os.environb.pop(name, None)
        for name, value in self._variables.items():
            if found.get(name) != value:
                os.environb[name] = value


def _variables() -> dict[bytes, bytes]:
    """Return the environment variables as C++ sees them, which is what Python's children inherit, too."""
    entries = itertools.takewhile(bool, map(_ENVIRON.__getitem__, itertools.count()))
    pairs = (entry.partition(b"=") for entry in entries)
    return {name: value for name, _, value in pairs}


surroundings = Surroundings()
"""This process's."""
