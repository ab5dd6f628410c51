"""ROOT's DistRDF, as we use it: its graphs are booked here, and its Dask backend is replaced by ours.

The graph of either door is DistRDF's own: a head node made of the constructor's arguments, and a node per
booked operation.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import operator
import types
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ROOT
from distributed import Client
from ROOT._distrdf import DataFrame, HeadNode, Proxy
from ROOT._distrdf.Backends import Utils
from ROOT._distrdf.Backends.Base import BaseBackend
from ROOT._distrdf.Operation import (
    SUPPORTED_OPERATIONS,
    InstantAction,
    Operation,
    Snapshot,
    Transformation,
    create_op,
)

from dask_root_lambda import gateway, inputs, packing
from dask_root_lambda import graph as graphs
from dask_root_lambda.config import Settings
from dask_root_lambda.graph import Placement, RunGraph
from dask_root_lambda.protocol import rootfile, wire
from dask_root_lambda.protocol.errors import ConfigurationError, GraphError
from lambda_runtime import diagnostics

OPERATIONS = tuple(sorted(SUPPORTED_OPERATIONS))
"""Names of the operations that can be booked."""

LOOK_UPS = ("GetColumnNames", "GetColumnType", "GetDefinedColumnNames", "GetFilterNames", "HasColumn")
"""What can be asked of a graph without running it."""

_IMPLICIT_COLUMNS = ("rdfentry_", "rdfslot_", "tdfentry_", "tdfslot_")
_COLUMN_ACTIONS = ("Histo", "Profile", "Graph", "Max", "Mean", "Min", "Stats", "StdDev", "Sum", "AsNumpy")
"""Actions whose strings are names of columns."""


def head_node(backend: BaseBackend, npartitions: int | None, args: Sequence[Any]) -> Any:
    """Make DistRDF's head node of the arguments of an RDataFrame constructor.

    Raises
    ------
    InputError
        A file is missing, truncated or not a ROOT file, or holds no such tree.
    GraphError
        No constructor of DistRDF takes these arguments.
    ConfigurationError
        ``npartitions`` is not a positive whole number.
    """
    diagnostics.check_compiler()
    n_ranges = _checked_npartitions(npartitions)
    identities = inputs.check(args)
    try:
        with diagnostics.record():
            head = HeadNode.get_headnode(backend, n_ranges, *args)
    except Exception as error:
        raise inputs.explain(args, error) from error
    inputs.make_absolute(head)
    head.identities = identities
    # A TTree or TDirectory among them has to live as long as the frame.
    head.arguments = args
    return head


def _checked_npartitions(npartitions: Any) -> int | None:
    if npartitions is None:
        return None
    try:
        n_ranges = 0 if isinstance(npartitions, bool) else operator.index(npartitions)
    except TypeError:
        n_ranges = 0
    if n_ranges < 1:
        raise ConfigurationError(f"npartitions is {npartitions!r}: it has to be a whole number from 1")
    return n_ranges


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
    try:
        operation = create_op(name, *args, **kwargs)
    except (ValueError, IndexError) as error:
        raise GraphError(f"{_written(name, args)}: {error}") from error
    if not isinstance(operation, Transformation):
        _check_columns(parent, operation)
        _prepare_snapshot(operation)
        return Proxy._create_new_node(parent, operation)
    frame = _apply(parent.rdf_node, operation)
    node = Proxy._create_new_node(parent, operation)
    node.rdf_node = frame
    return node


def _apply(frame: Any, operation: Operation) -> Any:
    reported = diagnostics.Record()
    try:
        with diagnostics.record() as reported:
            return getattr(frame, operation.name)(*operation.args, **operation.kwargs)
    except Exception as error:
        said = reported.text.strip() or diagnostics.first_line(error)
        raise GraphError(f"{_written(operation.name, operation.args)} does not work:\n{said}") from error


def _check_callables(name: str, arguments: Sequence[Any]) -> None:
    if any(isinstance(item, types.FunctionType) for item in arguments) and not importlib.util.find_spec(
        "numba"
    ):
        raise ConfigurationError(
            f"{name} was given a Python function, which numba compiles: install it with "
            "pip install 'dask-root-lambda[numba]', or write the function as a C++ expression in a string"
        )


def _check_columns(parent: Any, operation: Operation) -> None:
    """Look up the columns that an action names; DistRDF itself finds out where the graph runs."""
    if not operation.name.startswith(_COLUMN_ACTIONS):
        return
    frame = parent.rdf_node if parent.rdf_node is not None else parent.get_head().rdf_node
    for name in _names((*operation.args, operation.kwargs.get("columns"))):
        if name and name not in _IMPLICIT_COLUMNS and not frame.HasColumn(name):
            known = [str(column) for column in frame.GetColumnNames()]
            close = difflib.get_close_matches(name, known, 3)
            hint = (
                f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(sorted(known)[:20])}"
            )
            raise GraphError(f"{_written(operation.name, operation.args)}: no column {name!r}; {hint}")


def _names(arguments: Sequence[Any]) -> Iterator[str]:
    for item in arguments:
        if isinstance(item, str):
            yield item
        elif isinstance(item, list | ROOT.std.vector["std::string"]):
            yield from (str(name) for name in item)


def _prepare_snapshot(operation: Operation) -> None:
    """Make a local path absolute, as environments have another working directory; refuse it on AWS."""
    path = rootfile.local_path(str(operation.args[1])) if isinstance(operation, Snapshot) else None
    if path is None:
        return
    if gateway.target().on_aws:
        raise GraphError(
            f"Snapshot to {path}: a function in AWS cannot write to this machine. Give a root:// URL, or use "
            "execution='local' or 'emulated'"
        )
    operation.args[1] = inputs.absolute(str(operation.args[1]))


def _written(name: str, args: Sequence[Any]) -> str:
    """Return an operation as the user wrote it, about."""
    return f"{name}({', '.join(repr(item) for item in args)})"


def is_transformation(node: Any) -> bool:
    """Tell whether more can be booked on a node."""
    return isinstance(node.operation, Transformation)


def is_instant(node: Any) -> bool:
    """Tell whether a node's action runs as soon as it is booked: Snapshot and AsNumpy, unless lazy."""
    operation = node.operation
    if isinstance(operation, Snapshot):
        return not (len(operation.args) == 4 and operation.args[3].fLazy)
    return isinstance(operation, InstantAction) and not operation.kwargs.get("lazy", False)


