"""How copies are shown while they go on, and at the end."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

from dask_root_lambda.copying.plan import Item
from dask_root_lambda.copying.run import Outcome, Watch
from dask_root_lambda.cost.report import Report

_UNITS = ("kB", "MB", "GB", "TB")


@contextmanager
def shown(items: Sequence[Item], step: Callable[[str], None]) -> Iterator[Watch]:
    """Show a bar with rate and time left on a terminal, else a line for each file."""
    if not sys.stderr.isatty():
        yield Watch(_ignore, lambda item, problem: step(_line(item, problem)))
        return
    total = sum(item.content.size for item in items if not item.is_there)
    with tqdm(total=total, unit="B", unit_scale=True, file=sys.stderr) as bar:
        lock = threading.Lock()

        def came(n_bytes: int) -> None:
            with lock:
                bar.update(n_bytes)

        yield Watch(came, lambda item, problem: _tell(bar, item, problem))


def _ignore(n_bytes: int) -> None:
    """Take note of nothing: without a terminal, only whole files are told."""


def _tell(bar: Any, item: Item, problem: str | None) -> None:
    if problem is not None:
        bar.write(_line(item, problem), file=sys.stderr)


def _line(item: Item, problem: str | None) -> str:
    return f"failed {item.shown}: {problem}" if problem else f"copied {item.shown}, {size(item.content.size)}"


def size(n_bytes: float) -> str:
    """Write a number of bytes for people."""
    if n_bytes < 1000:
        return f"{n_bytes:,.0f} bytes"
    power = min(int(math.log10(n_bytes)) // 3, len(_UNITS))
    return f"{n_bytes / 1000**power:,.1f} {_UNITS[power - 1]}"


def planned(items: Sequence[Item]) -> str:
    """Tell what would be done."""
    lines = [f"{'there already' if item.is_there else 'would copy'} {item.shown}" for item in items]
    todo = [item for item in items if not item.is_there]
    total = size(sum(item.content.size for item in todo))
    return "\n".join([*lines, f"{len(todo):,} of {len(items):,} files to copy, {total}"])


def abandoned(items: Sequence[Item]) -> str:
    """Tell whose parts were removed."""
    lines = [f"removed what was there of {item.shown}" for item in items]
    return "\n".join([*lines, f"{len(items):,} unfinished files abandoned"])


def summary(outcome: Outcome, report: Report | None) -> str:
    """Tell what was done, and what functions cost."""
    seconds = max(outcome.seconds, 1e-3)
    text = (
        f"{len(outcome.copied):,} files copied, {size(outcome.copied_bytes)} in {outcome.seconds:.1f} s "
        f"({size(outcome.copied_bytes / seconds)}/s); {len(outcome.skipped):,} were there already"
    )
    if outcome.failed:
        text = f"{text}; {len(outcome.failed):,} failed"
    return text if report is None else f"{text}\n\n{report}"
