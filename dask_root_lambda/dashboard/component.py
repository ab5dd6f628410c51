"""What everything that is drawn on the page has in common."""

from __future__ import annotations

from collections.abc import Sequence

from bokeh.models import LayoutDOM

from dask_root_lambda.dashboard.feed import Moment
from dask_root_lambda.dashboard.gallery import Gallery
from dask_root_lambda.dashboard.state import State

_ROWS_PER_S = 500
"""Ranges that are sent to a page in a second: with more of them it is drawn less often."""


class Component:
    """Something that is drawn, and drawn again when the state is another one."""

    root: LayoutDOM
    by_range = False
    """Whether each range is drawn."""
    _drawn_s = -1.0

    def watch(self, gallery: Gallery) -> None:
        """Take note of where results are seen; most components draw none."""

    def update(self, state: State, moments: Sequence[Moment]) -> None:
        """Draw a state, unless it has just been drawn, and there is much to draw."""
        pause_s = len(state.ranges.index) / _ROWS_PER_S if self.by_range else 0.0
        if state.at_s >= self._drawn_s + pause_s:
            self._drawn_s = state.at_s
            self.draw(state, moments)

    def draw(self, state: State, moments: Sequence[Moment]) -> None:
        """Draw a state, and what was before it; each component does so in its own way."""
        raise NotImplementedError
