"""RNTuples without entries: an RDataFrame over nothing else ends the process in ROOT 6.40."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ROOT


def frame_without_entries(name: str, urls: Sequence[str]) -> Any:
    """Return an RDataFrame with the columns of RNTuples, over no entries."""
    like = ROOT.RDataFrame(name, list(urls))
    frame = ROOT.RDataFrame(0)
    for column in map(str, like.GetColumnNames()):
        if "." not in column:
            frame = frame.Define(column, f"{like.GetColumnType(column)} none{{}}; return none;")
    return frame
