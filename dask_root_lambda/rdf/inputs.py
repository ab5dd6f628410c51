"""The files that an RDataFrame reads: found among its arguments, checked, and named for any directory."""

from __future__ import annotations

import glob
import itertools
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ROOT
from ROOT._distrdf import HeadNode

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import DaskRootLambdaError, GraphError, InputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.rdf import probes, remote
from lambda_runtime import diagnostics, storage
from lambda_runtime.datasets import Sample
from lambda_runtime.remote.names import shown

_ALL_ENTRIES = 2**63 - 1
"""Where the global range of a dataset specification ends that has none."""
_WILDCARD = re.compile(r"[*\[]")
_MASK = "R_rdf_mask_"
"""What the names of columns begin with that say which values are valid."""
_QUIET, _QUIET_S = 10, 5.0
"""A look at files is good for so many times as long as it took, and for so many seconds at most."""


def absolute(name: str) -> str:
    """Return a file's name as any directory of this machine sees it; a URL stays, but for one of S3.

    ``~`` and ``$VARIABLE`` are expanded, as ROOT does.
    """
    expanded = remote.internal(_expanded(name))
    path = rootfile.local_path(expanded)
    return expanded if path is None else os.path.abspath(path)  # noqa: PTH100  (resolves nothing)


def _expanded(name: str) -> str:
    return os.path.expanduser(os.path.expandvars(name))  # noqa: PTH111  (a pattern, maybe)


def make_absolute(head: Any) -> None:
    """Give the files of a head node names that hold wherever ranges run: not in the user's directory.

    What local ROOT would call them is kept, in ``head.names``: sample information names files.

    Raises
    ------
    InputError
        A file's own name is a pattern: where ranges run, ROOT would read what matches it.
    """
    if isinstance(head, HeadNode.EmptySourceHeadNode):
        return
    given = [_expanded(str(name)) for name in head.inputfiles]
    head.names = [shown(name) for name in given]
    head.inputfiles = [absolute(name) for name in given]
    if hasattr(head, "subtreenames"):
        # The path of a tree in a directory of its file begins with a slash; its samples are named without.
        head.subtreenames = [str(name).removeprefix("/") for name in head.subtreenames]
    for names in _friend_files(head):
        for position, name in enumerate(names):
            names[position] = absolute(str(name))
    if isinstance(head, HeadNode.RNTupleHeadNode):
        return
    for name in (*head.inputfiles, *friends(head)):
        if rootfile.local_path(name) is not None and _WILDCARD.search(name):
            raise InputError(
                f"{name} is a pattern to ROOT, and other files may match it: give the file, or its "
                "directory, a name without * and ["
            )


def samples(args: Sequence[Any]) -> tuple[Sample, ...]:
    """Return the samples of a dataset specification; none without.

    Raises
    ------
    GraphError
        Two of them have the same tree of the same file.
    """
    if not args or not isinstance(args[0], ROOT.RDF.Experimental.RDatasetSpec):
        return ()
    # ROOT hands samples out by moving them: out of a copy, as the user may use the specification again.
    found = ROOT.Internal.RDF.MoveOutSamples(ROOT.RDF.Experimental.RDatasetSpec(args[0]))
    owners: dict[tuple[str, str], int] = {}
    for number, sample in enumerate(found):
        for file, tree in zip(sample.GetFileNameGlobs(), sample.GetTreeNames(), strict=True):
            if owners.setdefault((str(file), str(tree)), number) != number:
                raise GraphError(
                    f"{file} with its tree {tree} is in two samples of the specification: ROOT would take "
                    "both for the first. Give the file to one of them"
                )
    return tuple(_sample(sample) for sample in found)


def _sample(sample: Any) -> Sample:
    metadata = str(ROOT.Internal.RDF.ExportJSON(sample.GetMetaData()))
    return Sample(str(sample.GetSampleName()), metadata, len(sample.GetFileNameGlobs()))


def reduced(samples: Sequence[Sample], kept: Sequence[bool]) -> Iterator[Sample]:
    """Yield samples without the files that are not kept."""
    rest = iter(kept)
    for sample in samples:
        yield replace(sample, n_files=sum(itertools.islice(rest, sample.n_files)))


def _friend_files(head: Any) -> Any:
    friends = getattr(head, "friendinfo", None)
    return () if friends is None else friends.fFriendFileNames


def friends(head: Any) -> list[str]:
    """Return the files of a head node's friends."""
    return [str(name) for names in _friend_files(head) for name in names]


def check(args: Sequence[Any]) -> dict[str, FileIdentity]:
    """Look at files among a constructor's arguments before ROOT opens any; return what identifies them.

    They are those of this machine, the first of the others, and many objects that their bucket lists as they
    were. Of a pattern it is checked that something matches.

    Raises
    ------
    InputError
        A file is missing, truncated or not a ROOT file; nothing matches a pattern.
    """
    unchanged = probes.unchanged(given(args))
    urls = [url for url in _checked(args) if url not in unchanged]
    return {**unchanged, **dict(zip(urls, probes.identify(urls), strict=True))}


