"""The page itself, in Dask's dashboard: documents of Bokeh in Dask's own application, or in one beside it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distributed.dashboard.scheduler as dashboard
import distributed.http
from bokeh.document import Document
from distributed.dashboard.components.scheduler import BOKEH_THEME
from distributed.dashboard.core import BokehApplication
from jinja2 import Environment, FileSystemLoader
from tornado.ioloop import IOLoop

from dask_root_lambda.dashboard import histograms, numbers, plots, switch, tables
from dask_root_lambda.dashboard.component import Component
from dask_root_lambda.dashboard.drawing import Drawing
from dask_root_lambda.dashboard.feed import Feed

PATH = "/lambda"
_PLOTS: dict[str, Callable[..., Component]] = {
    "/individual-lambda-numbers": numbers.Numbers,
    "/individual-lambda-in-flight": plots.InFlight,
    "/individual-lambda-throughput": plots.Throughput,
    "/individual-lambda-durations": plots.Durations,
    "/individual-lambda-memory": plots.Memory,
    "/individual-lambda-histograms": histograms.Histograms,
    "/individual-lambda-runs": tables.Runs,
    "/individual-lambda-ranges": tables.Ranges,
}
"""Paths of the single plots; dask-labextension finds them by the beginning of their names."""

_templates = Environment(
    # Markup that Bokeh makes is put in as it is; what users have named is in Bokeh's properties.
    autoescape=False,  # noqa: S701
    loader=FileSystemLoader([Path(__file__).parent, Path(distributed.http.__file__).parent / "templates"]),
)


def document(find_feed: Callable[[Any], Feed | None], scheduler: Any, extra: Any, doc: Document) -> None:
    """Fill a document with the whole page."""
    doc.title = "Dask: Lambda"
    doc.theme = BOKEH_THEME
    doc.template = _templates.get_template("lambda.html")
    doc.template_variables.update(extra)
    feed = find_feed(scheduler) or Feed(scheduler)
    Drawing(feed, [kind() for kind in _PLOTS.values()]).fill(doc)


def plot(
    kind: Callable[..., Component],
    find_feed: Callable[[Any], Feed | None],
    scheduler: Any,
    _extra: Any,
    doc: Document,
) -> None:
    """Fill a document with one plot."""
    doc.title = f"Dask: Lambda {getattr(kind, '__name__', '')}"
    doc.theme = BOKEH_THEME
    feed = find_feed(scheduler) or Feed(scheduler)
    Drawing(feed, [kind(sizing_mode="stretch_both")]).fill(doc)


def join(find_feed: Callable[[Any], Feed | None]) -> None:
    """Add the page and its plots to those that Dask's schedulers have which are made from now on.

    Dask lists the plots of its own application only, to dask-labextension too.
    """
    switch.turn_by_thread()
    dashboard.applications.update(_documents(find_feed))


def show(find_feed: Callable[[Any], Feed | None], scheduler: Any) -> str:
    """Have a scheduler show the page, which runs already, and list it among Dask's; return their prefix."""
    switch.turn_by_thread()
    applications = [each for each in scheduler.http_application.applications if hasattr(each, "app_paths")]
    prefix = applications[0].prefix if applications else ""
    if not any(PATH in each.app_paths for each in applications):
        own = BokehApplication(
            _documents(find_feed),
            scheduler,
            prefix=prefix,
            template_variables=dashboard.template_variables(scheduler),
        )
        scheduler.http_application.add_application(own)
        own.initialize(IOLoop.current())
        own.start()
    pages = dashboard.template_variables(scheduler)["pages"]
    if PATH.strip("/") not in pages:
        pages.insert(1, PATH.strip("/"))
    return str(prefix)


def _documents(find_feed: Callable[[Any], Feed | None]) -> dict[str, Callable[..., None]]:
    plots = {path: functools.partial(plot, kind, find_feed) for path, kind in _PLOTS.items()}
    return {PATH: functools.partial(document, find_feed), **plots}
