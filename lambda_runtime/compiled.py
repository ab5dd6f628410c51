"""Compiled RDataFrame graphs, kept for the next ranges in the same process.

DistRDF keeps an RDataFrame in a process-wide register, under an execution identifier. Compiling its graph
costs seconds, giving a compiled graph another range milliseconds. But a compiled graph serves one thread
at a time, and only columns of the types it was compiled for. So the identifiers handed out here are named
by graph and column types, and each is lent to one range at a time.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ROOT._distrdf import _graph_cache
from ROOT._distrdf._graph_cache import ExecutionIdentifier

_OURS = "dask-root-lambda"
RNTUPLE = "RNTuple"
"""The name by which DistRDF knows that a graph reads RNTuples."""

_serial = itertools.count()
"""Tells identifiers apart, across all instances: DistRDF's register is the process's."""


@dataclass(eq=False)
class CompiledGraph:
    """A compiled graph, or one that is about to be compiled, lent to one range."""

    identifier: ExecutionIdentifier
    """Key under which DistRDF keeps it."""
    key: str
    actions: list[Any] | None = None
    """The results booked on it, of its last range; None until it is compiled."""
    program: Any = None
    """What it was compiled of, with the nodes it was booked on."""
    head: Any = None
    """The frame that its event loop belongs to, as ROOT made it."""
    unvaried: dict[int, int] = field(default_factory=dict)
    """Places of variations that are none, among the actions -> place of the nominal result."""
    counter: Any = None
    """Counts the entries that its event loop sees; see `lambda_runtime.counting`."""
    switch: Any = None
    """What ends its event loop; see `lambda_runtime.sharing`."""
    offset: Any = None
    """What its entry numbers are counted from, if it names them; see `lambda_runtime.whole`."""


class CompiledGraphs:
    """Compiled graphs that are not being used, at most ``capacity``, those used last."""

    def __init__(self, capacity: int = 16) -> None:
        self._capacity = capacity
        self._idle: list[CompiledGraph] = []
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self, key: str, *, rntuple: bool) -> Iterator[CompiledGraph]:
        """Lend a graph compiled under ``key``, or the place of a new one.

        A graph that failed is forgotten: ROOT calls its state invalid. Graphs over RNTuples are compiled
        anew each time, by DistRDF itself.
        """
        if rntuple:
            with self._lend_once(RNTUPLE, key) as graph:
                yield graph
            return
        graph = self._take(key) or CompiledGraph(_new_identifier(key), key)
        try:
            yield graph
        except BaseException:
            _forget(graph)
            raise
        if graph.actions is not None:
            self._give_back(graph)

    @contextmanager
    def _lend_once(self, name: str, key: str) -> Iterator[CompiledGraph]:
        graph = CompiledGraph(_new_identifier(key, name), key)
        try:
            yield graph
        finally:
            _forget(graph)

    def _take(self, key: str) -> CompiledGraph | None:
        with self._lock:
            for graph in reversed(self._idle):
                if graph.key == key:
                    self._idle.remove(graph)
                    return graph
        return None

    def _give_back(self, graph: CompiledGraph) -> None:
        with self._lock:
            self._idle.append(graph)
            surplus, self._idle = self._idle[: -self._capacity], self._idle[-self._capacity :]
        for old in surplus:
            _forget(old)


@contextmanager
def another(graph: CompiledGraph) -> Iterator[ExecutionIdentifier]:
    """Lend an identifier for another frame of a graph, which is forgotten afterwards."""
    other = CompiledGraph(_new_identifier(graph.key, graph.identifier.rdf_uuid), graph.key)
    try:
        yield other.identifier
    finally:
        _forget(other)


def _new_identifier(key: str, name: str = _OURS) -> ExecutionIdentifier:
    return ExecutionIdentifier(name, f"{key}-{next(_serial)}")


def _forget(graph: CompiledGraph) -> None:
    _graph_cache._RDF_REGISTER.pop(graph.identifier, None)
