"""How many partial results become one: the plan of a merge tree."""

from __future__ import annotations

import itertools


def plan(n_leaves: int, fan_in: int) -> list[list[range]]:
    """Plan the merges of ``n_leaves`` partial results, at most ``fan_in`` at a time.

    Parameters
    ----------
    n_leaves
        Partial results, at least 1.
    fan_in
        Inputs of one merge, at least 2. A merge holds its result and one input in memory; its inputs are
        serialised once more for every level, so a larger fan-in costs less and reacts later.

    Returns
    -------
    list of list of range
        Per level, from the leaves up, the groups of that level: each the half-open range of indices of
        the level below that it merges, in order. A group of one is handed on as it is. Empty for a single
        leaf. Sizes within a level differ by at most one.
    """
    if n_leaves < 1 or fan_in < 2:
        raise ValueError(f"cannot merge {n_leaves} partial results {fan_in} at a time")
    levels = []
    width = n_leaves
    while width > 1:
        merges = -(-width // fan_in)
        bounds = [width * index // merges for index in range(merges + 1)]
        levels.append([range(start, stop) for start, stop in itertools.pairwise(bounds)])
        width = merges
    return levels
