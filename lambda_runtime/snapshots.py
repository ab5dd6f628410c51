"""Snapshots: each range writes a file of its own, which takes its place when all ranges are written.

Until then a local file has a hidden name, which no other attempt has: what a range reads is never what one
writes, and of two attempts of a range one counts. ROOT writes the name by which a file was made into its
first bytes. By that a file of a Snapshot is known later on, to be removed when another Snapshot takes its
place. Files at root:// URLs have their names from the beginning.

Of a Snapshot to S3 a range writes a file into its process's temporary directory, of which an object is made
when it is complete. That has its name at once, unless parts of an older Snapshot are there: then it has a
hidden one, as a local file has, until all ranges are written.
"""

from __future__ import annotations

import copy
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ROOT
from ROOT._distrdf.Operation import Action, Snapshot

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import IncompleteResultError
from dask_root_lambda.protocol.rootfile import FileIdentity
from lambda_runtime import IN_FUNCTION, range_files
from lambda_runtime.remote import names
from lambda_runtime.remote.names import S3Name
from lambda_runtime.stopping import OnStop, watching

if TYPE_CHECKING:
    # S3's SDK, which it needs, takes a new environment 0.06 s to import: only what writes to S3 does that.
    from lambda_runtime.snapshot_objects import Found, Mark

_ABANDONED_S = 3600.0
"""Nobody writes a file any more that has not changed for so long."""
_HEAD_BYTES = 8192
"""Within so many bytes of a file stands the name by which it was made, however long its path."""


@dataclass(frozen=True)
class Output:
    """Where a Snapshot writes."""

    url: str
    """The file that the user named, on this machine by its absolute path, in S3 by its internal name."""
    run: str = ""
    """Names the run that writes there, where that is S3."""
    staged: bool = False
    """Whether objects of an older Snapshot are there, which stay until all ranges are written."""

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

    @property
    def in_s3(self) -> S3Name | None:
        """What the keys of its objects begin with, None elsewhere than in S3."""
        return names.parse_s3(self.stem)

    def part(self, range_id: int) -> Part:
        """Return where a range writes, each time another place that no attempt has written to."""
        final = self.file(range_id)
        if self.in_s3 is not None:
            scratch = str(Path(tempfile.gettempdir(), f"snapshot-{uuid.uuid4().hex}.root"))
            return Part(_hidden_object(final) if self.staged else final, final, range_id, scratch=scratch)
        return Part(final if self.folder is None else _hidden(final), final, range_id)

    def mark(self, part: Part) -> Mark:
        """Return what the object of a part says of itself."""
        from lambda_runtime import snapshot_objects

        stem = self.in_s3
        assert stem is not None, "it is an object"
        return snapshot_objects.Mark(snapshot_objects.output_of(stem), f"{self.run}/{part.range_id}")

    def objects(self) -> list[Found]:
        """Find the objects that have a range's name."""
        return self._objects("", r"_\d+\.root")

    def abandoned_objects(self, now_s: float) -> list[S3Name]:
        """Find what ranges wrote and no run took, as `abandoned`."""
        found = self._objects(".", r"_\d+\.root-[0-9a-f]{32}")
        return [each.name for each in found if now_s - each.changed_s > _ABANDONED_S]

    def _objects(self, before: str, after: str) -> list[Found]:
        from lambda_runtime import snapshot_objects

        stem = self.in_s3
        if stem is None:
            return []
        folder, slash, name = stem.key.rpartition("/")
        begin = S3Name(stem.bucket, f"{folder}{slash}{before}{name}_", stem.place)
        return snapshot_objects.find(begin, stem, rf"{re.escape(begin.key.removesuffix('_'))}{after}")

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
    range_id: int
    """Which range."""
    identity: FileIdentity | None = None
    """What the file was then, on this machine; of an object in S3 its size and ETag, and no more."""
    scratch: str = ""
    """Where ROOT writes the file of which an object becomes."""


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

    def store(self, watch: Callable[[int], None]) -> None:
        """Make objects of what was written, where that goes to S3; what ``watch`` raises cuts that off.

        Raises
        ------
        InputError
            S3 refuses, or does not answer.
        IncompleteResultError
            Another program made an object of this name.
        """
        self.parts = tuple(_stored(self.output, part, watch) for part in self.parts)

    def discard(self) -> None:
        """Remove files of this machine: their range failed."""
        for part in self.parts:
            if part.scratch:
                Path(part.scratch).unlink(missing_ok=True)
            elif part.written != part.final and self.output.folder is not None:
                Path(part.written).unlink(missing_ok=True)

    def published(self) -> Written:
        """Give the files their names, in the place of those of an earlier Snapshot.

        Raises
        ------
        IncompleteResultError
            A file is not there: another Snapshot to the same output took it for one that was left.
        InputError
            S3 refuses.
        """
        if self.output.staged:
            return self._published_objects()
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

    def _published_objects(self) -> Written:
        from lambda_runtime import snapshot_objects

        moves = []
        for part in self.parts:
            written, final = names.parse_s3(part.written), names.parse_s3(part.final)
            assert written is not None
            assert final is not None
            moves.append((written, final, self.output.mark(part)))
        identities = snapshot_objects.move(moves)
        own = {final for _, final, _ in moves}
        older = [each.name for each in self.output.objects() if each.is_part and each.name not in own]
        snapshot_objects.remove([*older, *self.output.abandoned_objects(time.time())])
        pairs = zip(self.parts, identities, strict=True)
        parts = tuple(replace(part, identity=identity) for part, identity in pairs)
        return Written(self.tree, self.output, parts)


