"""What a graph names of the data set as a whole: it is found here, and learned only where it is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import ROOT
from ROOT._distrdf import HeadNode

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.protocol.task import DataFile
from lambda_runtime import diagnostics
from lambda_runtime.datasets import rntuple_entries
from lambda_runtime.declaring import declared

_ENTRY_NUMBER = re.compile(r"\b[rt]dfentry_\b")
_SLOT = re.compile(r"\b[rt]dfslot_\b")
_STATIC = re.compile(r"\bstatic\b(?!\s+(?:const|constexpr|thread_local|inline)\b)")
"""A variable that a function keeps between its calls, or a function that looks like one."""
_OF_MISSING = ("DefaultValueFor", "FilterAvailable", "FilterMissing")
_NAME = re.compile(r"\brdfsampleinfo_(?!\s*\.\s*(?:Get\w+|Empty)\b)")
"""Sample information beyond what a specification says of its samples."""
_PART = re.compile(r"\brdfsampleinfo_(?!\s*\.\s*(?:Get\w+|Empty|AsString|Contains)\b)")
"""Sample information that may tell which part of a file is read."""

_PROBES = 16
"""Files that are opened at once."""

# In C++: ROOT's own function opens a file while it holds the GIL, or, told not to, mixes up its results.
_CODE = r"""
#include <TFile.h>
#include <TTree.h>
#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace dask_root_lambda {

Long64_t CountEntries(const std::string &url, const std::string &tree)
{
   std::unique_ptr<TFile> file{TFile::Open(url.c_str())};
   auto *found = file ? file->Get<TTree>(tree.c_str()) : nullptr;
   return found ? found->GetEntries() : -1;
}

// Of a tree that cannot be read: -1.
std::vector<Long64_t>
CountAll(const std::vector<std::string> &urls, const std::vector<std::string> &trees, std::size_t atOnce)
{
   std::vector<Long64_t> entries(urls.size());
   std::atomic<std::size_t> next{0};
   auto count = [&] {
      for (auto i = next++; i < urls.size(); i = next++)
         entries[i] = CountEntries(urls[i], trees[i]);
   };
   std::vector<std::thread> counting;
   for (std::size_t i = 0; i < std::min(atOnce, urls.size()); ++i)
      counting.emplace_back(count);
   for (auto &each : counting)
      each.join();
   return entries;
}

} // namespace dask_root_lambda
"""
_counted: dict[tuple[str, str, FileIdentity], int] = {}
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
    unknown = [file for file in files if _key(file) not in _counted]
    count = _rntuple_entries if isinstance(head, HeadNode.RNTupleHeadNode) else _tree_entries
    _counted.update(zip(map(_key, unknown), count(unknown), strict=True))
    return tuple(_counted[_key(file)] for file in files)


def known_entries(head: Any) -> int | None:
    """Return how many entries a data set has; None where many files, or remote ones, had to be opened."""
    if isinstance(head, HeadNode.EmptySourceHeadNode):
        return int(head.nentries)
    trees = head.subnames if isinstance(head, HeadNode.RNTupleHeadNode) else head.subtreenames
    known = [url for url in head.inputfiles if url in head.identities]
    if len(known) < len(head.inputfiles):
        return None
    files = [DataFile(url, str(tree), head.identities[url]) for url, tree in zip(known, trees, strict=True)]
    unknown = [file.url for file in files if _key(file) not in _counted]
    if len(unknown) > _PROBES or any(rootfile.local_path(url) is None for url in unknown):
        return None
    return sum(entries(head, files))


def place(head: Any, files: Sequence[DataFile], wanted: int) -> Fraction | None:
    """Return where on the line of a data set its first entries end; None where there are not more.

    As many files are opened as have them.
    """
    before, n_looked = 0, 0
    while n_looked < len(files):
        looked = files[n_looked : n_looked + (_PROBES if n_looked else 1)]
        for count in entries(head, looked):
            if before + count > wanted:
                return n_looked + Fraction(max(wanted - before, 1), count)
            before, n_looked = before + count, n_looked + 1
    return None


def _tree_entries(files: Sequence[DataFile]) -> list[int]:
    if not files:
        return []
    count = declared(_CODE).CountAll
    count.__release_gil__ = True
    with diagnostics.record() as reported:
        found = list(count([file.url for file in files], [file.tree for file in files], _PROBES))
    if -1 in found:
        failed = files[found.index(-1)]
        raise InputError(f"cannot read the tree {failed.tree} of {failed.url}: {reported.text}")
    return found


def _rntuple_entries(files: Sequence[DataFile]) -> list[int]:
    return [rntuple_entries(file.tree, file.url) for file in files]


def _key(file: DataFile) -> tuple[str, str, FileIdentity]:
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
