"""Operations of RDataFrame that ranges cannot do, and what to do instead."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

_OWN_CODE = "Define columns by your code, and book Sum, Min, Max, Mean, Count or a histogram of them"
_INSTEAD = {
    "Aggregate": _OWN_CODE,
    "Book": _OWN_CODE,
    "Cache": "use Snapshot, and go on with the frame that it returns",
    "Fill": _OWN_CODE,
    "Foreach": _OWN_CODE,
    "ForeachSlot": _OWN_CODE,
    "GetNSlots": "see npartitions= of the frame; each range has one slot",
    "Reduce": _OWN_CODE,
    "SaveGraph": "use ROOT.RDF.SaveGraph(frame), which is a function in ROOT as well",
    "VariationsFor": "use ROOT.RDF.Experimental.VariationsFor(result)",
}
"""Names of methods -> what does the same."""


def explain(name: str, operations: Sequence[str]) -> str:
    """Say that a frame has no such method, and what to do.

    Parameters
    ----------
    name
        The method that was asked for.
    operations
        Those that there are.
    """
    if name in _INSTEAD:
        return f"{name} is not possible over ranges: {_INSTEAD[name]}"
    if name.startswith(("Define", "Redefine")) and name.endswith(("Slot", "SlotEntry")):
        return (
            f"{name} is not possible over ranges, which have one slot each; use {name.partition('Slot')[0]}"
        )
    close = difflib.get_close_matches(name, operations, 3)
    hint = f"did you mean {', '.join(close)}?" if close else f"its operations are {', '.join(operations)}"
    return f"RDataFrame has no {name!r}; {hint}"
