"""Operations on a node of a graph: what they are called, what they may be given, how they are booked."""

from __future__ import annotations

import difflib
import importlib.util
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import ROOT
from ROOT._distrdf import Proxy
from ROOT._distrdf.Operation import (
    SUPPORTED_OPERATIONS,
    Action,
    InstantAction,
    Operation,
    Snapshot,
    Transformation,
    VariationsFor,
    create_op,
)

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import ConfigurationError, GraphError
from dask_root_lambda.rdf import defaults, heads, readout, skipping, snapshots
from dask_root_lambda.rdf.taken import Taken
from lambda_runtime import diagnostics
from lambda_runtime.remote.names import shown

_OURS = ("Display", "Range", "Take")
"""Operations that DistRDF does not have."""
OPERATIONS = tuple(
    sorted({name for name in SUPPORTED_OPERATIONS if hasattr(ROOT.RDF.RNode, name)} | {*_OURS})
)
"""Names of the operations that can be booked on a node. DistRDF lists one more that RDataFrame does not have,
``Profile3D``, and one of results."""

LOOK_UPS = (
    "Describe",
    "GetColumnNames",
    "GetColumnType",
    "GetDefinedColumnNames",
    "GetFilterNames",
    "HasColumn",
)
"""What can be asked of a graph without running it."""

_IMPLICIT_COLUMNS = ("rdfentry_", "rdfslot_", "tdfentry_", "tdfslot_")
_AXES = {"Histo1D": 1, "Histo2D": 2, "Histo3D": 3, "Profile1D": 1, "Profile2D": 2}
"""Actions with a model of a histogram, and how many of its axes have limits."""
_COLUMN_ACTIONS = (
    "Display",
    "Histo",
    "Profile",
    "Graph",
    "Max",
    "Mean",
    "Min",
    "Stats",
    "StdDev",
    "Sum",
    "AsNumpy",
    "Snapshot",
)
"""Actions that name columns."""

_CALCULATING = ("Graph", "Histo", "Max", "Mean", "Min", "Profile", "Stats", "StdDev", "Sum")
"""Actions that calculate with columns."""
_TEXT = re.compile(r"\b(?:TString|string(?:_view)?)\b")


