"""Which cuts a report of the frame itself lists: the named ones of all branches that are held when it runs.

Local ROOT keeps a list of the cuts that there are, in the order in which they were booked; those of a
variation are added when the variation is asked for, and stay as long as the cut that they vary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dask_root_lambda.protocol.errors import GraphError


def is_report_of_frame(node: Any) -> bool:
    """Tell whether a node of DistRDF reports the frame itself, or the frame with columns varied."""
    if node.operation is None or node.operation.name != "Report":
        return False
    node = node.parent
    while node.operation is not None and node.operation.name == "Vary":
        node = node.parent
    return node.operation is None


def is_variation(node: Any) -> bool:
    """Tell whether a node of DistRDF is a map of variations, which has cuts of its own."""
    return node.operation is not None and node.operation.name == "VariationsFor"


def above(node: Any) -> frozenset[int]:
    """Return the numbers of the cuts that a node of DistRDF is behind."""
    return frozenset(each.node_id for each in _chain(node) if _is_cut(each))


def held(head: Any) -> list[Any]:
    """Return the cuts of a head node that the user holds, or that something is booked on."""
    # What the user has dropped leaves DistRDF's own list.
    head._prune_graph()
    return [node for node in head.graph_nodes if _is_cut(node)]


def check(head: Any, varied: frozenset[int]) -> None:
    """Refuse a report of the frame itself that would lack cuts.

    Parameters
    ----------
    head
        DistRDF's head node.
    varied
        Numbers of cuts whose variations were asked for, and are not held any more.

    Raises
    ------
    GraphError
        One of those cuts is held: local ROOT would list its variations as well.
    """
    if varied.intersection(node.node_id for node in held(head)):
        raise GraphError(
            "Report of the frame itself would list the cuts of variations that are held no more: keep what "
            "VariationsFor returned, or call Report on what the last cut returned"
        )


def _is_cut(node: Any) -> bool:
    return node.operation is not None and node.operation.name == "Filter"


def _chain(node: Any) -> Iterator[Any]:
    while node is not None:
        yield node
        node = node.parent
