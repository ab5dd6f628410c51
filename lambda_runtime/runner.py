"""ROOT, and the three operations: map a range, merge partial results, call a function.

The same code runs in a function's environment and, under local execution or Dask's own schedulers, in
the user's process.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import ROOT
from ROOT._distrdf.Backends import Utils

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import (
    CompilationError,
    DaskRootLambdaError,
    IncompleteResultError,
    InputError,
    UserCodeError,
)
from dask_root_lambda.protocol.task import Mapper, PartialResult, Program, session
from lambda_runtime import attachments, diagnostics, files
from lambda_runtime.compiled import CompiledGraphs

ROOT_VERSION = ".".join(str(ROOT.__version__).split(".")[:2])
"""ROOT's minor version, such as ``6.40``."""

_MAPPERS_KEPT = 8

# Ranges of one process may run in several threads; ROOT has to know before the first of them starts.
ROOT.EnableThreadSafety()
# The event loop runs without the GIL.
ROOT.Internal.RDF.TriggerRun.__release_gil__ = True


@dataclass(frozen=True)
class LoadedMapper:
    """A mapper with its program unpickled and the user's code declared."""

    mapper: Mapper
    program: Program
    ranges: list[Any]
    """DistRDF's ranges; their execution identifier is set for each run."""
    indices: dict[str, list[int]]
    """``file/tree`` -> where it stands in the file table."""
    checked: set[str] = dataclasses.field(default_factory=set)
    """Files whose content is the one that the client saw."""


class Runner:
    """The operations, with what a process keeps between them: mappers and compiled graphs."""

    def __init__(self) -> None:
        self._compiled = CompiledGraphs()
        self._mappers: OrderedDict[str, LoadedMapper] = OrderedDict()
        self._loading = threading.Lock()
        self._alone = threading.Lock()

    def load(self, digest: str, fetch: Callable[[], bytes]) -> LoadedMapper:
        """Return the mapper with this digest, unpickling it the first time.

        Parameters
        ----------
        digest
            SHA-256 of the mapper's blob.
        fetch
            Gets the blob; called only where the mapper is not known yet.
        """
        with self._loading:
            if digest not in self._mappers:
                self._mappers[digest] = _load(wire.loads(fetch()))
            self._mappers.move_to_end(digest)
            while len(self._mappers) > _MAPPERS_KEPT:
                self._mappers.popitem(last=False)
            return self._mappers[digest]

    def map(self, loaded: LoadedMapper, index: int) -> tuple[bytes, int]:
        """Run one range of the dataset through the graph.

        Returns
        -------
        blob, entries
            The blob of a `PartialResult`, and how many entries were processed.

        Raises
        ------
        InputError
            A file of the range is not the one that the client saw.
        CompilationError, UserCodeError
            The user's code did not compile, or threw.
        """
        mapper, data_range = loaded.mapper, loaded.ranges[index]
        # Graphs of a dataset specification crash in threads: https://github.com/root-project/root/issues/20845
        with self._alone if mapper.source == "spec" else nullcontext(), _user_code("the graph"):
            _check_files(loaded, data_range)
            rntuple = mapper.source == "rntuple"
            with self._compiled.borrow(mapper.compiled_key, rntuple=rntuple) as (identifier, is_new):
                # Compiling writes into the program's nodes, so each compilation needs nodes of its own.
                program = wire.loads(mapper.program) if is_new else loaded.program
                result = _run(loaded, program, dataclasses.replace(data_range, exec_id=identifier))
                blob = wire.dumps(result)
            if result.values is None and index == 0 and not any(result.entries_by_file.values()):
                with self._compiled.once() as identifier:
                    blob = wire.dumps(_run_without_entries(loaded, identifier, result))
            return blob, result.processed

    def merge(self, blobs: Iterable[bytes]) -> bytes:
        """Merge partial results, in order, into a new one; the inputs stay as they are."""
        with _user_code("the merge"):
            return wire.dumps(functools.reduce(_merge_into, map(wire.loads, blobs)))

    def finish(self, blob: bytes, *, n_files: int, entries: int | None) -> tuple[bytes, ...]:
        """Check a merged result against its dataset and split it into one blob per action.

        Parameters
        ----------
        blob
            Blob of the merged `PartialResult`.
        n_files
            Length of the dataset's file table.
        entries
            Entries of a dataset without files.

        Raises
        ------
        IncompleteResultError
            A file was not opened, or more or fewer entries processed than there are.
        """
        result: PartialResult = wire.loads(blob)
        missing = n_files - len(result.entries_by_file)
        expected = sum(result.entries_by_file.values()) if entries is None else entries
        if missing or result.processed != expected or result.values is None:
            raise IncompleteResultError(
                f"{result.processed:,} entries were processed of {expected:,}, and {missing} of {n_files} "
                "files were not opened. The result cannot be trusted: please report this, with the analysis"
            )
        return tuple(wire.dumps(value) for value in result.values)

    def call(self, blob: bytes) -> bytes:
        """Call a function; its exception passes through unchanged."""
        function, args, kwargs = wire.loads(blob)
        return wire.dumps(function(*args, **kwargs))