def book(parent: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Book an operation on a node of DistRDF; return its node.

    A transformation is booked on a local RDataFrame as well, so that an expression which does not compile
    fails here, at the user's line.

    Raises
    ------
    GraphError
        The operation cannot work: an unknown column, an expression that does not compile.
    ConfigurationError
        It takes a Python function, and numba is not installed.
    """
    _check_callables(name, (*args, *kwargs.values()))
    _check_axes(name, args, kwargs)
    skipping.check_operation(parent.get_head(), name)
    if name == "Range":
        return _book_range(parent, args, kwargs)
    if name == "Display":
        args, kwargs = readout.display_arguments(_frame(parent), args, kwargs), {}
    elif not kwargs:
        args = defaults.filled(name, args, parent.get_head().default_columns)
    if name == "AsNumpy":
        args, kwargs = (), readout.arguments(_frame(parent), args, kwargs)
    if name == "Snapshot":
        args, kwargs = snapshots.arguments(args, kwargs), {}
    try:
        operation = (Action if name == "Display" else create_op)(name, *args, **kwargs)
    except (ValueError, IndexError) as error:
        raise GraphError(f"{_written(name, args)}: {error}") from error
    if not isinstance(operation, Transformation):
        _check_columns(parent, operation)
        return Proxy._create_new_node(parent, operation)
    frame = _apply(parent.rdf_node, operation)
    node = Proxy._create_new_node(parent, operation)
    node.rdf_node = frame
    return node


def _book_range(parent: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Book a ``Range``: here as ROOT's own, in ranges of the data set as a cut by the entry's number."""
    chosen = heads.entry_range(parent, args, kwargs)
    frame = _apply(parent.rdf_node, Transformation("Range", chosen.begin, chosen.end, chosen.stride))
    node = Proxy._create_new_node(parent, Transformation("Filter", chosen.expression))
    node.rdf_node, node.entry_range = frame, chosen
    return node


def book_take(parent: Any, taken: Taken) -> Any:
    """Book a ``Take`` on a node of DistRDF, as arrays; return its node.

    Raises
    ------
    GraphError
        There is no such column, or its type is another one.
    """
    node = book(parent, "AsNumpy", ([taken.column],), {"lazy": True})
    frame = _frame(parent)
    stored = taken.column not in map(str, frame.GetDefinedColumnNames())
    taken.check(str(frame.GetColumnType(taken.column)), stored=stored)
    node.taken = taken
    return node


def _apply(frame: Any, operation: Operation) -> Any:
    reported = diagnostics.Record()
    try:
        with diagnostics.record() as reported:
            return getattr(frame, operation.name)(*operation.args, **operation.kwargs)
    except Exception as error:  # ROOT and cppyy raise several classes for what does not compile
        said = reported.text.strip() or diagnostics.said(error)
        raise GraphError(f"{_written(operation.name, operation.args)} does not work:\n{said}") from error


def _check_callables(name: str, arguments: Sequence[Any]) -> None:
    for function in arguments:
        if isinstance(function, types.FunctionType):
            _check_callable(name, function)


def _check_callable(name: str, function: types.FunctionType) -> None:
    if not importlib.util.find_spec("numba"):
        raise ConfigurationError(
            f"{name} was given a Python function, which numba compiles: install it with "
            "pip install 'dask-root-lambda[numba]', or write the function as a C++ expression in a string"
        )
    try:
        wire.dumps(function)
    except Exception as error:  # whatever the user's objects raise when they are pickled
        raise GraphError(
            f"{name}: the function {function.__name__} cannot be sent to where it runs: "
            f"{type(error).__name__}: {error}. Make what it needs inside it"
        ) from error


def _check_axes(name: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
    """Refuse axes that ROOT would fit to the entries that it sees: each range would have others."""
    if name not in _AXES:
        return
    if named or not arguments:
        instead = f"not {', '.join(named)}" if named else "given nothing"
        raise GraphError(f"{name} takes a model and columns, by position, as in ROOT; {instead}")
    model = arguments[0]
    if isinstance(model, str) or any(not low < high for low, high in _limits(model, _AXES[name])):
        raise GraphError(
            f"{_written(name, arguments)} has an automatic axis, which each range would fit to its "
            "own entries: give the limits, such as (name, title, 100, 0.0, 50.0)"
        )


def _limits(model: Any, n_axes: int) -> Iterator[tuple[float, float]]:
    """Yield the limits of the axes of a histogram's model that are given by limits, not by edges."""
    if not isinstance(model, tuple | list):
        for axis in "XYZ"[:n_axes]:
            if not len(getattr(model, f"fBin{axis}Edges", ())):
                yield getattr(model, f"f{axis}Low", 0.0), getattr(model, f"f{axis}Up", 1.0)
        return
    rest = list(model[3:])
    for _ in range(n_axes):
        if len(rest) >= 2 and all(isinstance(limit, Real) for limit in rest[:2]):
            yield rest[0], rest[1]
            rest = rest[3:]
        else:
            rest = rest[2:]


def _check_columns(parent: Any, operation: Operation) -> None:
    """Look up the columns that an action names; DistRDF itself finds out where the graph runs."""
    if not operation.name.startswith(_COLUMN_ACTIONS):
        return
    frame = _frame(parent)
    for name in _column_names(operation):
        if name and name not in _IMPLICIT_COLUMNS and not frame.HasColumn(name):
            known = [str(column) for column in frame.GetColumnNames()]
            close = difflib.get_close_matches(name, known, 3)
            hint = (
                f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(sorted(known)[:20])}"
            )
            given = operation.args or [operation.kwargs.get("columns")]
            raise GraphError(f"{_written(operation.name, given)}: no column {name!r}; {hint}")
        if name and operation.name.startswith(_CALCULATING):
            _check_numbers(operation, name, str(frame.GetColumnType(name)))


def _check_numbers(operation: Operation, column: str, type_name: str) -> None:
    """Refuse text where ROOT needs numbers: its code would not compile, and spoil the process for others."""
    if _TEXT.search(type_name):
        raise GraphError(
            f"{_written(operation.name, operation.args)}: {column!r} is a {type_name}, not a number: Define "
            "a number of it, or read it by Take or AsNumpy"
        )


def _column_names(operation: Operation) -> Iterator[str]:
    if isinstance(operation, Snapshot):
        columns = operation.args[2]
        return iter(()) if isinstance(columns, str) else _names([columns])
    return _names((*operation.args, operation.kwargs.get("columns")))


def _frame(parent: Any) -> Any:
    """Return the local RDataFrame of a node; an action has none of its own."""
    return parent.rdf_node if parent.rdf_node is not None else parent.get_head().rdf_node


def _names(arguments: Sequence[Any]) -> Iterator[str]:
    for item in arguments:
        if isinstance(item, str):
            yield item
        elif isinstance(item, list | ROOT.std.vector["std::string"]):
            yield from (str(name) for name in item)


def _written(name: str, args: Sequence[Any]) -> str:
    """Return an operation as the user wrote it, about."""
    return f"{name}({', '.join(repr(shown(item) if isinstance(item, str) else item) for item in args)})"


def is_transformation(node: Any) -> bool:
    """Tell whether more can be booked on a node."""
    return isinstance(node.operation, Transformation)


def is_instant(node: Any) -> bool:
    """Tell whether a node's action runs as soon as it is booked: Snapshot and AsNumpy, unless lazy."""
    operation = node.operation
    if isinstance(operation, Snapshot):
        return not operation.args[3].fLazy
    return isinstance(operation, InstantAction) and not operation.kwargs.get("lazy", False)


def check_varied(node: Any) -> None:
    """Raise `GraphError` for results that have no variations."""
    operation = node.operation
    if isinstance(operation, InstantAction | VariationsFor) or operation.name == "Report":
        raise GraphError(f"{operation.name} has no variations: book them of a histogram or another action")
