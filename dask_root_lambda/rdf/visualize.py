"""``ROOT.RDF.Distributed.LiveVisualize``: results are drawn while they are computed.

Which results, and by which callbacks, is noted at DistRDF's head node, as ROOT does it. Callbacks are called
with what there is of a result, before it is drawn: with objects made for that, until the last time, when it
is the result itself, as with ROOT's own backends.
"""

from __future__ import annotations

import ast
import dis
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ROOT._distrdf.LiveVisualize import has_correct_argument_count, is_action_blocked, is_valid_drawable

from dask_root_lambda.rdf.pictures import Screen

Callback = Callable[[Any], Any]
Callbacks = Sequence[Callback | None]


def live_visualize(
    drawables: Mapping[Any, Callback | None] | Sequence[Any], callback: Callback | None = None
) -> None:
    """Have results drawn while they are computed, as ``ROOT.RDF.Distributed.LiveVisualize`` does.

    Parameters
    ----------
    drawables
        Results of one frame, each with what is called before it is drawn, or without.
    callback
        Called for all of them.

    Raises
    ------
    ValueError
        Results of several frames, or of an action that is not drawn.
    """
    if any(result.computed for result in drawables):
        warnings.warn("LiveVisualize draws nothing: a result has been computed already", stacklevel=3)
        return
    heads = {id(each.bookings): each.bookings.head for each in drawables if is_valid_drawable(each)}
    if len(heads) > 1:
        raise ValueError("LiveVisualize takes results of one frame: call it for each frame")
    common = _checked(callback)
    own = drawables if isinstance(drawables, Mapping) else dict.fromkeys(drawables)
    for head in heads.values():
        head.drawables_dict = {result.node.node_id: [_checked(each), common] for result, each in own.items()}


def _checked(callback: Callback | None) -> Callback | None:
    """Return a callback that may be called; like ROOT, warn of any other, and leave it out."""
    if callback is None:
        return None
    if not callable(callback):
        reason = "it cannot be called"
    elif not _takes_one(callback):
        reason = "it has to take one argument, what is drawn"
    elif changing := sorted(_changing(callback)):
        reason = f"{', '.join(changing)} would change what is drawn"
    else:
        return callback
    warnings.warn(f"LiveVisualize leaves the callback {callback!r} out: {reason}", stacklevel=4)
    return None


def _takes_one(callback: Callback) -> bool:
    try:
        return bool(has_correct_argument_count(callback))
    except ValueError:  # a function in C that does not tell
        return True


def _changing(callback: Callback) -> Iterator[str]:
    """Yield the methods that ROOT does not let callbacks call.

    ROOT looks for them in the source, which it does not find in a session, nor understand where it is
    indented. Here they are looked for in the compiled function.
    """
    function = callback.func if isinstance(callback, partial) else callback
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return _called(code) if code is not None else iter(())


def _called(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        name = str(instruction.argval)
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and _is_blocked(name):
            yield name
        elif isinstance(instruction.argval, types.CodeType):
            yield from _called(instruction.argval)


def _is_blocked(name: str) -> bool:
    call = ast.Call(ast.Attribute(ast.Name("drawn"), name), [], [])
    return bool(is_action_blocked(call))


class Visualization:
    """Results that are drawn, together on one canvas.

    Parameters
    ----------
    callbacks
        Of each result, in their order.
    """

    def __init__(self, callbacks: Sequence[Callbacks]) -> None:
        self._callbacks = callbacks
        self._screen: Screen | None = None

    def open(self) -> None:
        """Open the canvas, where it is not open yet."""
        self._screen = self._screen or Screen(len(self._callbacks))

    def show(self, values: Iterable[Any], share: float) -> None:
        """Draw what there is.

        Parameters
        ----------
        values
            Of each result. The callbacks may change them.
        share
            Of the entries in them, from 0 to 1.
        """
        drawn = list(values)
        self.open()
        assert self._screen is not None
        self._screen.draw(drawn, share, lambda place: self._call(place, drawn[place]))

    def _call(self, place: int, value: Any) -> None:
        for callback in self._callbacks[place]:
            if callback is not None:
                callback(value)

    def close(self) -> None:
        """Close the canvas; the last picture stays in a notebook."""
        if self._screen is not None:
            self._screen.close()
