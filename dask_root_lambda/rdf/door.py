"""ROOT's own doors to distributed frames and results, which lead to ours where a client has the executor."""

from __future__ import annotations

import contextvars
import functools
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ROOT
from distributed import Client

from dask_root_lambda import destination
from dask_root_lambda.rdf import drawing, opening
from dask_root_lambda.rdf.distrdf import Backend
from dask_root_lambda.rdf.frame import Node, RDataFrame, Result
from dask_root_lambda.rdf.visualize import live_visualize


class ClientBackend(Backend):
    """What ROOT makes of ``executor=client``.

    Parameters
    ----------
    client
        A client of a cluster whose workers have the executor.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def make_dataframe(
        self,
        *args: Any,
        npartitions: int | None = None,
        skip_unreadable: bool | None = None,
        cache_days: int | None = None,
        **_: Any,
    ) -> RDataFrame:
        """Make a frame that the client's cluster computes; ROOT calls this."""
        return RDataFrame.on(self._client, args, npartitions, skip_unreadable, cache_days)


def install() -> None:
    """Let ROOT's own names take our clients and results.

    All doors of ROOT to Dask (``ROOT.RDataFrame(..., executor=client)``, ``FromSpec``,
    ``ROOT.RDF.Distributed.Dask.RDataFrame``) make a `DaskBackend`, and those of results (``RunGraphs``,
    ``VariationsFor``) tell by the module of a class what to do. Other clients and results get what they got,
    but for one thing: ROOT's Dask backend computes by Dask's current client, which may be one of ours; here,
    by the client that it was given.
    """
    from ROOT._distrdf.Backends.Dask.Backend import DaskBackend

    if DaskBackend.__new__ is _new_backend:
        return
    opening.install()
    DaskBackend.__new__ = _new_backend
    for method in ("ProcessAndMerge", "ProcessAndMergeLive"):
        setattr(DaskBackend, method, _on_its_client(getattr(DaskBackend, method)))
    for namespace in (ROOT.RDF, ROOT.RDF.Distributed):
        namespace.RunGraphs = _ours_first(run_graphs, namespace.RunGraphs)
    ROOT.RDF.SaveGraph = _drawing_ours(ROOT.RDF.SaveGraph)
    for namespace in (ROOT.RDF.Experimental, ROOT.RDF.Distributed):
        namespace.VariationsFor = _ours_first(Result.create_variations, namespace.VariationsFor)
    experimental = ROOT.RDF.Experimental
    experimental.AddProgressBar = _ours_first(add_progress_bar, experimental.AddProgressBar, Node)
    ROOT.RDF.Distributed.LiveVisualize = _ours_drawn(ROOT.RDF.Distributed.LiveVisualize)


def run_graphs(results: Iterable[Result]) -> int:
    """Compute results of several frames side by side, as ``ROOT.RDF.RunGraphs`` does.

    Returns
    -------
    int
        How many graphs ran: results of one frame share one.

    Raises
    ------
    Exception
        What the first graph that failed raised, once all have ended.
    """
    asked = [result for result in results if not result.computed]
    frames = {id(result.bookings): result for result in asked}
    for result in frames.values():
        # Before there are threads: the user's code is compiled.
        result.bookings.lower(result)
    with ThreadPoolExecutor(max(1, len(frames))) as pool:
        # Which client is the current one is known to this thread only, and handed on.
        drawn = [result for result in frames.values() if result.bookings.drawn(result)]
        beside = [result for result in frames.values() if result not in drawn]
        running = [pool.submit(contextvars.copy_context().run, result.GetValue) for result in beside]
        for result in drawn:
            # By this thread: windows are its own.
            result.GetValue()
    for done in running:
        done.result()
    for result in asked:
        # What needs the first entries only, or failed before, is computed apart from the rest of its frame.
        result.GetValue()
    return len(frames)


def _ours_drawn(roots: Callable[..., Any]) -> Callable[..., Any]:
    """Make ROOT's LiveVisualize, which takes results, or results and what to call for each."""

    def call(drawables: Any, *args: Any, **kwargs: Any) -> None:
        # One result is told apart first: to iterate over it would compute it.
        given = [] if isinstance(drawables, Result) else list(drawables)
        n_ours = sum(isinstance(each, Result) for each in given)
        if isinstance(drawables, Result) or 0 < n_ours < len(given):
            raise ValueError("LiveVisualize takes a list of results of one frame, or a dict of them")
        (live_visualize if n_ours else roots)(drawables, *args, **kwargs)

    return call


def add_progress_bar(node: Node) -> None:
    """Show how far runs are, as ``ROOT.RDF.Experimental.AddProgressBar`` does: all runs of the cluster.

    A `LambdaCluster` does so by itself, unless it was told not to.
    """
    client = node.bookings.client or destination.current_client()
    show = getattr(client and client.cluster, "show_progress", None)
    if show is not None:
        show()
    elif client is not None:
        warnings.warn(
            f"AddProgressBar shows nothing for this cluster: see {client.dashboard_link}", stacklevel=3
        )
    else:
        warnings.warn("AddProgressBar shows nothing without a LambdaCluster: make one first", stacklevel=3)


def _ours_first(
    ours: Callable[[Any], Any], roots: Callable[..., Any], kind: type[Any] = Result
) -> Callable[..., Any]:
    """Make a function that does what ours does with our results, and else what ROOT's does."""

    def call(argument: Any, *args: Any, **kwargs: Any) -> Any:
        first = argument[0] if isinstance(argument, list | tuple) and argument else argument
        return ours(argument) if isinstance(first, kind) else roots(argument, *args, **kwargs)

    return call


def _drawing_ours(roots: Callable[..., Any]) -> Callable[..., Any]:
    """Make a ``SaveGraph`` that draws our frames and results as well."""

    def save_graph(drawn: Any, *path: str) -> Any:
        if isinstance(drawn, Node):
            return drawing.draw(roots, drawn.node, [result.node for result in drawn.bookings.held()], path)
        return drawing.draw(roots, drawn.node, (), path) if isinstance(drawn, Result) else roots(drawn, *path)

    return save_graph


def _on_its_client(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method of ROOT's backend compute by the backend's own client."""

    @functools.wraps(compute)
    def on_its_client(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.client.as_current():
            return compute(self, *args, **kwargs)

    return on_its_client


def _new_backend(stock: type[Any], daskclient: Client | None = None) -> Any:
    if daskclient is not None and destination.has_executor(daskclient):
        return ClientBackend(daskclient)
    return object.__new__(stock)
