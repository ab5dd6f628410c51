"""What is refused instead of being computed otherwise than by local ROOT; docs/refused.md tells users."""

from __future__ import annotations

import re

REFUSALS = {
    "automatic axes": r"has an automatic axis",
    "entry lists": r"the entry list of .* cannot be used",
    "global ranges": r"WithGlobalRange cannot be used",
    "entry numbers over several files": r"rdfentry_ would count from the first file",
    "reports of the frame itself": r"Report of the frame itself would list",
    "operations that ROOT does not distribute": r"RDataFrame has no '\w+'; its operations are",
}
"""Title of each refusal, as in docs/refused.md -> what the error says."""


def reason(error: BaseException) -> str:
    """Return the title of the refusal that an error is; nothing where it is none."""
    for title, pattern in REFUSALS.items():
        if re.search(pattern, str(error)):
            return title
    return ""
