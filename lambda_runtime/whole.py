"""What a range says of the whole data set: numbers of its entries, names and lengths of its files.

Where a graph names them, ROOT would give those of the range: entries from the first of its own files, the
part of a file that it reads, absolute names. So ``rdfentry_`` is defined anew at the head of the graph, as
ROOT's number and an offset that each range sets; and sample information is looked up by the thread that
runs the range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ROOT

from dask_root_lambda.protocol.errors import GraphError
from dask_root_lambda.protocol.task import Mapper
from lambda_runtime.declaring import declared

_CODE = r"""
#include <ROOT/RDF/InterfaceUtils.hxx>
#include <ROOT/RDF/RSampleInfo.hxx>
#include <ROOT/RDataFrame.hxx>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

namespace dask_root_lambda {

class Offset {
   std::shared_ptr<std::atomic<ULong64_t>> fEntries = std::make_shared<std::atomic<ULong64_t>>(0);

public:
   void Set(ULong64_t entries) { fEntries->store(entries); }
   ULong64_t operator()(unsigned int, ULong64_t entry) const
   {
      return entry + fEntries->load(std::memory_order_relaxed);
   }
};

ROOT::RDF::RNode CountedFrom(const Offset &offset, ROOT::RDF::RNode node)
{
   return node.RedefineSlotEntry("rdfentry_", offset);
}

struct Source {
   std::string fName;
   ULong64_t fEntries;
};

std::mutex gSourcesLock;
std::map<std::thread::id, std::map<std::string, Source>> gSources;

void Describe(const std::string &id, const std::string &name, ULong64_t entries)
{
   std::lock_guard<std::mutex> guard(gSourcesLock);
   gSources[std::this_thread::get_id()][id] = {name, entries};
}

void Forget()
{
   std::lock_guard<std::mutex> guard(gSourcesLock);
   gSources.erase(std::this_thread::get_id());
}

ROOT::RDF::RSampleInfo OfTheWhole(const ROOT::RDF::RSampleInfo &info)
{
   std::lock_guard<std::mutex> guard(gSourcesLock);
   const auto &sources = gSources[std::this_thread::get_id()];
   const auto found = sources.find(info.AsString());
   if (found == sources.end())
      return info;
   const ROOT::RDF::Experimental::RSample *sample = nullptr;
   try {
      // The only door to the sample: its name is its first member.
      sample = reinterpret_cast<const ROOT::RDF::Experimental::RSample *>(&info.GetSampleName());
   } catch (const std::logic_error &) {
      // A tree without a specification has none.
   }
   const auto &[name, entries] = found->second;
   return {name, {0, entries}, sample, entries};
}

} // namespace dask_root_lambda
"""


def new_offset() -> Any:
    """Make an offset of entry numbers; its ``Set()`` holds for the next event loop behind it."""
    return declared(_CODE).Offset()


def counted_from(offset: Any, frame: Any) -> Any:
    """Return a node of ``frame`` whose ``rdfentry_`` is counted from ``offset``."""
    return declared(_CODE).CountedFrom(offset, ROOT.RDF.AsRNode(frame))


def declare() -> None:
    """Declare what expressions that name sample information call."""
    if ROOT.IsImplicitMTEnabled():
        raise GraphError(
            "rdfsampleinfo_ cannot be used where implicit multi-threading is on, as it is where the range "
            "runs: call ROOT.DisableImplicitMT()"
        )
    declared(_CODE)


def entries_before(mapper: Mapper, data_range: Any) -> int:
    """Return how many entries of the data set come before the first file of a range."""
    return sum(mapper.entries[: data_range.first_file]) if mapper.files else 0


def sources(mapper: Mapper, data_range: Any, entries: Mapping[str, int]) -> dict[str, tuple[str, int]]:
    """Return what `described` takes, where the graph of a range names sample information.

    Parameters
    ----------
    mapper
        The mapper.
    data_range
        The range.
    entries
        Entries of the range's own trees, by ``file/tree``.
    """
    if not mapper.names:
        return {}
    if not mapper.files:
        part = f"Empty source, range: {{{data_range.start}, {data_range.end}}}"
        return {part: (mapper.names[0], mapper.entries[0])}
    found = {}
    for place in range(data_range.first_file_idx, data_range.last_file_idx):
        url, tree = data_range.filenames[place], data_range.treenames[place]
        # ROOT puts one slash between them, also where the tree is in a directory.
        in_file = tree.lstrip("/")
        name = f"{mapper.names[data_range.first_file + place]}/{in_file}"
        found[f"{url}/{in_file}"] = name, entries[f"{url}/{tree}"]
    return found


@contextmanager
def described(sources: Mapping[str, tuple[str, int]]) -> Iterator[None]:
    """Describe the sources of the range that this thread runs in the block.

    Parameters
    ----------
    sources
        By how ROOT names the source in the range: its name in the whole data set, and its entries.
    """
    if not sources:
        yield
        return
    namespace = declared(_CODE)
    for identity, (name, entries) in sources.items():
        namespace.Describe(identity, name, entries)
    try:
        yield
    finally:
        namespace.Forget()
