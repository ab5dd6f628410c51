"""Default columns of a frame: an action that names none takes them. The frames of ranges have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ROOT

from dask_root_lambda.protocol.errors import GraphError

_COLUMNS = {
    **dict.fromkeys(("Max", "Mean", "Min", "StdDev", "Stats", "Sum", "Histo1D"), 1),
    **dict.fromkeys(("Graph", "Histo2D", "Profile1D"), 2),
    **dict.fromkeys(("Histo3D", "Profile2D"), 3),
    "Profile3D": 4,
    "GraphAsymmErrors": 6,
}
"""How many columns an action takes, without a weight."""


def columns(args: Sequence[Any]) -> tuple[str, ...]:
    """Return the default columns among the arguments of a constructor, where they are the last."""
    place = 1 if args and isinstance(args[0], ROOT.TTree) else 2
    return tuple(str(column) for column in args[place]) if len(args) == place + 1 else ()


def filled(name: str, args: Sequence[Any], default: Sequence[str]) -> Sequence[Any]:
    """Return the arguments of an action, with default columns where it names none.

    Parameters
    ----------
    name, args
        The action.
    default
        Default columns of its frame.

    Raises
    ------
    GraphError
        There are fewer than the action takes.
    """
    n_columns = _COLUMNS.get(name, 0)
    place = 1 if name.startswith(("Histo", "Profile")) else 0
    if not n_columns or any(args[place:]):
        return args
    if len(default) < n_columns:
        raise GraphError(
            f"{name} was given no columns and takes {n_columns}: name them. Default columns of the frame: "
            f"{', '.join(default) or '(none)'}"
        )
    return [*args[:place], *default[:n_columns]]
