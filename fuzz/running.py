"""Running a program in this process, by local ROOT and by this package."""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import ROOT

from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.protocol.errors import CompilationError
from fuzz import refusals, sources, values
from fuzz.programs import Action, Graph, Program, booking


@dataclass(frozen=True)
class Outcome:
    """What became of a program."""

    status: str
    """``same``, ``differs``, ``fails``, ``crashes``, ``hangs``, ``refused``; ``invalid`` by local ROOT."""
    what: str = ""
    """What differs, or the error."""
    kind: str = ""
    """About what findings of one fault share: the operation and the part that differs, or the error."""
    spoils: bool = False
    """Whether ROOT compiles nothing new any more in the process: code that it made did not compile."""

    @property
    def found(self) -> bool:
        """Whether it is a difference."""
        return self.status in ("differs", "fails", "crashes", "hangs")


class InterruptedLoopError(Exception):
    """Local ROOT gave values of an event loop that it had not finished."""


class Runner:
    """A cluster of this process, whose execution is switched, and a folder for what programs write.

    Parameters
    ----------
    data
        The folder of the sources' files.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._cluster = LambdaCluster(
            execution="local", concurrency=2, timeout_s=60, dashboard_address=None, progress=False
        )
        self._client = self._cluster.get_client()

    def close(self) -> None:
        """End the cluster and delete what was written."""
        self._client.close()
        self._cluster.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, program: Program, done: Callable[[], None] = lambda: None) -> Outcome:
        """Run a program both ways, and compare.

        Parameters
        ----------
        program
            The program.
        done
            Called when local ROOT has run it.
        """
        try:
            expected = [value for graph in program.graphs for value in self._locally(graph)]
        except Exception as error:  # whatever a program raises is its outcome
            return Outcome("invalid", _first_line(error), spoils=_spoils(error))
        done()
        try:
            for _ in range(program.rounds):
                outcome = _compared(program, expected, self._here(program))
                if outcome.found:
                    return outcome
        except Exception as error:  # whatever a program raises is its outcome
            return _failed(error)
        return Outcome("same")

    def _locally(self, graph: Graph) -> Iterator[Any]:
        kept: list[Any] = []
        frame = ROOT.RDataFrame(*sources.arguments(graph.source, self._data, kept))
        seen = frame.Count()
        results, folder = self._booked(graph, frame, ROOT.RDF.Experimental.VariationsFor, kept)
        for action, result in zip(graph.actions, results, strict=True):
            value = result.GetValue() if hasattr(result, "GetValue") else result
            yield _plain(action, value, folder)
        # A Snapshot that runs at once drops the error of an event loop, and leaves the others half filled.
        entries = ROOT.RDataFrame(*sources.arguments(graph.source, self._data, kept)).Count()
        if seen.GetValue() != entries.GetValue():
            raise InterruptedLoopError(f"local ROOT has stopped after {seen.GetValue()} entries")

    def _here(self, program: Program) -> list[Any]:
        self._cluster.execution = program.execution
        settings = {"fan-in": program.fan_in, "merge-on": program.merge_on}
        with dask.config.set({f"dask-root-lambda.{name}": value for name, value in settings.items()}):
            kept: list[Any] = []
            booked = [
                self._booked(
                    graph, self._frame(program, graph, kept), ROOT.RDF.Distributed.VariationsFor, kept
                )
                for graph in program.graphs
            ]
            computed = _computed(program.compute, [result for results, _ in booked for result in results])
        found = []
        for graph, (_, folder) in zip(program.graphs, booked, strict=True):
            found += [_plain(action, next(computed), folder) for action in graph.actions]
        return found

    def _frame(self, program: Program, graph: Graph, kept: list[Any]) -> Any:
        given = sources.arguments(graph.source, self._data, kept)
        if program.door == "ours":
            return RDataFrame(*given, npartitions=program.npartitions)
        options = {} if program.npartitions is None else {"npartitions": program.npartitions}
        return ROOT.RDataFrame(*given, executor=self._client, **options)

    def _booked(self, graph: Graph, frame: Any, variations: Any, kept: list[Any]) -> tuple[list[Any], Path]:
        """Book the actions of a graph, and keep its nodes if asked; return the results and their folder."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        space = {
            "ROOT": ROOT,
            "np": np,
            "VariationsFor": variations,
            "keep": lambda *nodes: kept.extend(nodes),
            "target": functools.partial(_target, folder),
        }
        exec(booking(graph), space)
        return space["book"](sources.defined(graph.source, frame)), folder


def _target(folder: Path, number: int) -> str:
    (folder / str(number)).mkdir()
    return str(folder / str(number) / "out.root")


def _computed(how: str, results: Sequence[Any]) -> Iterator[Any]:
    """Return the values of results; those that ran when they were booked are values."""
    if how == "compute":
        return iter(dask.compute(*results))
    if how == "persist":
        results = dask.persist(*results)
    if how == "RunGraphs":
        ROOT.RDF.RunGraphs([result for result in results if hasattr(type(result), "GetValue")])
    return (result.GetValue() if hasattr(type(result), "GetValue") else result for result in results)


def _plain(action: Action, value: Any, folder: Path) -> Any:
    if action.operation != "Snapshot":
        return values.plain(value, action.operation)
    # By its own number: a program that was made smaller has lost others.
    (number,) = re.findall(r"target\((\d+)\)", action.arguments)
    paths = (folder / number).glob("*.root")
    written = sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
    with ROOT.TFile.Open(str(written[0])) as file:
        (tree,) = {str(key.GetName()) for key in file.GetListOfKeys()}
    frame = ROOT.RDataFrame(tree, [str(path) for path in written])
    columns = sorted(str(name) for name in frame.GetColumnNames())
    return {
        "columns": [[name, str(frame.GetColumnType(name))] for name in columns],
        "count": int(value.Count().GetValue()),
        "entries": values.plain(frame.AsNumpy(columns)),
    }


def _compared(program: Program, expected: Sequence[Any], found: Sequence[Any]) -> Outcome:
    actions = [action for graph in program.graphs for action in graph.actions]
    for action, one, other in zip(actions, expected, found, strict=True):
        for difference in values.differences(one, other, action.scale):
            return Outcome("differs", f"{action.operation}: {difference}", _kind(action, difference))
    return Outcome("same")


def _kind(action: Action, difference: str) -> str:
    part = re.sub(r"\[.*", "", difference.partition(":")[0])
    return f"{action.operation}{' varied' if action.varied else ''}{f' {part}' if part else ''}"


def _failed(error: Exception) -> Outcome:
    reason = refusals.reason(error)
    if reason:
        return Outcome("refused", _first_line(error), reason)
    told = f"{type(error).__name__}: {str(error)[:2000]}"
    return Outcome("fails", told, _shape(error), spoils=_spoils(error))


def _spoils(error: Exception) -> bool:
    marks = ("just-in-time compilation", "unordered_map::at")
    return isinstance(error, CompilationError) or any(mark in str(error) for mark in marks)


def _shape(error: Exception) -> str:
    """Return an error without the names and numbers that differ from program to program."""
    text = " ".join(str(error).partition("[task")[0].split())
    return f"{type(error).__name__}: {re.sub(r'/[^ :]*|[0-9a-f]{6,}|[0-9]+', '_', text)[:250]}"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