@dataclass(frozen=True)
class Lowered:
    """A head node's booked actions as a Dask graph."""

    graph: RunGraph
    actions: tuple[Any, ...]
    """DistRDF's nodes, in the order of the graph's results."""


def state(head: Any) -> tuple[Any, ...]:
    """Return what a lowering depends on: booked actions, content of files, the user's code, where it runs."""
    settings = Settings.resolve()
    pending = tuple(sorted(head._generate_graph_dict()))
    client = gateway.current_client()
    where = client and client.id, settings.fan_in, settings.merge_on
    return pending, inputs.identities(head), packing.registered(head.backend), where


def lower(head: Any) -> Lowered:
    """Lower a head node, with every action booked on it and not computed yet, to a Dask graph.

    The number of ranges is what the user asked for, else what the current client's cluster runs at once.
    """
    settings, target = Settings.resolve(), gateway.target()
    for node in head._generate_graph_dict().values():  # those that were booked through ROOT's door
        _prepare_snapshot(node.operation)
    n_ranges = head.npartitions or packing.suggested_ranges(head, target.slots)
    packed = packing.pack(head, n_ranges)
    if target.on_aws:
        packed.mapper.check_reach()
    merges = gateway.EXECUTOR if settings.merge_on == "lambda" else None
    placement = Placement(gateway.EXECUTOR, merges, gateway.offers)
    run = graphs.build(
        packed.mapper, packed.finish, len(packed.actions), fan_in=settings.fan_in, placement=placement
    )
    return Lowered(run, packed.actions)


class Backend(BaseBackend):  # type: ignore[misc]  # ROOT has no types
    """What a head node asks of its backend; `BaseBackend` keeps the code and files that users register."""

    def make_dataframe(self, *args: Any, npartitions: int | None = None, **_: Any) -> Any:
        """Make an RDataFrame; DistRDF calls this for what a Snapshot wrote."""
        return DataFrame.RDataFrame(head_node(self, npartitions, args))

    def optimize_npartitions(self) -> int:
        """Return the number of slots; DistRDF asks for it."""
        return gateway.target().slots

    def distribute_unique_paths(self, paths: Any) -> None:
        """Do nothing: the user's files travel with the graph."""

    def ProcessAndMerge(self, ranges: Any, mapper: Any, reducer: Any) -> Any:  # noqa: N802  (DistRDF's name)
        """Refuse: a graph is lowered as a whole."""
        raise GraphError("a graph of this backend runs as a whole, see dask_root_lambda.distrdf.lower")

    ProcessAndMergeLive = ProcessAndMerge


class ClientBackend(Backend):
    """DistRDF's view of us, behind ``ROOT.RDataFrame(..., executor=client)``.

    Parameters
    ----------
    client
        A client of a cluster whose workers have the executor.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    def make_dataframe(self, *args: Any, npartitions: int | None = None, **_: Any) -> Any:
        """Make DistRDF's RDataFrame; DistRDF calls this."""
        frame = super().make_dataframe(*args, npartitions=npartitions)
        # DistRDF runs a graph through this method of its head node, and nothing else.
        frame._headnode.execute_graph = functools.partial(self._execute, weakref.ref(frame._headnode))
        return frame

    def _execute(self, reference: weakref.ref[Any]) -> None:
        head = reference()
        if head is None:
            return
        if head.drawables_dict is not None:
            raise GraphError("LiveVisualize is not possible on Lambda: remove the call")
        with self.client.as_current():
            lowered = lower(head)
            blobs = self.client.get(lowered.graph.graph, list(lowered.graph.results))
        for node, blob in zip(lowered.actions, blobs, strict=True):
            Utils.set_value_on_node(wire.loads(blob), node, self)


def install_hook() -> None:
    """Let ``ROOT.RDataFrame(..., executor=client)`` use us where ``client`` has the executor.

    One assignment: all doors of ROOT to Dask (``ROOT.RDataFrame``, ``FromSpec``,
    ``ROOT.RDF.Distributed.Dask.RDataFrame``) make an instance of this class. For other clients that is
    what they get, unchanged.
    """
    from ROOT._distrdf.Backends.Dask.Backend import DaskBackend

    DaskBackend.__new__ = _new_backend


def _new_backend(stock: type[Any], daskclient: Client | None = None) -> Any:
    if daskclient is not None and gateway.has_lambda(daskclient):
        return ClientBackend(daskclient)
    return object.__new__(stock)
