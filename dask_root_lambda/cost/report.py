"""What runs did and what they cost, as a table, in a notebook, or as plain numbers."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dask_root_lambda.cost.prices import NO_PRICES, Prices
from dask_root_lambda.protocol.traffic import LOCAL, Traffic


@dataclass(frozen=True)
class RunReport:
    """What one run did and cost, or all runs together."""

    run: str
    """Identity of graph, dataset and partition; ``calls`` for plain functions, ``total`` for all."""
    ranges: int = 0
    """Ranges of the run's dataset."""
    done: int = 0
    """Ranges, merges and calls done."""
    empty: int = 0
    """Ranges without entries: more ranges were asked for than the files have clusters."""
    invocations: int = 0
    """Times the function answered, whether it succeeded or not. AWS bills lost answers as well."""
    cold_starts: int = 0
    """Invocations that had to wait for a new environment, started or restored."""
    retries: int = 0
    """Tries after the first, and divisions of ranges."""
    moved_up: int = 0
    """Tries that ran out of memory, after which the task was tried with more."""
    split: int = 0
    """Ranges that were divided before they were tried: they would have run out of time, or begun so late that
    the others would have waited for them."""
    second_tries: int = 0
    """Tries of slow ranges beside the one that was going on; the first answer counts."""
    mended: int = 0
    """Partial results of earlier tries that were damaged, and are computed again."""
    refused: int = 0
    """Requests that AWS refused because too many were in flight (429): nothing ran, nothing is billed."""
    dropped: int = 0
    """Invocations in AWS whose answer nobody waited for, because the run was stopped or another try was
    quicker: AWS runs them to their end and bills them, which is not in the cost."""
    failures: int = 0
    """Tasks given up."""
    init_s: float = 0.0
    """Seconds of INIT and of restoring, of all environments."""
    duration_s: float = 0.0
    """Seconds that the handler ran."""
    billed_s: float = 0.0
    """Seconds billed."""
    gb_seconds: float = 0.0
    """Billed seconds times memory, GB of 2^30 bytes."""
    usd: float = 0.0
    """Cost at list price: requests, duration, /tmp, of SnapStart the restores and the snapshot while
    something was in flight, and what reading data from S3 costs; without requests to the store."""
    s3_usd: float = 0.0
    """What of it the functions' requests to S3 for data cost, those of all tries that told."""
    transfer_usd: float = 0.0
    """What of it the transfer from buckets in other regions costs."""
    kept_usd: float = 0.0
    """What of it the storage of far data costs that is kept for later runs, until it expires."""
    peak_memory_mb: float = 0.0
    """Largest memory use of an environment, MB of 2^20 bytes."""
    entries: int = 0
    """Entries processed."""
    bytes_read: int = 0
    """Bytes that came from files, once for each range."""
    traffic: tuple[Traffic, ...] = ()
    """The same by source, with the requests that brought them."""
    again: tuple[Traffic, ...] = ()
    """What tries read whose results were not taken, as far as they told."""
    untold: int = 0
    """Tries of ranges of which nobody knows what they read: no answer came, or one that does not tell."""
    bytes_up: int = 0
    """Bytes of requests sent, through the store as well."""
    bytes_down: int = 0
    """Bytes of answers received, and of results that were put into the store instead."""
    wall_s: float = 0.0
    """Seconds during which something of it was in flight."""
    executions: tuple[str, ...] = ()
    """Where it ran."""
    why: str = ""
    """Why it has as many ranges as it has."""

    @property
    def entries_per_s(self) -> float:
        """Entries processed in a second of wall time."""
        return self.entries / self.wall_s if self.wall_s > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        plain = {
            "executions": list(self.executions),
            "traffic": [asdict(each) for each in self.traffic],
            "again": [asdict(each) for each in self.again],
            "entries_per_s": self.entries_per_s,
        }
        return {**asdict(self), **plain}


