"""Reading a range of a file, to see whether and how that goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import ROOT

from dask_root_lambda.protocol.errors import DaskRootLambdaError, InputError
from dask_root_lambda.protocol.traffic import Traffic, summed
from lambda_runtime import datasets, diagnostics, ntuple_reads, storage, tallies
from lambda_runtime.remote import objects
from lambda_runtime.remote.names import shown

_LONGEST_S = 10.0
"""How long it reads at most: columns may be thousands."""
_NTUPLE = "ROOT::RNTuple"

Kind = Literal["TTree", "RNTuple"]
Read = Callable[[int], None]
"""Reads an entry."""


@dataclass(frozen=True)
class Trial:
    """How it went."""

    tree: str
    """Name of the TTree or RNTuple."""
    kind: Kind
    entries: int
    columns: int
    """Branches, or fields, at the top."""
    stop: int
    """Entries that were read, from the first."""
    opened_s: float
    """Seconds until that was known."""
    opening: tuple[Traffic, ...]
    """What that took."""
    read_s: float
    """Seconds of reading the entries."""
    traffic: tuple[Traffic, ...]
    """What reading the entries took."""


def read_range(url: str, tree: str = "") -> Trial:
    """Read the first cluster of a file, all columns, or as much of it as ten seconds allow.

    Parameters
    ----------
    url
        The file, as ROOT is given it.
    tree
        Name of the TTree or RNTuple; empty for the one with the most entries.

    Raises
    ------
    InputError
        The file, or what is in it, cannot be read.
    """
    try:
        with diagnostics.record() as reported:
            return _read(url, tree)
    except DaskRootLambdaError:
        raise
    except Exception as error:  # whatever ROOT raises of a file that is damaged
        said = reported.text.strip().partition("\n")[0] or diagnostics.first_line(error)
        raise InputError(f"cannot read {shown(url)}: {said}") from None


def _read(url: str, tree: str) -> Trial:
    opening: list[Traffic] = []
    traffic: list[Traffic] = []
    began_s = time.monotonic()
    ntuple_reads.prepare([url])
    with tallies.counted(opening):
        identity = storage.identify(url)
    with objects.reading([(url, identity)]):
        with tallies.counted(opening):
            name, kind = _chosen(url, tree)
            is_tree = kind == "TTree"
            boundaries = datasets.boundaries("tree" if is_tree else "rntuple", name, url)
        with tallies.counted(traffic):
            columns, read = _open_tree(url, name) if is_tree else _open_ntuple(url, name)
            opened_s, stop = time.monotonic() - began_s, 0
            for stop in _counted(boundaries):
                read(stop - 1)
            read_s = time.monotonic() - began_s - opened_s
    return Trial(
        name, kind, boundaries[-1], columns, stop, opened_s, summed(opening), read_s, summed(traffic)
    )


def _counted(boundaries: list[int]) -> Iterator[int]:
    """Count the entries of the first cluster, from 1, until it has taken too long."""
    deadline_s = time.monotonic() + _LONGEST_S
    for number in range(1, (boundaries[1] if len(boundaries) > 1 else 0) + 1):
        if time.monotonic() > deadline_s:
            return
        yield number


def _open_tree(url: str, name: str) -> tuple[int, Read]:
    file = ROOT.TFile.Open(url)
    tree = file.Get(name)

    def read(entry: int) -> None:
        # A tree goes with its file.
        if file.IsZombie() or tree.GetEntry(entry) < 0:
            raise InputError(f"cannot read entry {entry} of {name} in {shown(url)}")

    return int(tree.GetListOfBranches().GetEntriesFast()), read


def _open_ntuple(url: str, name: str) -> tuple[int, Read]:
    reader = ROOT.RNTupleReader.Open(name, url)
    values = reader.CreateEntry()
    return len(list(reader.GetDescriptor().GetTopLevelFields())), lambda entry: reader.LoadEntry(
        entry, values
    )


def _chosen(url: str, tree: str) -> tuple[str, Kind]:
    """Return the name and the kind of what is to be read."""
    with ROOT.TFile.Open(url) as file:
        if tree and isinstance(file.Get(tree), ROOT.TTree):
            return tree, "TTree"
        classes = {str(key.GetName()): str(key.GetClassName()) for key in file.GetListOfKeys()}
        sizes: dict[tuple[str, Kind], int] = {}
        for name, kind in classes.items():
            if kind == _NTUPLE:
                sizes[name, "RNTuple"] = datasets.rntuple_entries(name, url)
            elif ROOT.TClass.GetClass(kind).InheritsFrom("TTree"):
                sizes[name, "TTree"] = int(file.Get(name).GetEntries())
    if tree:
        sizes = {each: size for each, size in sizes.items() if each[0] == tree}
    if not sizes:
        there = ", ".join(f"{name} ({kind})" for name, kind in classes.items()) or "nothing"
        wanted = f"{tree!r}" if tree else "TTree or RNTuple at its top (--tree names one below)"
        raise InputError(f"{shown(url)} holds no {wanted}: it has {there}")
    return max(sizes, key=lambda each: sizes[each])
