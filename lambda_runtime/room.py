"""Whether what a range writes has room: told beforehand, where that is known, else when it has none.

Of a Snapshot to S3 it is known where nothing is cut: then columns of the input are written as they are, and
take about the bytes that they have there, or more. What a cut leaves, and what is defined, nobody knows
before.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import ROOT
from ROOT._distrdf.Operation import Snapshot

from dask_root_lambda.protocol.errors import BrokenEnvironmentError, FullStorageError, RemoteError
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.task import DataFile
from lambda_runtime import diagnostics
from lambda_runtime.remote.names import shown
from lambda_runtime.snapshots import Output

_ADVICE = (
    "divide the data set into more ranges (npartitions=...), or give the functions a larger /tmp, which "
    "SnapStart does not allow: 'dask-root-lambda deploy --var tmp_mb=2048'"
)
_CUTS = ("Filter", "FilterAvailable", "FilterMissing", "Range")
_COMPRESSORS = ("none", "LZ4", "ZLIB", "ZSTD", "LZMA")
"""Each makes the same data as small as those before it, or smaller."""
_NUMBERS = {0: "none", 1: "ZLIB", 2: "LZMA", 4: "LZ4", 5: "ZSTD"}
"""ROOT's: https://root.cern/doc/master/Compression_8h.html"""
_WRITING = re.compile(r"^T(?:\w*File|Branch\w*|Basket|Tree)::(?:\w+::)?(?:Write|Fill|Flush)", re.MULTILINE)
"""Where ROOT's errors of writing come from."""
_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|error writing all requested bytes"
)
_SURE = 0.9
"""So much of what is expected is taken for certain: levels of compression differ."""


def check(nodes: Mapping[int, Any], files: Sequence[DataFile], interval: Interval) -> None:
    """Look whether the parts of Snapshots to S3 that a range writes fit into /tmp.

    Parameters
    ----------
    nodes
        The graph.
    files
        The file table, of TTrees.
    interval
        What the range reads.

    Raises
    ------
    FullStorageError
        They do not.
    """
    uncut = list(_uncut(nodes))
    free = shutil.disk_usage(tempfile.gettempdir()).free
    shares = list(_shares(files, interval))
    # Mostly, the files are small, and need not be opened for it.
    if not uncut or len(uncut) * sum(file.identity.size * share for file, share in shares) <= free:
        return
    expected = sum(_written(file, share, operation) for file, share in shares for operation in uncut)
    if _SURE * expected > free:
        times = math.ceil(expected / free) if free else "several"
        raise FullStorageError(
            f"the range would write about {expected / 2**20:,.0f} MB for {shown(str(uncut[0].args[1]))}, "
            f"and /tmp has room for {free / 2**20:,.0f} MB: {_ADVICE}. {times} times as many "
            "ranges may be enough, where the files have clusters for them"
        )


def full(disk_bytes: int) -> FullStorageError:
    """Make the error of a range whose output does not fit into a /tmp of a size."""
    return FullStorageError(
        f"what the range writes does not fit into /tmp, which has {disk_bytes >> 20:,} MB. A part of a "
        f"Snapshot to s3:// is written there before it is sent: {_ADVICE}"
    )


@contextmanager
def written_whole(nodes: Mapping[int, Any]) -> Iterator[None]:
    """Run a graph in the block, whose Snapshots fail where ROOT could not write all: it only says so.

    Parameters
    ----------
    nodes
        The graph.

    Raises
    ------
    FullStorageError
        A disk is full.
    BrokenEnvironmentError
        A file could not be written for another reason.
    """
    outputs = [node.operation for node in nodes.values() if isinstance(node.operation, Snapshot)]
    try:
        with diagnostics.user_code("the graph") as reported:
            yield
    except RemoteError as error:
        _check_written(outputs, error.diagnostics)
        raise
    _check_written(outputs, reported.text)


def _check_written(outputs: Sequence[Any], said: str) -> None:
    found = _WRITING.search(said) if outputs else None
    if found is None:
        return
    urls = [str(operation.args[1]) for operation in outputs]
    if _FULL.search(said):
        if any(Output(url).in_s3 is not None for url in urls):
            raise full(shutil.disk_usage(tempfile.gettempdir()).total)
        raise FullStorageError(f"cannot write all of {', '.join(urls)}: the disk is full. Make room there")
    line = said[found.start() :].partition("\n")[0]
    raise BrokenEnvironmentError(f"cannot write all of {', '.join(map(shown, urls))}: {line}")


def _uncut(nodes: Mapping[int, Any]) -> Iterator[Any]:
    """Yield the Snapshots to S3 with no cut above."""
    for node in nodes.values():
        operation = node.operation
        if isinstance(operation, Snapshot) and Output(str(operation.args[1])).in_s3 is not None:
            above = []
            while node.operation is not None:
                above.append(node.operation.name)
                node = nodes[node.parent_id]
            if not any(name in _CUTS for name in above):
                yield operation


def _shares(files: Sequence[DataFile], interval: Interval) -> Iterator[tuple[DataFile, float]]:
    """Yield the files of an interval, and which share of each is in it."""
    for number in range(math.floor(interval.start), min(math.ceil(interval.stop), len(files))):
        start, stop = max(interval.start, Fraction(number)), min(interval.stop, Fraction(number + 1))
        yield files[number], float(stop - start)


def _written(file: DataFile, share: float, operation: Any) -> float:
    """Return how many bytes a Snapshot writes of a share of a file, at least."""
    columns, options = operation.args[2], operation.args[3]
    with ROOT.TFile.Open(file.url) as opened:
        setting = int(opened.GetCompressionSettings())
        tree = opened.Get(file.tree)
        if not isinstance(tree, ROOT.TTree) or not _as_small(setting, options):
            return 0.0
        branches = list(tree.GetListOfBranches())
        if isinstance(columns, str):
            # Which columns an expression matches is ROOT's to say.
            branches = [] if columns else branches
        else:
            branches = [branch for branch in branches if branch.GetName() in columns]
        return share * sum(int(branch.GetZipBytes("*")) for branch in branches)


def _as_small(setting: int, options: Any) -> bool:
    """Whether the input's compression makes data as small as that of the output."""
    read = _NUMBERS.get(setting // 100 if setting % 100 else 0, "none")
    written = _compressor(options)
    return written is not None and _COMPRESSORS.index(read) >= _COMPRESSORS.index(written)


def _compressor(options: Any) -> str | None:
    """Return what a Snapshot compresses with; None if that is not known."""
    algorithm = int(options.fCompressionAlgorithm)
    if algorithm == int(ROOT.RCompressionSetting.EAlgorithm.kUndefined):
        return "ZSTD" if options.fOutputFormat == ROOT.RDF.ESnapshotOutputFormat.kRNTuple else "ZLIB"
    return _NUMBERS.get(algorithm if int(options.fCompressionLevel) else 0)
