"""Figures, the table they are shown in, and the command line that all benchmarks share."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """Something measured, with its target where it has one."""

    benchmark: str
    """Name of the module that measured it."""
    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    """Target of what should be small."""
    at_least: float | None = None
    """Target of what should be large."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return self.value >= self.at_least if self.at_least is not None else None

    @property
    def target(self) -> str:
        """The target as text."""
        if self.at_most is not None:
            return f"at most {_number(self.at_most)} {self.unit}".rstrip()
        return f"at least {_number(self.at_least)} {self.unit}".rstrip() if self.at_least is not None else ""


def table(figures: Iterable[Figure]) -> str:
    """Return figures as a table: what, target, measured, met or not."""
    rows = [("benchmark", "what", "target", "measured", "met")]
    for figure in figures:
        met = {None: "", True: "yes", False: "NO"}[figure.met]
        measured = f"{_number(figure.value)} {figure.unit}".rstrip()
        rows.append((figure.benchmark, figure.what, figure.target, measured, met))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join((lines[0], "-" * len(lines[0]), *lines[1:]))


def run(measure: Callable[[], Sequence[Figure]], description: str | None) -> None:
    """Measure, print the table, and write the figures where ``--json`` says: the main of every benchmark.

    Raises
    ------
    SystemExit
        With status 1 and what was missed, where a target was.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    figures = measure()
    print(table(figures))
    print(f"load before and after: {before:.1f}, {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if arguments.json:
        write(arguments.json, figures)
    missed = [figure.what for figure in figures if figure.met is False]
    if missed:
        raise SystemExit(f"missed: {'; '.join(missed)}")


def write(path: Path, figures: Iterable[Figure]) -> None:
    """Write figures as JSON."""
    documents = [{**asdict(figure), "met": figure.met} for figure in figures]
    path.write_text(json.dumps(documents, indent=1) + "\n")


def read(path: Path) -> list[Figure]:
    """Read what `write` wrote."""
    names = [field.name for field in fields(Figure)]
    return [Figure(**{name: document[name] for name in names}) for document in json.loads(path.read_text())]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.2f}"
