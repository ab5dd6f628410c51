"""Snapshots: each range writes a file of its own, which takes its place when all ranges are written.

Until then a local file has a hidden name, which no other attempt has: what a range reads is never what one
writes, and of two attempts of a range one counts. ROOT writes the name by which a file was made into its
first bytes. By that a file of a Snapshot is known later on, to be removed when another Snapshot takes its
place. Files elsewhere, such as root:// URLs, have their names from the beginning.
"""

from __future__ import annotations

import copy
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ROOT
from ROOT._distrdf.Operation import Action, Snapshot

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import IncompleteResultError
from dask_root_lambda.protocol.rootfile import FileIdentity

_ABANDONED_S = 3600.0
"""Nobody writes a file any more that has not changed for so long."""
_HEAD_BYTES = 8192
"""Within so many bytes of a file stands the name by which it was made, however long its path."""


@dataclass(frozen=True)
class Output:
    """Where a Snapshot writes."""

    url: str
    """The file that the user named, on this machine by its absolute path."""

    @property
    def stem(self) -> str:
        """What the names of its files begin with, as DistRDF names them: all but the last ``.root``."""
        return self._split[0].removesuffix(".root")

    def file(self, range_id: int) -> str:
        """Return the name of the file of a range."""
        return f"{self.stem}_{range_id}.root{self._split[1]}"

    @property
    def _split(self) -> tuple[str, str]:
        """The name, and the options of a URL."""
        name, mark, options = self.url.partition("?") if self.folder is None else (self.url, "", "")
        return name, f"{mark}{options}"

    @property
    def folder(self) -> Path | None:
        """Its directory on this machine, None elsewhere."""
        path = rootfile.local_path(self.url)
        return None if path is None else path.parent

    def owns(self, path: Path) -> bool:
        """Tell whether a file was made by a Snapshot to this output."""
        made_as = rb"/\.%s_\d+\.root-[0-9a-f]{32}" % re.escape(self._name.encode())
        return re.search(made_as, _head(path)) is not None

    def files(self) -> Iterator[Path]:
        """Yield the files on this machine that have a range's name."""
        return self._matching(rf"{re.escape(self._name)}_\d+\.root")

    def abandoned(self, now_s: float) -> Iterator[Path]:
        """Yield what ranges wrote and no run took: of runs that failed, and of attempts that came too late.

        ROOT ends the process that still writes a file when that is gone, so they have to be old.
        """
        for path in self._matching(rf"\.{re.escape(self._name)}_\d+\.root-[0-9a-f]{{32}}"):
            if now_s - path.stat().st_mtime > _ABANDONED_S:
                yield path

    def _matching(self, pattern: str) -> Iterator[Path]:
        names = [] if self.folder is None else os.listdir(self.folder)  # noqa: PTH208  (names, many maybe)
        return (Path(self.folder or "", name) for name in names if re.fullmatch(pattern, name))

    @property
    def _name(self) -> str:
        return os.path.basename(self.stem)  # noqa: PTH119  (may be a URL)


@dataclass(frozen=True)
class Part:
    """What one range wrote."""

    written: str
    """Its file."""
    final: str
    """The name of the file when all ranges are done."""
    identity: FileIdentity | None = None
    """What the file was then, on this machine."""


class Written:
    """What ranges wrote of a Snapshot; a mergeable object, as DistRDF calls it.

    Parameters
    ----------
    tree
        Name of the tree or RNTuple.
    output
        Where the Snapshot writes.
    parts
        The files, in order.
    """

    def __init__(self, tree: str, output: Output, parts: tuple[Part, ...]) -> None:
        self.tree = tree
        self.output = output
        self.parts = parts

    def Merge(self, other: Written) -> None:  # noqa: N802  (DistRDF's name)
        """Append what the ranges that follow wrote."""
        self.parts += other.parts

    def published(self) -> Written:
        """Give the files their names, in the place of those of an earlier Snapshot.

        Raises
        ------
        IncompleteResultError
            A file is not there: another Snapshot to the same output took it for one that was left.
        """
        if self.output.folder is None:
            return self
        parts = tuple(_published(part) for part in self.parts)
        own = {part.final for part in parts}
        for path in self.output.files():
            if str(path) not in own and self.output.owns(path):
                path.unlink(missing_ok=True)
        for path in self.output.abandoned(time.time()):
            path.unlink(missing_ok=True)
        return Written(self.tree, self.output, parts)


def _published(part: Part) -> Part:
    written, final = Path(part.written), Path(part.final)
    try:
        written.replace(final)
    except FileNotFoundError:
        # The step that does this may run twice.
        if not final.is_file() or written.name.encode() not in _head(final):
            raise IncompleteResultError(
                f"{final} was written as {written.name}, which is gone: does another Snapshot write there at "
                "the same time? Give each a file name of its own"
            ) from None
    return replace(part, identity=rootfile.identify_local(final))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


class RangeSnapshot(Action):  # type: ignore[misc]  # ROOT has no types
    """A Snapshot of one range, to be booked as it is.

    Parameters
    ----------
    operation
        The Snapshot, with all four arguments.
    range_id
        Which range.
    """

    def __init__(self, operation: Any, range_id: int) -> None:
        tree, url, columns, options = operation.args
        output = Output(str(url))
        final = output.file(range_id)
        part = Part(final if output.folder is None else _hidden(final), final)
        lazy = copy.deepcopy(options)
        lazy.fLazy, lazy.fMode = True, "RECREATE"
        super().__init__("Snapshot", tree, part.written, columns, lazy)
        self.whole = operation
        self.result = Written(str(tree), output, (part,))

    @property
    def cloned(self) -> bool:
        """Whether ROOT 6.40 can clone it: not one to RNTuple."""
        return bool(self.args[3].fOutputFormat != ROOT.RDF.ESnapshotOutputFormat.kRNTuple)

    def discard(self) -> None:
        """Remove what was written, if it is on this machine: the range failed."""
        (part,) = self.result.parts
        if part.written != part.final:
            Path(part.written).unlink(missing_ok=True)


def _hidden(final: str) -> str:
    path = Path(final)
    return str(path.with_name(f".{path.name}-{uuid.uuid4().hex}"))


def prepare(nodes: Mapping[int, Any], range_id: int) -> None:
    """Let the Snapshots of a graph write the files of a range."""
    for node in nodes.values():
        if isinstance(node.operation, RangeSnapshot):
            node.operation = RangeSnapshot(node.operation.whole, range_id)
        elif isinstance(node.operation, Snapshot):
            node.operation = RangeSnapshot(node.operation, range_id)


def discard(nodes: Mapping[int, Any]) -> None:
    """Remove what the Snapshots of a graph wrote for a range that failed."""
    for node in nodes.values():
        if isinstance(node.operation, RangeSnapshot):
            node.operation.discard()
