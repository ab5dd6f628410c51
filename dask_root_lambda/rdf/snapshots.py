"""Snapshot: its arguments, and where it may write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ROOT
from dask.base import normalize_token
from ROOT._distrdf.Operation import Snapshot

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import GraphError, InputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.rdf import inputs, probes
from lambda_runtime.remote import names
from lambda_runtime.remote.names import shown
from lambda_runtime.snapshots import Output, Part, Written

_PLACES = {"treename": 0, "filename": 1, "columnList": 2, "columnNameRegexp": 2, "options": 3}
_NEW, _ANY = ("NEW", "CREATE"), "RECREATE"
"""Modes of a file: it must not be there yet, or is replaced."""


def _plain(options: Any) -> list[tuple[str, str]]:
    """Tell Dask what identifies options: their values."""
    return [(name, repr(getattr(options, name))) for name in dir(options) if name.startswith("f")]


normalize_token.register(ROOT.RDF.RSnapshotOptions, _plain)


def arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the arguments of a Snapshot by position, all four, with ROOT's defaults.

    https://root.cern/doc/master/classROOT_1_1RDF_1_1RInterface.html

    Parameters
    ----------
    args, kwargs
        As the user gave them.

    Raises
    ------
    GraphError
        ``Snapshot`` takes no such arguments, or its files cannot be made.
    """
    given = dict(enumerate(args))
    for name, value in kwargs.items():
        if name not in _PLACES or _PLACES[name] in given:
            raise GraphError(
                f"Snapshot takes {', '.join(_PLACES)}, each once: {name} is not one of them, or is twice"
            )
        given[_PLACES[name]] = value
    if not {0, 1} <= given.keys() <= {0, 1, 2, 3}:
        raise GraphError(
            f"Snapshot takes a treename, a filename, columns and options, given: {tuple(args)!r}"
        )
    options = given.get(3, ROOT.RDF.RSnapshotOptions())
    _check_mode(str(options.fMode))
    if options.fIncludeVariations:
        raise GraphError(
            "Snapshot with fIncludeVariations: ranges that read it would ignore which of its values are "
            "valid. Define the varied values as columns"
        )
    return [str(given[0]), _checked_file(str(given[1])), _columns(given.get(2, "")), options]


def _check_mode(mode: str) -> None:
    if mode.upper() == "UPDATE":
        raise GraphError(
            "Snapshot cannot add to a file (fMode='UPDATE'): each range writes a file of its own. Name a new "
            "file, and join the trees with hadd"
        )
    if mode.upper() not in (*_NEW, _ANY):
        raise GraphError(f"Snapshot: fMode is {mode!r}: it has to be RECREATE, CREATE or NEW")


def _checked_file(name: str) -> str:
    url = inputs.absolute(name)
    object_name = names.parse_s3(url)
    if object_name is None and names.is_remote(url):
        raise GraphError(
            f"Snapshot cannot write to {name}: files on web servers are read only. Write to s3://, to a "
            "root:// URL, or to this machine"
        )
    if object_name is not None and object_name.is_pattern:
        raise GraphError(f"Snapshot cannot write {name}: * and [ make a pattern of a name. Give another name")
    path = rootfile.local_path(url)
    if path is not None and not path.parent.is_dir():
        raise GraphError(f"Snapshot cannot write {url}: there is no directory {path.parent}")
    return url


def _columns(columns: Any) -> Any:
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        return columns
    return [str(column) for column in columns]


def output(node: Any) -> Output | None:
    """Return where a node of DistRDF writes, if it does."""
    return Output(str(node.operation.args[1])) if isinstance(node.operation, Snapshot) else None


def check_apart(node: Any, others: Iterable[Any]) -> None:
    """Raise `GraphError` if a Snapshot writes where another one of the same event loop does."""
    own = output(node)
    for other in others:
        theirs = output(other)
        if own is not None and theirs is not None and own.stem == theirs.stem:
            raise GraphError(
                f"another Snapshot that is not computed yet writes {shown(own.url)}: give each a file name "
                "of its own, or compute that one first"
            )


def place(operation: Any, n_ranges: int, files: Iterable[str], run: str) -> Output:
    """Return where the ranges of a run write, after a look whether the files of its Snapshot can be made.

    Parameters
    ----------
    operation
        The Snapshot.
    n_ranges
        How many files it may write.
    files
        The files that its graph reads.
    run
        Names the run.

    Raises
    ------
    GraphError
        A file is there that no Snapshot to this output made, or, at a root:// URL, that the graph reads; or
        any, where the mode asks for new ones.
    InputError
        A bucket cannot be listed, or what is in it not be looked at.
    """
    output = Output(str(operation.args[1]), run)
    finals = {output.file(index) for index in range(n_ranges)}
    if output.folder is None and output.in_s3 is None:
        _refuse_inputs(finals.intersection(files))
        return output
    mode = str(operation.args[3].fMode).upper()
    staged = False
    for url, is_part in _there(output):
        if is_part:
            staged = True
            if mode in _NEW:
                raise GraphError(f"Snapshot: {shown(url)} is there, which fMode='{mode}' does not replace")
        elif url in finals:
            raise GraphError(
                f"Snapshot would replace {shown(url)}, which no Snapshot to {shown(output.url)} has written: "
                "remove it, or give another file name"
            )
    return replace(output, staged=staged and output.in_s3 is not None)


def _there(output: Output) -> Iterator[tuple[str, bool]]:
    """Yield the files that have a range's name, and whether a Snapshot to this output made each."""
    if output.in_s3 is not None:
        yield from ((each.name.internal(), each.is_part) for each in output.objects())
    else:
        yield from ((str(path), output.owns(path)) for path in output.files())


def _refuse_inputs(names: Iterable[str]) -> None:
    for name in sorted(names):
        raise GraphError(f"Snapshot would write {name}, which the frame reads: give another file name")


def files(written: Written) -> list[str]:
    """Return the files of a Snapshot, in order.

    Raises
    ------
    InputError
        One of them is gone, or was replaced since it was written.
    """
    known = [part for part in written.parts if part.identity is not None]
    for part, found in zip(known, probes.identify([part.final for part in known]), strict=True):
        if _identity(part, found) != part.identity:
            raise InputError(
                f"{shown(part.final)} was replaced since the Snapshot wrote it: make the Snapshot again"
            )
    return [part.final for part in written.parts]


def _identity(part: Part, found: FileIdentity) -> FileIdentity:
    """Return as much of what identifies a file as is known of its part."""
    return replace(found, header="", mtime_ns=0) if names.parse_s3(part.final) is not None else found
