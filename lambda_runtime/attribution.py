"""Which operation of a graph raised, and at which entry: ROOT's error names neither.

An event loop that failed counted the entries before the one at which it did. On that entry alone the
operations are booked once more, one after the other, and each is tried as soon as it is booked: the first
that raises the same is the one.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import ROOT
from ROOT._distrdf import Ranges
from ROOT._distrdf.Operation import InstantAction, Transformation, VariationsFor

from lambda_runtime import datasets, diagnostics, sharing
from lambda_runtime.compiled import RNTUPLE, CompiledGraph, another

logger = logging.getLogger(__name__)

_LONGEST_LOOP_S = 30.0
"""No operation is looked for where the event loop took longer: the function's own time is limited."""
_LONGEST_SEARCH_S = 10.0
"""No further operation is tried after this time."""
_LONGEST_TURN_S = 1.0
"""How long other ranges in the process are waited for."""
_LONGEST_ARGUMENT = 500
"""Characters of an argument that are shown at most."""
_DEFINING = ("DefaultValueFor", "Define", "DefinePerSample", "Redefine", "Vary")
"""Operations that make columns, which their first argument names."""


class Turns(Protocol):
    """See `lambda_runtime.locking.SharedLock`."""

    def alone(self, timeout_s: float | None = None) -> AbstractContextManager[None]:
        """Hold the lock with nobody else."""

    def shared(self, timeout_s: float | None = None) -> AbstractContextManager[None]:
        """Hold the lock together with others."""


def find(graph: CompiledGraph, data_range: Any, error: Exception, took_s: float, turns: Turns) -> str | None:
    """Find the operation of a graph that raised, as the user wrote it, and the entry, as far as can be told.

    Parameters
    ----------
    graph
        The graph; it cannot be used any more afterwards.
    data_range
        DistRDF's range that was run.
    error
        What was raised.
    took_s
        Seconds that the range took until then.
    turns
        Held alone to compile, together to run.

    Returns
    -------
    str or None
        None if it was not found: not in time, or what is tried once more raises nothing, or something else.
    """
    if took_s > _LONGEST_LOOP_S or sharing.was_ended(error) or graph.program is None:
        return None
    try:
        return _found(graph, data_range, error, turns)
    except TurnError:
        return None
    except Exception:  # whatever goes wrong here is not to hide what went wrong before
        logger.warning("cannot tell which operation raised", exc_info=True)
        return None


def _found(graph: CompiledGraph, data_range: Any, error: Exception, turns: Turns) -> str | None:
    head, *nodes = graph.program.nodes.values()
    for node in nodes:
        if getattr(node, "rdf_node", None) is None:
            return _written(node.operation)
    # What was booked would run, and raise, with each event loop.
    graph.actions = None
    for node in nodes:
        node.rdf_node = None
    position = int(graph.counter.seen)
    entry, where = _only_entry(head.rdf_node, data_range, position)
    with diagnostics.record(quiet=True):
        if _raised(head.rdf_node, entry.Count, turns) is None:
            node = _first_to_raise(head.rdf_node, entry, nodes, error, turns)
        else:
            node = _first_sample_to_raise(graph, data_range, position, error, turns)
    return None if node is None else f"{_written(node.operation)}{where}"


def _only_entry(head: Any, data_range: Any, position: int) -> tuple[Any, str]:
    """Let a frame read nothing but the entry at a position of its range; say which that is."""
    node = ROOT.RDF.AsRNode(head)
    if isinstance(data_range, Ranges.EmptySourceRange):
        entry = data_range.start + position
        ROOT.Internal.RDF.ChangeEmptyEntryRange(node, (entry, entry + 1))
        return node, f", at entry {entry:,},"
    is_rntuple = data_range.exec_id.rdf_uuid == RNTUPLE
    boundaries_of = datasets.rntuple_boundaries if is_rntuple else datasets.tree_boundaries
    start, _, lengths = datasets.extent(data_range, boundaries_of)
    entry = start + position
    where = _place(entry, data_range.filenames, lengths)
    if is_rntuple:
        return node.Range(position, position + 1), where
    ROOT.Internal.RDF.ChangeBeginAndEndEntries(node, entry, entry + 1)
    return node, where


