"""What everything that is drawn on the page has in common."""

from __future__ import annotations

from bokeh.models import LayoutDOM

from dask_root_lambda.dashboard.feed import Feed
from dask_root_lambda.dashboard.state import State

PERIOD_MS = 500
"""Between two looks at the feed."""
_ROWS_PER_S = 500
"""Ranges that are sent to a page in a second: with more of them it is drawn less often."""


class Component:
    """Something that is drawn, and drawn again when the state is another one.

    Parameters
    ----------
    feed
        Where the states come from.
    """

    root: LayoutDOM
    by_range = False
    """Whether each range is drawn."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._drawn_s = -1.0

    def update(self) -> None:
        """Draw what is new; called again and again."""
        state = self._feed.look()
        if state is None:
            return
        pause_s = len(state.ranges.index) / _ROWS_PER_S if self.by_range else 0.0
        if state.at_s != self._drawn_s and state.at_s >= self._drawn_s + pause_s:
            self._drawn_s = state.at_s
            self.draw(state)

    def draw(self, state: State) -> None:
        """Draw a state."""
        raise NotImplementedError
