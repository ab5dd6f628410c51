"""``SaveGraph``: what is booked, as ROOT draws it, without running anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import ROOT
from ROOT._distrdf.Operation import Snapshot, VariationsFor

from dask_root_lambda.protocol.errors import GraphError
from lambda_runtime import diagnostics
from lambda_runtime.event_loop import compiling


def draw(drawer: Callable[..., Any], node: Any, results: Iterable[Any], path: tuple[str, ...]) -> Any:
    """Draw a graph in the language of Graphviz: all of it, or what leads to one node.

    Parameters
    ----------
    drawer
        ROOT's function.
    node
        DistRDF's node: the frame, or what else is to be drawn alone.
    results
        The nodes of the actions that are booked on the frame.
    path
        The file to write, if any.
    """
    ignored = ROOT.gErrorIgnoreLevel
    # That a Snapshot was booked and did not run.
    ROOT.gErrorIgnoreLevel = ROOT.kError
    booked: dict[int, Any] = {}
    try:
        with compiling(), diagnostics.record():
            if node.operation is None:
                for each in sorted(results, key=lambda each: int(each.node_id)):
                    _book(each, booked)
            return drawer(_book(node, booked), *path)
    except TypeError as error:
        raise GraphError(f"SaveGraph draws frames and results, not {node.operation.name}") from error
    finally:
        booked.clear()
        ROOT.gErrorIgnoreLevel = ignored


def _book(node: Any, booked: dict[int, Any]) -> Any:
    """Book a node on the local RDataFrame that has its transformations already."""
    if node.rdf_node is not None:
        return node.rdf_node
    if node.node_id not in booked:
        operation, parent = node.operation, _book(node.parent, booked)
        if isinstance(operation, VariationsFor):
            booked[node.node_id] = ROOT.RDF.Experimental.VariationsFor(parent)
        else:
            named = {**operation.kwargs, "lazy": True} if operation.name == "AsNumpy" else operation.kwargs
            booked[node.node_id] = getattr(parent, operation.name)(*_arguments(operation), **named)
    return booked[node.node_id]


def _arguments(operation: Any) -> list[Any]:
    if not isinstance(operation, Snapshot):
        return list(operation.args)
    *arguments, options = operation.args
    options = ROOT.RDF.RSnapshotOptions(options)
    options.fLazy = True
    return [*arguments, options]
