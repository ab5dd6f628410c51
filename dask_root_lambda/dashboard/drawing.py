"""A document that is drawn again and again, as often as its browser keeps up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from bokeh.document import Document
from bokeh.events import DocumentReady
from bokeh.models import CustomJS, Div
from distributed.dashboard.components import add_periodic_callback

from dask_root_lambda.dashboard.component import Component
from dask_root_lambda.dashboard.feed import Feed
from dask_root_lambda.dashboard.state import State

_PERIOD_MS = 500
"""Milliseconds between two looks at the feed."""
_PATIENCE_S = 10.0
"""How long a browser is waited for that does not say that it has drawn, as one does whose tab is not seen."""

_TELL = """
if (mark.tags.length) {
  const [number, head] = mark.tags;
  if (typeof rootLambda !== "undefined") rootLambda.show(head);
  requestAnimationFrame(() => { mark.text = String(number); });
}
"""
"""Shows the steering panel what it is to show, and says what was drawn, once it was."""


class Drawing:
    """Components of one document, which are drawn together.

    The next state is sent when the browser has drawn the last one: a slow one would fall behind, and show
    what is long over.

    Parameters
    ----------
    feed
        Where states come from.
    components
        What is drawn.
    """

    def __init__(self, feed: Feed, components: Sequence[Component]) -> None:
        self._feed = feed
        self._components = components
        for component in components:
            component.watch(feed.gallery)
        self._number = 0
        self._sent_s = 0.0
        self._at_s = 0.0
        # It is not drawn, and travels both ways: what was sent, and what was drawn of it.
        self._mark = Div(text="0")
        self._tell = CustomJS(args={"mark": self._mark}, code=_TELL)
        self._mark.js_on_change("tags", self._tell)
        components[0].root.tags = [self._mark]

    def fill(self, doc: Document) -> None:
        """Put the components into a document, and have them drawn."""
        self.update()
        for component in self._components:
            doc.add_root(component.root)
        doc.js_on_event(DocumentReady, self._tell)
        add_periodic_callback(doc, self, _PERIOD_MS)

    def update(self) -> None:
        """Draw what is new, if the browser is done with what came before."""
        state, now_s = self._feed.look(), time.monotonic()
        drawn = self._mark.text == str(self._number) or now_s >= self._sent_s + _PATIENCE_S
        if state is None or state.at_s == self._at_s or not drawn:
            return
        self._at_s, self._sent_s = state.at_s, now_s
        self._number += 1
        moments = list(self._feed.moments)
        for component in self._components:
            component.update(state, moments)
        self._mark.tags = [self._number, head(state)]


def head(state: State) -> dict[str, Any]:
    """Return what the steering panel shows, as plain values."""
    return {
        "execution": state.execution,
        "executions": dict(state.executions),
        "concurrency": state.concurrency,
        "most_concurrency": state.most_concurrency,
        "max_usd": state.max_usd,
        "running": [
            {"run": run.report["run"], "results": list(run.results)}
            for run in state.runs
            if run.report["ranges"] and not run.over
        ],
    }