def _place(entry: int, urls: Sequence[str], lengths: Sequence[int]) -> str:
    """Say where an entry of the files of a range is."""
    for url, length in zip(urls, lengths, strict=True):
        if entry < length:
            return f", at entry {entry:,} of {url},"
        entry -= length
    return ""


def _first_to_raise(head: Any, entry: Any, nodes: Sequence[Any], error: Exception, turns: Turns) -> Any:
    """Return the first node that raises what was raised, on an entry."""
    deadline_s = time.monotonic() + _LONGEST_SEARCH_S
    frames = [entry]
    for node in nodes:
        if time.monotonic() > deadline_s:
            return None
        found = _raised(head, functools.partial(_try, node.operation, frames[node.parent_id], frames), turns)
        if found is not None and _alike(found, error):
            return node
    return None


def _first_sample_to_raise(
    graph: CompiledGraph, data_range: Any, position: int, error: Exception, turns: Turns
) -> Any:
    """Return the first ``DefinePerSample`` that raises what was raised.

    ROOT goes on to call one that raised, though it is booked no more: they are tried on another frame.
    """
    with another(graph) as identifier:
        with _in_time(turns.alone):
            own = dataclasses.replace(data_range, exec_id=identifier)
            head = graph.program.build(own).rdf
        entry, _ = _only_entry(head, own, position)
        for node in graph.program.nodes.values():
            if node.operation is not None and node.operation.name == "DefinePerSample":
                found = _raised(head, functools.partial(_try, node.operation, entry, []), turns)
                if found is not None and _alike(found, error):
                    return node
    return None


def _try(operation: Any, parent: Any, frames: list[Any]) -> Any:
    """Book an operation, and an action that evaluates it; add what it is booked as."""
    if parent is None or isinstance(operation, InstantAction | VariationsFor):
        # They evaluate nothing that is not tried without them.
        frames.append(None)
        return None
    booked = getattr(parent, operation.name)(*operation.args, **operation.kwargs)
    frames.append(booked if isinstance(operation, Transformation) else None)
    if not isinstance(operation, Transformation):
        return booked
    names = operation.args[0] if operation.name in _DEFINING else ()
    for name in (names,) if isinstance(names, str) else names:
        booked = booked.Filter(f"(void){name}; return true;")
    count = booked.Count()
    return ROOT.RDF.Experimental.VariationsFor(count) if operation.name == "Vary" else count


def _raised(head: Any, book: Callable[[], Any], turns: Turns) -> Exception | None:
    """Run the event loop of what is booked; return what it raises."""
    try:
        with _in_time(turns.alone):
            booked = book()
            sharing.compile_graph(head)
        with _in_time(turns.shared):
            ROOT.Internal.RDF.TriggerRun(ROOT.RDF.AsRNode(head))
        del booked  # it had to live until now
    except TurnError:
        raise
    except Exception as error:
        return error
    return None


class TurnError(Exception):
    """Other ranges run for so long that nothing can be tried once more: the run's error must not wait."""


@contextmanager
def _in_time(take: Callable[[float], AbstractContextManager[None]]) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(take(_LONGEST_TURN_S))
        except TimeoutError:
            raise TurnError from None
        yield


def _alike(error: Exception, other: Exception) -> bool:
    """Tell whether two errors say the same, apart from the C++ function that cppyy called."""
    texts = {str(each).rpartition("=>")[2].strip() for each in (error, other)}
    return type(error).__name__ == type(other).__name__ and len(texts) == 1


def _written(operation: Any) -> str:
    """Return an operation as the user wrote it, about."""
    given = [*map(_shown, operation.args)]
    given += [f"{name}={_shown(value)}" for name, value in operation.kwargs.items()]
    return f"{operation.name}({', '.join(given)})"


def _shown(argument: Any) -> str:
    text = getattr(argument, "written_as", None) or repr(argument)
    return text if len(text) <= _LONGEST_ARGUMENT else f"{text[:_LONGEST_ARGUMENT]}..."
