"""What is refused instead of being computed otherwise than by local ROOT; docs/refused.md tells users."""

from __future__ import annotations

import re

REFUSALS = {
    "automatic axes": r"has an automatic axis",
    "entry lists": r"the entry list of .* cannot be used",
    "global ranges": r"WithGlobalRange cannot be used",
    "friends with an index": r"the friend .* has an index \(TTreeIndex\)",
    "files whose own name is a pattern": r"is a pattern to ROOT, and other files may match it",
    "a tree of a file in two samples": r"is in two samples of the specification",
    "one file under two names": r"is named twice, as .* and the graph names sample information",
    "reports of the frame itself, behind variations": r"Report of the frame itself would list",
    "entries by their number, behind a cut": r"Range behind a cut, or behind another Range",
    "Snapshots that add to a file": r"Snapshot cannot add to a file",
    "Snapshots of variations": r"Snapshot with fIncludeVariations",
    "two Snapshots into one file": r"another Snapshot that is not computed yet writes",
    "arrays of what ROOT cannot write": r"AsNumpy: .* cannot write .* without a dictionary",
    "arrays without a column": r"AsNumpy: exclude leaves no column",
    "operations that ROOT does not distribute": r"is not possible over ranges",
}
"""Title of each refusal, as in docs/refused.md -> what the error says."""


def reason(error: BaseException) -> str:
    """Return the title of the refusal that an error is; nothing where it is none."""
    for title, pattern in REFUSALS.items():
        if re.search(pattern, str(error)):
            return title
    return ""