def _stored(output: Output, part: Part, watch: Callable[[int], None]) -> Part:
    name = names.parse_s3(part.written)
    if not part.scratch or name is None:
        return part
    from lambda_runtime import snapshot_objects

    scratch = Path(part.scratch)
    try:
        identity = snapshot_objects.create(scratch, name, output.mark(part), watch)
    finally:
        scratch.unlink(missing_ok=True)
    return replace(part, identity=identity, scratch="")


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
        The Snapshot, with all four arguments, and its output where that was looked at.
    range_id
        Which range.
    """

    def __init__(self, operation: Any, range_id: int) -> None:
        tree, url, columns, options = operation.args
        output: Output = vars(operation).get("output", Output(str(url)))
        part = output.part(range_id)
        lazy = copy.deepcopy(options)
        lazy.fLazy, lazy.fMode = True, "RECREATE"
        super().__init__("Snapshot", tree, part.scratch or part.written, columns, lazy)
        self.result = Written(str(tree), output, (part,))

    @property
    def cloned(self) -> bool:
        """Whether ROOT 6.40 can clone it: not one to RNTuple."""
        return bool(self.args[3].fOutputFormat != ROOT.RDF.ESnapshotOutputFormat.kRNTuple)


def _hidden(final: str) -> str:
    path = Path(final)
    return str(path.with_name(f".{path.name}-{uuid.uuid4().hex}"))


def _hidden_object(final: str) -> str:
    name = names.parse_s3(final)
    assert name is not None, "it is an object"
    folder, slash, last = name.key.rpartition("/")
    return replace(name, key=f"{folder}{slash}.{last}-{uuid.uuid4().hex}").internal()


def prepare(nodes: Mapping[int, Any], booked: Mapping[int, Any], range_id: int) -> None:
    """Let the Snapshots of a graph write the files of a range.

    Parameters
    ----------
    nodes
        Those of the graph.
    booked
        The nodes as the client packed them for this run: the graph may have been compiled for an equal one.
    range_id
        Which range.
    """
    for number, node in nodes.items():
        operation = booked[number].operation
        if isinstance(operation, Snapshot):
            if not IN_FUNCTION:
                range_files.prepare()
            node.operation = RangeSnapshot(operation, range_id)


def discard(nodes: Mapping[int, Any]) -> None:
    """Remove what the Snapshots of a graph wrote for a range that failed."""
    for node in nodes.values():
        if isinstance(node.operation, RangeSnapshot):
            node.operation.result.discard()


@contextmanager
def stored(on_stop: OnStop | None) -> Iterator[list[Any]]:
    """Put what Snapshots wrote where it belongs, if the block ends well; else remove it.

    The block puts results of a range into the list that it is given, those of Snapshots among them.

    Parameters
    ----------
    on_stop
        Called with what ends the sending of objects, and with None behind that; None where nobody will.
    """
    values: list[Any] = []
    try:
        yield values
        with watching(on_stop) as watch:
            for value in values:
                if isinstance(value, Written):
                    value.store(watch)
    except BaseException:
        for value in values:
            if isinstance(value, Written):
                value.discard()
        raise
