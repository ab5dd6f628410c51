"""Snapshot: its arguments, and where it may write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ROOT
from dask.base import normalize_token
from ROOT._distrdf.Operation import Snapshot

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import GraphError, InputError
from dask_root_lambda.rdf import inputs
from lambda_runtime import storage
from lambda_runtime.remote import names
from lambda_runtime.snapshots import Output, Written

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
    if names.is_remote(str(given[1])):
        raise GraphError(
            f"Snapshot cannot write to {given[1]}: objects in S3 and on web servers are read only. Write "
            "to this machine, or to a root:// URL"
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
                f"another Snapshot that is not computed yet writes {own.url}: give each a file name of its "
                "own, or compute that one first"
            )


def check_place(operation: Any, n_ranges: int, files: Iterable[str]) -> None:
    """Look whether the files of a Snapshot can be made.

    Parameters
    ----------
    operation
        The Snapshot.
    n_ranges
        How many files it may write.
    files
        The files that its graph reads.

    Raises
    ------
    GraphError
        A file is there that no Snapshot to this output made, or that the graph reads elsewhere than on this
        machine; or any, where the mode asks for new ones.
    """
    place = Output(str(operation.args[1]))
    names = {place.file(index) for index in range(n_ranges)}
    if place.folder is None:
        _refuse_inputs(names.intersection(files))
        return
    mode = str(operation.args[3].fMode).upper()
    for path in place.files():
        if place.owns(path):
            if mode in _NEW:
                raise GraphError(f"Snapshot: {path} is there, which fMode='{mode}' does not replace")
        elif str(path) in names:
            raise GraphError(
                f"Snapshot would replace {path}, which no Snapshot to {place.url} has written: remove it, or "
                "give another file name"
            )


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
    for part in written.parts:
        if part.identity is not None and storage.identify(part.final) != part.identity:
            raise InputError(
                f"{part.final} was replaced since the Snapshot wrote it: make the Snapshot again"
            )
    return [part.final for part in written.parts]
