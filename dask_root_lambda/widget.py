"""How a `LambdaCluster` is shown, and its widget in a notebook, which steers executions and no workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from dask_root_lambda import shown
from dask_root_lambda.config import EXECUTIONS
from dask_root_lambda.cost.report import RunReport
from dask_root_lambda.protocol.errors import DaskRootLambdaError


class Steered(Protocol):
    """A cluster, as far as it is shown and steered."""

    execution: Any
    concurrency: int

    @property
    def memory_mb(self) -> int | None:
        """Memory of an environment; None where ranges run in this process."""

    @property
    def in_flight(self) -> int:
        """Invocations that are being made now."""

    @property
    def total(self) -> RunReport:
        """Sums of all runs."""

    @property
    def dashboard_link(self) -> str:
        """URL of Dask's dashboard; empty for none."""


def line(cluster: Steered) -> str:
    """Describe a cluster in a line."""
    dashboard = f", dashboard={cluster.dashboard_link!r}" if cluster.dashboard_link else ""
    return (
        f"LambdaCluster({str(cluster.execution)!r}, concurrency={cluster.concurrency}, "
        f"in_flight={cluster.in_flight}{dashboard})"
    )


def page(cluster: Steered) -> str:
    """Describe a cluster as HTML."""
    link = cluster.dashboard_link
    dashboard = f"<p>Dask's dashboard: {shown.link(link)}</p>" if link else ""
    return f"<p><strong>LambdaCluster</strong></p>{shown.table(_rows(cluster))}{dashboard}"


def _rows(cluster: Steered) -> Iterator[tuple[str, str]]:
    total, memory_mb = cluster.total, cluster.memory_mb
    yield "execution", str(cluster.execution)
    yield "concurrency", f"{cluster.concurrency:,}, {cluster.in_flight:,} in flight"
    used = f", {total.peak_memory_mb:,.0f} MB used at most" if total.peak_memory_mb else ""
    yield "memory", (f"{memory_mb:,} MB in each environment" if memory_mb else "that of this process") + used
    yield "invocations", f"{total.invocations:,}, {total.retries:,} retries, {total.failures:,} failures"
    yield "cost", f"{total.usd:,.6f} USD"


def make(cluster: Steered) -> tuple[Any, Callable[[], None]] | None:
    """Make the widget, and what brings it up to date; None without ipywidgets."""
    try:
        import ipywidgets
    except ImportError:
        return None
    status, said = ipywidgets.HTML(page(cluster)), ipywidgets.HTML()
    execution = ipywidgets.Dropdown(options=EXECUTIONS, value=cluster.execution, description="execution")
    concurrency = ipywidgets.BoundedIntText(cluster.concurrency, min=1, max=10_000, description="concurrency")
    controls = {"execution": execution, "concurrency": concurrency}

    def update() -> None:
        status.value = page(cluster)
        for name, control in controls.items():
            if control.value != getattr(cluster, name):
                control.value = getattr(cluster, name)

    def steer(name: str, value: Any) -> None:
        if value == getattr(cluster, name):
            return
        said.value = ""
        try:
            setattr(cluster, name, value)
        except DaskRootLambdaError as error:
            said.value = shown.table([("not changed", str(error))])
        update()

    for name, control in controls.items():
        control.observe(lambda change, name=name: steer(name, change["new"]), names="value")
    return ipywidgets.VBox([status, ipywidgets.HBox([execution, concurrency]), said]), update
