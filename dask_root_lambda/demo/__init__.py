"""The dimuon spectrum, end to end: a dataset, the analysis on Lambda, the plot.

It is written as a user would: through the public interface only, and with ROOT for what ROOT does.
"""

from __future__ import annotations

DEFAULT_EVENTS = 1_000_000
"""Generated, unless told otherwise."""
