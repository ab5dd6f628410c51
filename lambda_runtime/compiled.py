"""Compiled RDataFrame graphs, kept for the next ranges in the same process.

DistRDF keeps an RDataFrame and its actions in process-wide registers, under an execution identifier.
Compiling costs seconds, changing the range of a compiled graph milliseconds. But a compiled graph serves
one thread at a time, and only columns of the types it was compiled for. So the identifiers handed out
here are named by graph and column types, and each is lent to one range at a time.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from ROOT._distrdf import _graph_cache
from ROOT._distrdf._graph_cache import ExecutionIdentifier

RNTUPLE = "RNTuple"
"""The name by which DistRDF knows that a graph reads RNTuples."""

_serial = itertools.count()
"""Tells identifiers apart, across all instances: DistRDF's registers are the process's."""


class CompiledGraphs:
    """Execution identifiers of compiled graphs, at most ``capacity`` idle ones, the last used kept."""

    def __init__(self, capacity: int = 16) -> None:
        self._capacity = capacity
        self._idle: OrderedDict[ExecutionIdentifier, str] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self, key: str, *, rntuple: bool) -> Iterator[tuple[ExecutionIdentifier, bool]]:
        """Lend the identifier of a graph compiled under ``key``, or a new one; tell whether it is new.

        A graph that failed is forgotten: ROOT calls its state invalid. Graphs over RNTuples are compiled
        anew each time, by DistRDF itself.
        """
        known = None if rntuple else self._take(key)
        name = RNTUPLE if rntuple else "dask-root-lambda"
        identifier = known or ExecutionIdentifier(name, f"{key}-{next(_serial)}")
        try:
            yield identifier, known is None
        except BaseException:
            _forget(identifier)
            raise
        if rntuple:
            _forget(identifier)
        else:
            self._give_back(identifier, key)

    @contextmanager
    def once(self) -> Iterator[ExecutionIdentifier]:
        """Make an identifier of a graph that is not kept."""
        identifier = ExecutionIdentifier("dask-root-lambda", f"once-{next(_serial)}")
        try:
            yield identifier
        finally:
            _forget(identifier)

    def _take(self, key: str) -> ExecutionIdentifier | None:
        with self._lock:
            for identifier in reversed(self._idle):
                if self._idle[identifier] == key:
                    del self._idle[identifier]
                    return identifier
        return None

    def _give_back(self, identifier: ExecutionIdentifier, key: str) -> None:
        with self._lock:
            self._idle[identifier] = key
            surplus = [self._idle.popitem(last=False)[0] for _ in range(len(self._idle) - self._capacity)]
        for identifier in surplus:
            _forget(identifier)


def _forget(identifier: ExecutionIdentifier) -> None:
    _graph_cache._ACTIONS_REGISTER.pop(identifier, None)
    _graph_cache._RDF_REGISTER.pop(identifier, None)
