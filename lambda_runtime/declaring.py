"""C++ code of our own, which each process declares once."""

from __future__ import annotations

import threading
from typing import Any

import ROOT

_lock = threading.Lock()
_declared: set[str] = set()


def declared(code: str) -> Any:
    """Declare code in the namespace ``dask_root_lambda``, unless it was before; return that namespace.

    Raises
    ------
    RuntimeError
        It does not compile: this ROOT is not one that we know.
    """
    with _lock:
        if code not in _declared:
            if not ROOT.gInterpreter.Declare(code):
                raise RuntimeError(f"ROOT {ROOT.__version__} does not compile:\n{code}")
            _declared.add(code)
    return ROOT.dask_root_lambda
