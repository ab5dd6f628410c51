"""Values of results, made of the mergeable objects that travel."""

from __future__ import annotations

from typing import Any

import ROOT

from dask_root_lambda.rdf.taken import Taken
from dask_root_lambda.rdf.variations import Unvaried, Variations


def value(mergeable: Any, *, varied: bool = False, taken: Taken | None = None) -> Any:
    """Return the value of a mergeable object; `lambda_runtime.locking.making` is held.

    Parameters
    ----------
    mergeable
        ROOT's, or one of ours.
    varied
        Whether the value is a map of variations.
    taken
        Which collection it is, where it is one.
    """
    if varied:
        is_map = isinstance(mergeable, ROOT.Detail.RDF.RMergeableVariationsBase)
        return Variations(mergeable if is_map else Unvaried(mergeable.GetValue()))
    value = mergeable.GetValue()
    return value if taken is None else taken.of(value)