def _load(mapper: Mapper) -> LoadedMapper:
    if mapper.session != session():
        attachments.unpack(mapper.attachments)
    with _user_code("the C++ code given to DistributeCppCode"):
        if mapper.code and not ROOT.gInterpreter.Declare(mapper.code):
            raise RuntimeError("declaration failed")
    with _user_code("the function given to initialize"):
        program: Program = wire.loads(mapper.program)
        program.initialize()
    indices: dict[str, list[int]] = {}
    for index, file in enumerate(mapper.files):
        indices.setdefault(_file_key(file.url, file.tree), []).append(index)
    return LoadedMapper(mapper, program, program.ranges(exec_id=None), indices)


def _file_key(url: str, tree: str) -> str:
    """Name of a tree in a file, as DistRDF writes it."""
    return f"{url}/{tree}"


def _check_files(loaded: LoadedMapper, data_range: Any) -> None:
    """Compare the files of a range with those that the client saw, each once in this process."""
    if not loaded.mapper.files:
        return
    own = slice(data_range.first_file_idx, data_range.last_file_idx)
    for url, tree in zip(data_range.filenames[own], data_range.treenames[own], strict=True):
        if url in loaded.checked:
            continue
        expected = loaded.mapper.files[loaded.indices[_file_key(url, tree)][0]].identity
        found = files.identify(url)
        if found != expected:
            raise InputError(
                f"{url} is not the file it was when the RDataFrame was made ({found.size:,} bytes, then "
                f"{expected.size:,}): make the RDataFrame again"
            )
        loaded.checked.add(url)


def _run(loaded: LoadedMapper, program: Program, data_range: Any) -> PartialResult:
    objects = program.build(data_range)
    trees = objects.entries_in_trees
    if trees is None:
        processed, entries_by_file = data_range.end - data_range.start, {}
    else:
        processed, entries_by_file = trees.processed_entries, _by_index(loaded, trees.trees_with_entries)
    if objects.rdf is None:
        return PartialResult(None, 0, entries_by_file)
    actions = program.trigger(objects.rdf, data_range.id, data_range.exec_id)
    return PartialResult([Utils.get_mergeablevalue(action) for action in actions], processed, entries_by_file)


def _run_without_entries(loaded: LoadedMapper, identifier: Any, empty: PartialResult) -> PartialResult:
    """Run the graph over no entries, so that a dataset without entries has its (empty) results."""
    program: Program = wire.loads(loaded.mapper.program)
    actions = program.trigger(_frame_without_entries(loaded.mapper), 0, identifier)
    return dataclasses.replace(empty, values=[Utils.get_mergeablevalue(action) for action in actions])


def _frame_without_entries(mapper: Mapper) -> Any:
    if mapper.source == "entries":
        return ROOT.RDataFrame(0)
    if mapper.source == "rntuple":
        return ROOT.RDataFrame(mapper.files[0].tree, [file.url for file in mapper.files])
    spec = ROOT.RDF.Experimental.RDatasetSpec()
    spec.AddSample(("", [file.tree for file in mapper.files], [file.url for file in mapper.files]))
    return ROOT.RDataFrame(spec)


def _by_index(loaded: LoadedMapper, entries_by_key: dict[str, int]) -> dict[int, int]:
    """Entries by index in the file table; a file listed twice counts twice."""
    return {index: entries for key, entries in entries_by_key.items() for index in loaded.indices[key]}


def _merge_into(merged: PartialResult, other: PartialResult) -> PartialResult:
    """Merge ``other`` into ``merged``, whose values change: both were unpickled for this."""
    if merged.values is None or other.values is None:
        values = other.values if merged.values is None else merged.values
    else:
        values = merged.values
        for value, increment in zip(values, other.values, strict=True):
            Utils.merge_values(value, increment)
    return PartialResult(
        values, merged.processed + other.processed, merged.entries_by_file | other.entries_by_file
    )


@contextmanager
def _user_code(what: str) -> Iterator[None]:
    """Translate what the user's code raises, with ROOT's and Cling's diagnostics beside it."""
    reported = diagnostics.Record()
    try:
        with diagnostics.record() as reported:
            yield
    except DaskRootLambdaError:
        raise
    except Exception as error:
        name = type(error).__name__
        kind = CompilationError if reported.from_compiler else UserCodeError
        verdict = (
            "does not compile; see the line below" if reported.from_compiler else f"raised {name}: {error}"
        )
        raise kind(
            f"{what} {verdict}",
            type_name=name,
            traceback=traceback.format_exc(),
            diagnostics=reported.text,
        ) from None