def refuse_selections(args: Sequence[Any]) -> None:
    """Raise `GraphError` for entry lists, global ranges and indices of friends: ranges do without them."""
    for item in args:
        if isinstance(item, ROOT.TTree):
            indexed, friend = ROOT.Internal.TreeUtils.TreeUsesIndexedFriends(item)
            if indexed:
                raise GraphError(
                    f"the friend {friend} of {item.GetName()} has an index (TTreeIndex), by which ranges "
                    "cannot look up its entries: write what you need of both into one tree first, or join "
                    "with ROOT.RDataFrame on this machine"
                )
        if isinstance(item, ROOT.TTree) and (item.GetEntryList() or item.GetEventList()):
            raise GraphError(
                f"the entry list of {item.GetName()} cannot be used: ranges read all entries. Filter "
                "instead, for instance on a column that the list was made of"
            )
        if isinstance(item, ROOT.RDF.Experimental.RDatasetSpec) and _global_range(item) != (0, _ALL_ENTRIES):
            raise GraphError(
                "WithGlobalRange cannot be used: ranges read all entries. Name the files of those that "
                "you want, or Filter"
            )


def refuse_masks(frame: Any) -> None:
    """Raise `GraphError` for what a Snapshot with variations wrote: ROOT ignores its masks in ranges."""
    masks = [str(name) for name in frame.GetColumnNames() if str(name).startswith(_MASK)]
    if masks:
        raise GraphError(
            f"a Snapshot with fIncludeVariations wrote this data set ({masks[0]}): ranges would read values "
            "that are not valid. Read it with ROOT.RDataFrame, on this machine"
        )


def _global_range(spec: Any) -> tuple[int, int]:
    return int(spec.GetEntryRangeBegin()), int(spec.GetEntryRangeEnd())


def identities(head: Any) -> tuple[FileIdentity, ...]:
    """Return what identifies the content of a head node's files, those of friends last; see `look`."""
    look(head)
    return tuple(head.identities[url] for url in _urls(head))


def look(head: Any) -> None:
    """Look whether a head node's files are what they were when it was made.

    Remote files are looked at once, maybe ahead: whether they are still the same is checked where they are
    read. Those of this machine are looked at each time; but in a burst of calls, as `dask.compute` of many
    results makes, only as often as takes a small part of the time.

    Raises
    ------
    InputError
        A file cannot be read, or was replaced since the head node was made: the types of its columns may
        have changed.
    """
    began_s = time.monotonic()
    if began_s < getattr(head, "look_again_s", began_s):
        return
    ahead = head.ahead() if head.ahead is not None else {}
    head.ahead = None
    _look(_urls(head), head.identities, ahead)
    took_s = time.monotonic() - began_s
    head.look_again_s = began_s + took_s + min(_QUIET * took_s, _QUIET_S)


def _urls(head: Any) -> list[str]:
    return [] if isinstance(head, HeadNode.EmptySourceHeadNode) else [*head.inputfiles, *friends(head)]


def _look(
    urls: Sequence[str],
    known: dict[str, FileIdentity],
    ahead: Mapping[str, FileIdentity | BaseException],
) -> None:
    unknown = [url for url in urls if rootfile.local_path(url) is not None or url not in known]
    rest = [url for url in unknown if url not in ahead]
    answers = {**ahead, **dict(zip(rest, probes.look(rest), strict=True))}
    # What can be read need not be looked at again after an error.
    for url in sorted(unknown, key=lambda url: isinstance(answers[url], BaseException)):
        identity = answers[url]
        if isinstance(identity, BaseException):
            raise identity
        if known.setdefault(url, identity) != identity:
            raise InputError(
                f"{shown(url)} was replaced since the RDataFrame was made: make the RDataFrame again"
            )


def explain(args: Sequence[Any], error: BaseException) -> DaskRootLambdaError:
    """Say what is wrong with arguments that RDataFrame refused: mostly, a file or the name of the tree."""
    for url in given(args):
        for name in sorted(glob.glob(url)) if _is_pattern(url) else [url]:  # noqa: PTH207  (a string)
            try:
                storage.identify(name)
                with diagnostics.record():
                    file = ROOT.TFile.Open(name)
            except (InputError, OSError) as problem:
                return InputError(str(problem))
            keys = sorted({f"{key.GetName()} ({key.GetClassName()})" for key in file.GetListOfKeys()})
            if not file.Get(args[0]):
                return InputError(
                    f"{shown(name)} holds no {args[0]!r}: it has {', '.join(keys) or 'nothing'}"
                )
    return GraphError(
        "RDataFrame takes a tree's name with a file, a pattern, a list of files or an open TDirectory; a "
        f"TTree or TChain; an RDatasetSpec; or a number of entries. Given: {tuple(args)!r}; ROOT says: "
        f"{diagnostics.first_line(error)}"
    )


def given(args: Sequence[Any]) -> list[str]:
    """Return the names of files among a constructor's arguments, without ``?#`` and the tree's name."""
    if len(args) < 2 or not isinstance(args[0], str):
        return []
    given = [args[1]] if isinstance(args[1], str) else args[1]
    if not isinstance(given, list | tuple | ROOT.std.vector["std::string"]):
        return []
    return [absolute(str(name).partition("?#")[0]) for name in given]


def _is_pattern(name: str) -> bool:
    return rootfile.local_path(name) is not None and glob.has_magic(name)


def _checked(args: Sequence[Any]) -> Iterator[str]:
    far = False
    for name in given(args):
        if rootfile.local_path(name) is None:
            if not far and not glob.has_magic(name):
                yield name
            far = True
        elif not glob.has_magic(name):
            yield name
        elif not glob.glob(name):  # noqa: PTH207  (a string)
            raise InputError(f"no file matches {name}: check the directory and the pattern")
