"""What runs did and what they cost, as a table, in a notebook, or as plain numbers."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dask_root_lambda.cost.prices import NO_PRICES, Prices


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
    """Ranges that were divided before they were tried: they would have run out of time."""
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
    """Cost at list price: requests, duration, /tmp, and of SnapStart the restores and the snapshot while
    something was in flight; without requests to the store."""
    peak_memory_mb: float = 0.0
    """Largest memory use of an environment, MB of 2^20 bytes."""
    entries: int = 0
    """Entries processed."""
    bytes_read: int = 0
    """Bytes that ROOT read from files, its own dictionaries included."""
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
        return {**asdict(self), "executions": list(self.executions), "entries_per_s": self.entries_per_s}


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

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain dictionaries, lists and numbers, for JSON."""
        return {
            "total": self.total.to_dict(),
            "runs": [run.to_dict() for run in self.runs],
            "prices": [asdict(table) for table in self.prices],
            "notes": list(self.notes),
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
        yield "cost", f"{total.usd:,.6f} USD"
        yield "peak memory", f"{total.peak_memory_mb:,.0f} MB"
        yield "entries", f"{total.entries:,}, {total.entries_per_s:,.0f}/s"
        yield (
            "bytes",
            f"{_size(total.bytes_read)} read, {_size(total.bytes_up)} up, {_size(total.bytes_down)} down",
        )
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
        for table in self.prices:
            if table.date:
                yield f"Cost at the list prices of {table.region} on {table.date}, without storage requests."
            elif table != NO_PRICES:
                yield f"Cost at the prices of {table.region} in your configuration, without storage requests."


_NAME_WIDTH = 14
_RUNS_SHOWN = 10
_RUN_WIDTH = 8
"""Digits of a run's identity that are shown: enough to find it among the keys of Dask's dashboard and log."""


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
