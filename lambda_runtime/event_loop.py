"""Running a range of entries through a graph: compile or take a compiled one, give it the range, run it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import ROOT
from ROOT._distrdf import ComputationGraphGenerator
from ROOT._distrdf.Backends import Utils
from ROOT._distrdf.Operation import Action, InstantAction, VariationsFor
from ROOT._pythonization._rdataframe import AsNumpyResult

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import DaskRootLambdaError
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.task import DataFile, Mapper, PartialResult, Program, session
from lambda_runtime import attribution, counting, reports, rntuples, sharing, snapshots, variables, whole
from lambda_runtime.arrays import read_out
from lambda_runtime.compiled import CompiledGraph, CompiledGraphs
from lambda_runtime.diagnostics import LoopError
from lambda_runtime.displays import Table
from lambda_runtime.locking import SharedLock
from lambda_runtime.mappers import LoadedMapper
from lambda_runtime.snapshots import RangeSnapshot
from lambda_runtime.stopping import OnStop

_COMPILED_ANEW = ("Display", "HistoND", "HistoNSparseD", "Report")
"""Actions whose clones are wrong in ROOT 6.40, those of their variations, too: of a THnD keeps the entries of
the one before, of a weighted THnSparse sums no squares of weights, of a cut-flow report crashes (also in
ROOT's own Dask backend), of a Display there is none."""
_BOOKED_ANEW = (*_COMPILED_ANEW, "AsNumpy")
"""AsNumpy of vectors cannot be cloned; booked again, it needs no compiler, and less time than for a clone."""

_turns = SharedLock()
"""Held alone to compile, together to run: ROOT keeps the code that waits to be compiled per process."""
_one_at_a_time = threading.Lock()


def compiling() -> AbstractContextManager[None]:
    """Hold back ranges of this process while something else than a range is compiled."""
    return _turns.alone()


# The event loop runs without the GIL.
ROOT.Internal.RDF.TriggerRun.__release_gil__ = True


class EventLoop:
    """Runs ranges, in several threads where the process is shared.

    Parameters
    ----------
    shared
        Whether several threads may run ranges, in a process that goes on after them. In a function's
        environment there is one, and what compiling in turn costs at a cold start is saved.
    """

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._compiled = CompiledGraphs()

    def run(
        self, loaded: LoadedMapper, data_range: Any, interval: Interval, on_stop: OnStop | None
    ) -> PartialResult:
        """Run a range.

        Parameters
        ----------
        loaded
            The graph and its dataset.
        data_range
            DistRDF's range.
        interval
            What it reads.
        on_stop
            See `lambda_runtime.runner.Runner.map`.
        """
        try:
            return self._run_alone(loaded, data_range, interval, on_stop)
        except LoopError as error:
            if error.began or not getattr(data_range, "from_first", None):
                raise
        # Its files may lack a column that the graph names, though it reads none of their entries: local ROOT
        # knows the column by the first file.
        return self._run_alone(loaded, data_range.from_first(), interval, on_stop)

    def _run_alone(
        self, loaded: LoadedMapper, data_range: Any, interval: Interval, on_stop: OnStop | None
    ) -> PartialResult:
        mapper = loaded.mapper
        key = f"{mapper.compiled_key}{'-stoppable' if on_stop else ''}"
        held = variables.held(mapper.variables, own=mapper.session == session())
        with _alone(mapper), held, self._compiled.borrow(key, rntuple=mapper.source == "rntuple") as graph:
            with _tidy(graph), _attributable(mapper, graph, data_range):
                seen = self._run(loaded, graph, data_range, on_stop)
            result = dataclasses.replace(seen, intervals=(interval,))
            if result.values is None and interval.start == 0 and not any(result.entries_by_file.values()):
                result = _run_without_entries(mapper, result)
            return result

    def _run(
        self, loaded: LoadedMapper, graph: CompiledGraph, data_range: Any, on_stop: OnStop | None
    ) -> PartialResult:
        own = dataclasses.replace(data_range, exec_id=graph.identifier)
        is_new = graph.actions is None
        with _turns.alone() if is_new or _compiles_anew(graph) else _turns.shared():
            prepare = self._compile if is_new else self._reuse
            frame, trees = prepare(loaded, graph, own, stoppable=on_stop is not None)
        by_tree = {} if trees is None else trees.trees_with_entries
        entries = loaded.by_index(by_tree)
        if frame is None or graph.actions is None:
            return PartialResult(None, (), 0, entries)
        node = ROOT.RDF.AsRNode(frame)
        graph.counter.Watch(node)
        if graph.offset is not None:
            graph.offset.Set(whole.entries_before(loaded.mapper, data_range))
        sources = whole.sources(loaded.mapper, data_range, by_tree)
        with _turns.shared(), whole.described(sources), _stoppable(graph, on_stop):
            ROOT.Internal.RDF.TriggerRun(node)
        values = _mergeables(graph.program, graph.actions)
        return PartialResult(values, (), int(graph.counter.seen), entries)

    def _compile(
        self, loaded: LoadedMapper, graph: CompiledGraph, data_range: Any, *, stoppable: bool
    ) -> tuple[Any, Any]:
        """Build and compile the graph over the range; return its frame, None if the range is empty."""
        # Building writes into the program's nodes, so each graph needs nodes of its own.
        program: Program = wire.loads(loaded.mapper.program)
        graph.program = program
        objects = program.build(data_range)
        frame = objects.rdf
        if frame is not None:
            if loaded.mapper.names:
                whole.declare()
            if loaded.mapper.files and loaded.mapper.entries:
                graph.offset = whole.new_offset()
                frame = whole.counted_from(graph.offset, frame)
            if stoppable:
                graph.switch = sharing.new_switch()
                frame = sharing.behind(graph.switch, frame)
            graph.head = objects.rdf
            actions = _book(program, objects.rdf, frame, data_range.id)
            graph.counter = counting.new_counter()
            graph.unvaried = _unvaried(program, actions)
            graph.actions = _with_nominals(actions, graph.unvaried)
            if self._shared:
                sharing.compile_graph(frame)
        return frame, objects.entries_in_trees

    def _reuse(
        self, loaded: LoadedMapper, graph: CompiledGraph, data_range: Any, *, stoppable: bool
    ) -> tuple[Any, Any]:
        """Give a compiled graph another range; return its frame, None if the range is empty."""
        objects = loaded.program.build(data_range)
        if objects.rdf is not None:
            graph.actions = _book_again(loaded, graph, data_range.id)
            if self._shared and _compiles_anew(graph):
                sharing.compile_graph(objects.rdf)
        return objects.rdf, objects.entries_in_trees


def _alone(mapper: Mapper) -> AbstractContextManager[Any]:
    """Graphs of a specification crash in threads (issue 20845 of root-project/root); others ask for it."""
    return _one_at_a_time if mapper.source == "spec" or mapper.alone else nullcontext()


@contextmanager
def _attributable(mapper: Mapper, graph: CompiledGraph, data_range: Any) -> Iterator[None]:
    """Let what is raised in the block tell which operation it was."""
    began_s = time.monotonic()
    try:
        yield
    except DaskRootLambdaError:
        raise
    except Exception as error:  # whatever the user's code throws
        raised, took_s = error, time.monotonic() - began_s
        own = dataclasses.replace(data_range, exec_id=graph.identifier)

        def find() -> str | None:
            with _alone(mapper):
                return attribution.find(graph, own, raised, took_s, _turns)

        raise LoopError(find, began=graph.actions is not None) from error


@contextmanager
def _tidy(graph: CompiledGraph) -> Iterator[None]:
    """Remove what the graph's Snapshots wrote in the block if that fails."""
    try:
        yield
    except BaseException:
        if graph.program is not None:
            snapshots.discard(graph.program.nodes)
        raise


@contextmanager
def _stoppable(graph: CompiledGraph, on_stop: OnStop | None) -> Iterator[None]:
    if on_stop is None:
        yield
        return
    # One who stopped the run before may have thrown it just as that ended.
    graph.switch.Reset()
    on_stop(graph.switch.Throw)
    try:
        yield
    finally:
        on_stop(None)
        graph.switch.Over()


def _actions(program: Program) -> list[Any]:
    """Return the nodes of a graph's actions, in the order of its results."""
    return [node for node in program.nodes.values() if isinstance(node.operation, Action | InstantAction)]


def _unvaried(program: Program, actions: list[Any]) -> dict[int, int]:
    """Return the places of variations of what nothing varies, with those of their nominal results.

    ROOT's map of such variations holds the nominal result alone, and crashes when it is cloned or merged.
    """
    places = {id(node): place for place, node in enumerate(_actions(program))}
    return {
        place: places[id(program.nodes[node.parent_id])]
        for node, (place, action) in zip(_actions(program), enumerate(actions), strict=True)
        if isinstance(node.operation, VariationsFor) and len(action.GetKeys()) == 1
    }


def _with_nominals(actions: list[Any], unvaried: dict[int, int]) -> list[Any]:
    return [actions[unvaried.get(place, place)] for place in range(len(actions))]


def _book(program: Program, head: Any, frame: Any, range_id: int) -> list[Any]:
    """Book the operations of a graph on a node of a range's frame; return the results of its actions."""
    snapshots.prepare(program.nodes, program.nodes, range_id)
    booked = ComputationGraphGenerator.generate_computation_graph(program.nodes, frame, range_id)
    return reports.booked_on(head, _actions(program), booked)


def _compiles_anew(graph: CompiledGraph) -> bool:
    return any(
        node.operation.name in _COMPILED_ANEW or _writes_anew(node.operation)
        for node in _actions(graph.program)
    )


def _writes_anew(operation: Any) -> bool:
    return isinstance(operation, RangeSnapshot) and not operation.cloned


def _book_again(loaded: LoadedMapper, graph: CompiledGraph, range_id: int) -> list[Any]:
    """Book the actions of a compiled graph once more: cloned, where ROOT clones them right."""
    snapshots.prepare(graph.program.nodes, loaded.program.nodes, range_id)
    numbers = {id(node): number for number, node in graph.program.nodes.items()}
    booked: dict[int, Any] = {}
    for place, (node, action) in enumerate(zip(_actions(graph.program), graph.actions or (), strict=True)):
        if place in graph.unvaried:
            again = booked[node.parent_id]
        else:
            again = _booked_again(graph, node, action, booked, range_id)
        booked[numbers[id(node)]] = again
    return list(booked.values())


def _booked_again(
    graph: CompiledGraph, node: Any, action: Any, booked: Mapping[int, Any], range_id: int
) -> Any:
    operation, parent = node.operation, graph.program.nodes[node.parent_id]
    if reports.is_of_frame(node):
        return graph.head.Report()
    if isinstance(operation, VariationsFor) and parent.operation.name in _BOOKED_ANEW:
        return ROOT.RDF.Experimental.VariationsFor(booked[node.parent_id])
    if operation.name in _BOOKED_ANEW or _writes_anew(operation):
        return getattr(parent.rdf_node, operation.name)(*operation.args, **operation.kwargs)
    if isinstance(operation, RangeSnapshot):
        return ROOT.Internal.RDF.CloneResultAndAction(action, operation.args[1])
    return Utils.clone_action(action, range_id)


def _mergeables(program: Program, actions: list[Any]) -> list[Any]:
    return [
        _mergeable(node.operation, action) for node, action in zip(_actions(program), actions, strict=True)
    ]


def _mergeable(operation: Any, action: Any) -> Any:
    if isinstance(operation, RangeSnapshot):
        return operation.result
    if operation.name == "Display":
        _, *limits = operation.args
        return Table(action.GetValue(), *limits)
    return read_out(action) if isinstance(action, AsNumpyResult) else Utils.get_mergeablevalue(action)


def _run_without_entries(mapper: Mapper, empty: PartialResult) -> PartialResult:
    """Run the graph over files without entries, so that a dataset of such files has its (empty) results."""
    program: Program = wire.loads(mapper.program)
    files = [mapper.files[index] for index in empty.entries_by_file]
    with _turns.alone():
        if mapper.names:
            whole.declare()
        frame = _frame_without_entries(mapper, files)
        actions = _book(program, frame, frame, 0)
        ROOT.Internal.RDF.TriggerRun(ROOT.RDF.AsRNode(frame))
        actions = _with_nominals(actions, _unvaried(program, actions))
        return dataclasses.replace(empty, values=_mergeables(program, actions))


def _frame_without_entries(mapper: Mapper, files: list[DataFile]) -> Any:
    if mapper.source == "entries":
        return ROOT.RDataFrame(0)
    if mapper.source == "rntuple":
        return rntuples.frame_without_entries(files[0].tree, [file.url for file in files])
    spec = ROOT.RDF.Experimental.RDatasetSpec()
    spec.AddSample(("", [file.tree for file in files], [file.url for file in files]))
    return ROOT.RDataFrame(spec)
