"""What a user calls a result, for those who watch it being computed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from ROOT._distrdf import Operation

from lambda_runtime.remote.names import shown

_MODELS = ("Histo", "Profile", "Graph")
"""Actions that may be given a model, whose name the user has chosen."""
_LONGEST = 40
"""Characters of a name."""
MOST = 12
"""Names of a run."""
_DRAWN = frozenset({"Graph", "GraphAsymmErrors", "Histo1D", "Histo2D", "Profile1D", "Profile2D"})
MOST_DRAWN = 8
"""Results of a run that the page draws."""


def names(operations: Iterable[Operation.Operation]) -> tuple[str, ...]:
    """Return the names of the results of these actions; of many the first, and how many more there are."""
    every = [name(operation) for operation in operations]
    more = (f"and {len(every) - MOST} more",) if len(every) > MOST else ()
    return (*every[:MOST], *more)


def drawn(operations: Sequence[Operation.Operation]) -> tuple[tuple[int, str], ...]:
    """Return places and names of those of these actions whose results can be drawn, the first ones."""
    places = (place for place, operation in enumerate(operations) if operation.name in _DRAWN)
    return tuple((place, name(operations[place])) for place in itertools.islice(places, MOST_DRAWN))


def name(operation: Operation.Operation) -> str:
    """Return the name of a histogram, where the user gave it one, else the action and its columns."""
    arguments = operation.args
    if operation.name.startswith(_MODELS) and arguments and (given := _of_model(arguments[0])):
        return given[:_LONGEST]
    columns = [shown(argument) for argument in arguments if isinstance(argument, str)]
    written = f"{operation.name}({', '.join(columns)})" if columns else str(operation.name)
    return written if len(written) <= _LONGEST else f"{written[: _LONGEST - 1]}…"


def _of_model(model: Any) -> str:
    if isinstance(model, tuple | list):
        return str(model[0]) if model else ""
    return str(getattr(model, "fName", ""))
