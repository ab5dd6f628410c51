"""Cut-flow reports of a frame itself: local ROOT lists the named cuts of all branches, as they were booked.

It does so only where it is asked of the frame that the event loop belongs to. Ranges book what users booked
on a node behind that one, which passes entries on, counts them, or ends the loop.
"""

from __future__ import annotations

from typing import Any

HEAD = 0
"""Number of the frame among the nodes of a program."""


def is_of_frame(node: Any) -> bool:
    """Tell whether a node of a program is a report of the frame itself.

    Parameters
    ----------
    node
        DistRDF's node, numbered as in a `dask_root_lambda.protocol.task.Program`.
    """
    return node.operation is not None and node.operation.name == "Report" and node.parent_id == HEAD


def booked_on(head: Any, nodes: list[Any], actions: list[Any]) -> list[Any]:
    """Return actions, of which those that report the frame are booked on it.

    Parameters
    ----------
    head
        The frame of a range, as ROOT made it.
    nodes
        The nodes of the actions.
    actions
        What they are booked as, on a node behind that frame.
    """
    return [
        head.Report() if is_of_frame(node) else action for node, action in zip(nodes, actions, strict=True)
    ]
