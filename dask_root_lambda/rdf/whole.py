"""What a graph names of the data set as a whole: it is found here, and learned only where it is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import ROOT
from ROOT._distrdf import HeadNode

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.protocol.task import DataFile
from dask_root_lambda.rdf import known, probes, xrootd
from dask_root_lambda.rdf.known import Known
from dask_root_lambda.rdf.xrootd import Problem
from lambda_runtime.datasets import rntuple_entries
from lambda_runtime.remote.names import shown

_ENTRY_NUMBER = re.compile(r"\b[rt]dfentry_\b")
_SLOT = re.compile(r"\b[rt]dfslot_\b")
_STATIC = re.compile(r"\bstatic\b(?!\s+(?:const|constexpr|thread_local|inline)\b)")
"""A variable that a function keeps between its calls, or a function that looks like one."""
_FEW_FILES = 16
"""Files that are opened at once to count their entries, where not all are needed."""
_OF_MISSING = ("DefaultValueFor", "FilterAvailable", "FilterMissing")
_NAME = re.compile(r"\brdfsampleinfo_(?!\s*\.\s*(?:Get\w+|Empty)\b)")
"""Sample information beyond what a specification says of its samples."""
_PART = re.compile(r"\brdfsampleinfo_(?!\s*\.\s*(?:Get\w+|Empty|AsString|Contains)\b)")
"""Sample information that may tell which part of a file is read."""

_FEW = 8
"""RNTuples for which nothing is compiled: each is opened in its turn."""
_Tree = tuple[str, str, FileIdentity]
"""URL, name of the tree, and what identifies the file."""
_counted: dict[_Tree, int] = {}
"""Entries of trees in files, as they were."""


def texts(arguments: Any) -> Iterator[str]:
    """Yield all strings among an operation's arguments, however they are nested."""
    if isinstance(arguments, str):
        yield arguments
    elif isinstance(arguments, Mapping):
        yield from texts(list(arguments.values()))
    elif isinstance(arguments, list | tuple):
        for item in arguments:
            yield from texts(item)
    elif isinstance(arguments, ROOT.std.string | ROOT.std.string_view):
        yield str(arguments)
    elif isinstance(arguments, ROOT.std.vector["std::string"]):
        yield from map(str, arguments)


def names_entries(nodes: Mapping[int, Any]) -> bool:
    """Tell whether a graph names the numbers of entries."""
    if any(node.operation is not None and node.operation.name == "Display" for node in nodes.values()):
        return True
    return any(_ENTRY_NUMBER.search(text) for text in _texts(nodes))


def names_missing(nodes: Mapping[int, Any]) -> bool:
    """Tell whether a graph names columns that some files lack: ROOT asks the first for their types."""
    return any(node.operation is not None and node.operation.name in _OF_MISSING for node in nodes.values())


def runs_alone(nodes: Mapping[int, Any], code: Iterable[str]) -> bool:
    """Tell whether ranges of a graph must not run at once in one process.

    Each has slot 0, so what the user keeps by slot is right for one at a time; so is what functions keep.
    """
    written = [*_texts(nodes), *code]
    return any(_SLOT.search(text) or _STATIC.search(text) for text in written)


def _texts(nodes: Mapping[int, Any]) -> Iterator[str]:
    for node in nodes.values():
        if node.operation is not None:
            yield from texts([node.operation.args, node.operation.kwargs])


def entries(head: Any, files: Sequence[DataFile]) -> tuple[int, ...]:
    """Return how many entries each of a head node's files has; those that are not known yet are opened."""
    _counted.update(_recalled([file for file in files if _key(file) not in _counted]))
    unknown = [file for file in files if _key(file) not in _counted]
    found = _entries(unknown, rntuples=isinstance(head, HeadNode.RNTupleHeadNode))
    counted = dict(zip(map(_key, unknown), found, strict=True))
    _remember(counted)
    _counted.update(counted)
    return tuple(_counted[_key(file)] for file in files)


def known_entries(head: Any) -> int | None:
    """Return how many entries a data set has; None where many files, or remote ones, had to be opened."""
    if isinstance(head, HeadNode.EmptySourceHeadNode):
        return int(head.nentries)
    trees = head.subnames if isinstance(head, HeadNode.RNTupleHeadNode) else head.subtreenames
    urls = [url for url in head.inputfiles if url in head.identities]
    if len(urls) < len(head.inputfiles):
        return None
    files = [DataFile(url, str(tree), head.identities[url]) for url, tree in zip(urls, trees, strict=True)]
    unknown = [file.url for file in files if _key(file) not in _counted]
    if len(unknown) > _FEW_FILES or any(rootfile.local_path(url) is None for url in unknown):
        return None
    return sum(entries(head, files))


def place(head: Any, files: Sequence[DataFile], wanted: int) -> Fraction | None:
    """Return where on the line of a data set its first entries end; None where there are not more.

    As many files are opened as have them.
    """
    before, n_looked = 0, 0
    while n_looked < len(files):
        looked = files[n_looked : n_looked + (_FEW_FILES if n_looked else 1)]
        for count in entries(head, looked):
            if before + count > wanted:
                return n_looked + Fraction(max(wanted - before, 1), count)
            before, n_looked = before + count, n_looked + 1
    return None


def _recalled(files: Sequence[DataFile]) -> dict[_Tree, int]:
    """Return the entries that an earlier process counted, of the content that the files have now."""
    remembered = known.recall(file.url for file in files)
    return {
        _key(file): found.entries[file.tree]
        for file in files
        if (found := remembered.get(file.url)) is not None
        and found.identity == file.identity
        and file.tree in found.entries
    }


def _remember(counted: Mapping[_Tree, int]) -> None:
    learned: dict[str, Known] = {}
    for (url, tree, identity), entries in counted.items():
        others = learned[url].entries if url in learned else {}
        learned[url] = Known(identity, {**others, tree: entries})
    known.remember(learned)


def _entries(files: Sequence[DataFile], *, rntuples: bool) -> list[int]:
    if rntuples and len(files) <= _FEW:
        return [rntuple_entries(file.tree, file.url) for file in files]
    if not files:
        return []
    urls, trees = [file.url for file in files], [file.tree for file in files]
    (found,) = probes.waited_for([partial(xrootd.entries, urls, trees, rntuples=rntuples)])
    for file, count in zip(files, found, strict=True):
        if isinstance(count, Problem):
            raise InputError(f"cannot read the tree {file.tree} of {shown(file.url)}: {count.text}")
    return [count for count in found if isinstance(count, int)]


def _key(file: DataFile) -> _Tree:
    return file.url, file.tree, file.identity


def informed(operation: Any, *, renamed: bool) -> Any:
    """Return the arguments of an operation, in which sample information is that of the whole data set.

    Parameters
    ----------
    operation
        DistRDF's operation.
    renamed
        Whether sources have other names in ranges than in local ROOT.
    """
    return [_informed(item, renamed=renamed) for item in operation.args]


def names_samples(nodes: Mapping[int, Any]) -> bool:
    """Tell whether a graph calls what `informed` writes."""
    return any(_CALL in text for text in _texts(nodes))


_CALL = "dask_root_lambda::OfTheWhole(rdfsampleinfo_)"


def _informed(expression: Any, *, renamed: bool) -> Any:
    pattern = _NAME if renamed else _PART
    if not isinstance(expression, str) or not pattern.search(expression):
        return expression
    body = expression if re.search(r"\breturn\b", expression) else f"return {expression}"
    return f"return [&](const ROOT::RDF::RSampleInfo &rdfsampleinfo_) {{ {body}\n; }}({_CALL});"
