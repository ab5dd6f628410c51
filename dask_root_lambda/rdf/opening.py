"""ROOT's own ways to open files, which take names of objects in S3 and on web servers here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import ROOT

from lambda_runtime.remote import names, objects


def install() -> None:
    """Let ``ROOT.TFile.Open`` and ``TChain.Add`` take names of objects.

    What opens them is compiled when the first is named, in half a second: most scripts name none.
    """
    if hasattr(ROOT.TChain.Add, "_opens_objects"):
        return
    ROOT.TFile.Open = classmethod(_prepared(ROOT.TFile.Open.__func__))
    for name in ("Add", "AddFile"):
        setattr(ROOT.TChain, name, _prepared(getattr(ROOT.TChain, name)))


_prepares = ContextVar("prepares", default=True)


@contextmanager
def unprepared() -> Iterator[None]:
    """Let the block's thread name objects without making ready for them: it opens none."""
    token = _prepares.set(False)
    try:
        yield
    finally:
        _prepares.reset(token)


def _prepared(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that makes ready for the names among its arguments."""

    @functools.wraps(method, assigned=("__name__", "__doc__"), updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        if _prepares.get() and any(isinstance(each, str) and names.is_remote(each) for each in args):
            objects.prepare()
        return method(*args, **kwargs)

    call._opens_objects = True  # type: ignore[attr-defined]
    return call
