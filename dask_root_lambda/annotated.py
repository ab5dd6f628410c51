"""Dask's bags and arrays, where they are annotated.

Their optimisation makes one plain graph of the layers of a collection, which loses the layers' annotations:
what was made under ``dask.annotate(executor="lambda")`` would run elsewhere, in silence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from dask.context import GlobalMethod
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

_LOSING = ("array_optimize", "bag_optimize")
"""Dask's names of the optimisations that lose annotations."""


def keep_annotations() -> None:
    """Let Dask optimise bags and arrays that say where to run in a way that keeps it; others as ever.

    Dask's configuration takes other optimisations too, but travels as JSON to the workers of some clusters.
    """
    GlobalMethod.__get__ = _optimization  # type: ignore[method-assign]


_stock = GlobalMethod.__get__


@functools.wraps(_stock)
def _optimization(method: Any, instance: Any, owner: Any = None) -> Any:
    optimize = _stock(method, instance, owner)
    known = optimize is method._default and method._key in _LOSING
    return _optimize_annotated if known and _says_where(instance) else optimize


def _says_where(collection: Any) -> bool:
    graph = getattr(collection, "dask", None)
    layers = graph.layers.values() if isinstance(graph, HighLevelGraph) else ()
    return any("executor" in (layer.annotations or {}) for layer in layers)


def _annotated() -> Callable[..., Any]:
    # Defined in here, it is pickled by value: Dask's scheduler, which calls it, may not have this package.
    def optimize(graph: Any, keys: Any, **_: Any) -> Any:
        from dask.blockwise import optimize_blockwise

        # Fuses layers whose annotations are the same.
        return optimize_blockwise(graph, keys=keys).cull(set(flatten(keys)))

    return optimize


_optimize_annotated = _annotated()