@dataclass(frozen=True, repr=False)
class Report:
    """What the runs of a cluster or an executor did and cost, per run and together."""

    runs: tuple[RunReport, ...]
    """In the order in which they began."""
    total: RunReport
    """All together."""
    prices: tuple[Prices, ...] = ()
    """The price lists that the costs were reckoned with."""
    notes: tuple[str, ...] = ()
    """What there is to know besides, a sentence each."""
    client: tuple[Traffic, ...] = ()
    """What this process asked S3 and web servers for besides ranges, since it began: to look at files, and to
    find what patterns match."""
    client_usd: float = 0.0
    """What its requests to S3 cost, which is not in the total."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain dictionaries, lists and numbers, for JSON."""
        return {
            "total": self.total.to_dict(),
            "runs": [run.to_dict() for run in self.runs],
            "prices": [asdict(table) for table in self.prices],
            "notes": list(self.notes),
            "client": [asdict(each) for each in self.client],
            "client_usd": self.client_usd,
        }

    def __str__(self) -> str:
        lines = [f"{name:<{_NAME_WIDTH}}{value}" for name, value in self._rows()]
        return "\n".join((*lines, *_aligned(list(self._runs())), *self._remarks()))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._rows()
        )
        runs = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>" for cells in self._runs()
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._remarks())
        return f"<table>{rows}</table>{f'<table>{runs}</table>' if runs else ''}{notes}"

    def _rows(self) -> Iterable[tuple[str, str]]:
        total = self.total
        yield "executions", ", ".join(total.executions) or "nothing ran"
        yield "runs", f"{len(self.runs):,}"
        yield "ranges", f"{total.ranges:,}" + (f", {total.empty:,} of them empty" if total.empty else "")
        dropped = f", {total.dropped:,} dropped" if total.dropped else ""
        yield (
            "invocations",
            f"{total.invocations:,}, {total.retries:,} retries, {total.failures:,} failures{dropped}",
        )
        yield "cold starts", f"{total.cold_starts:,}, INIT {total.init_s:,.1f} s"
        yield "billed", f"{total.billed_s:,.1f} s, {total.gb_seconds:,.1f} GB-s"
        yield "cost", f"{total.usd:,.6f} USD{_of_data(total)}"
        yield "peak memory", f"{total.peak_memory_mb:,.0f} MB"
        yield "entries", f"{total.entries:,}, {total.entries_per_s:,.0f}/s"
        yield (
            "bytes",
            f"{_size(total.bytes_read)} read, {_size(total.bytes_up)} up, {_size(total.bytes_down)} down",
        )
        yield from (("from", _told(each)) for each in total.traffic)
        yield from (("tried again", _told(each)) for each in total.again)
        yield from (("client", _told(each)) for each in self.client)
        yield "wall", f"{total.wall_s:,.1f} s"

    def _runs(self) -> Iterable[tuple[str, ...]]:
        """Give the last runs, a row each below one of names; one alone is the total."""
        if len(self.runs) < 2:
            return
        yield ("run", "execution", "ranges", "invocations", "cold", "billed", "USD", "entries", "wall")
        for run in self.runs[-_RUNS_SHOWN:]:
            yield (
                run.run[:_RUN_WIDTH],
                ", ".join(run.executions),
                f"{run.ranges:,}",
                f"{run.invocations:,}",
                f"{run.cold_starts:,}",
                f"{run.billed_s:,.1f} s",
                f"{run.usd:,.6f}",
                f"{run.entries:,}",
                f"{run.wall_s:,.1f} s",
            )

    def _remarks(self) -> Iterable[str]:
        yield from self.notes
        if self.runs and self.runs[-1].why:
            yield f"The last run has {self.runs[-1].why}."
        if len(self.runs) > _RUNS_SHOWN:
            yield f"The last {_RUNS_SHOWN} of {len(self.runs):,} runs; all are in to_dict()."
        if self.total.empty:
            yield (
                f"{self.total.empty:,} ranges had no entries: the files have fewer clusters than npartitions "
                "asks for."
            )
        if self.total.mended:
            yield f"{self.total.mended:,} partial results of earlier tries were damaged, and computed again."
        if self.total.moved_up:
            yield f"{self.total.moved_up:,} tries ran out of memory; functions with more made them again."
        yield from self._prices_told()

    def _prices_told(self) -> Iterable[str]:
        if self.total.untold:
            yield f"Of {self.total.untold:,} tries nobody knows what they read: it is not in the bytes."
        if self.client_usd:
            yield (
                f"The client's own requests to S3 cost {self.client_usd:,.6f} USD more, since this process "
                "began."
            )
        for table in self.prices:
            own = (
                f"the list prices of {table.region} on {table.date}"
                if table.date
                else (f"the prices of {table.region} in your configuration")
            )
            if table != NO_PRICES:
                yield f"Cost at {own}, without requests to the store."


_NAME_WIDTH = 14
_RUNS_SHOWN = 10
_RUN_WIDTH = 8
"""Digits of a run's identity that are shown: enough to find it among the keys of Dask's dashboard and log."""


def _of_data(run: RunReport) -> str:
    parts = [
        f"{usd:,.6f} for {what}"
        for usd, what in (
            (run.s3_usd, "requests to S3"),
            (run.transfer_usd, "transfer between regions"),
            (run.kept_usd, "keeping far data"),
        )
        if usd
    ]
    return f", of it {' and '.join(parts)}" if parts else ""


def _told(traffic: Traffic) -> str:
    """Say what came from a source, such as ``s3://bucket, 1.2 MB, 30 GET, 1 LIST``."""
    is_object = traffic.source.startswith(("s3://", "http"))
    named = (
        (traffic.gets, "GET" if is_object else "reads"),
        (traffic.heads, "HEAD"),
        (traffic.lists, "LIST"),
        (traffic.puts, "PUT"),
    )
    requests = (f"{count:,} {name}" for count, name in named if count)
    place = f" at {traffic.endpoint}" if traffic.endpoint else ""
    source = "local files" if traffic.source == LOCAL else f"{traffic.source}{place}"
    written = (f"{_size(traffic.bytes_kept)} kept",) if traffic.bytes_kept else ()
    return ", ".join((source, _size(traffic.bytes_read), *written, *requests))


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Lay out rows: what a run is to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width) for place, (cell, width) in enumerate(cells)
        )


def _size(n_bytes: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:,.0f} {unit}" if unit == "B" else f"{n_bytes:,.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"
