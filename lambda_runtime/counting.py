"""Counting the entries that an event loop sees, whatever the graph does with them."""

from __future__ import annotations

from typing import Any

from lambda_runtime.declaring import declared

_CODE = r"""
#include <ROOT/RDF/InterfaceUtils.hxx>
#include <ROOT/RDF/RLoopManager.hxx>
#include <ROOT/RDataFrame.hxx>

namespace dask_root_lambda {

class Counter {
   struct Opened : ROOT::RDF::RNode {
      Opened(const ROOT::RDF::RNode &node) : ROOT::RDF::RNode(node) {}
      auto *Manager() { return GetLoopManager(); }
   };

public:
   // PyROOT reads a member without compiling anything.
   ULong64_t seen = 0;

   // ROOT forgets a callback at the end of the event loop. Count() takes a second to compile.
   void Watch(const ROOT::RDF::RNode &node)
   {
      seen = 0;
      Opened(node).Manager()->RegisterCallback(1, [this](unsigned int) { ++seen; });
   }
};

} // namespace dask_root_lambda
"""


def new_counter() -> Any:
    """Make a counter: it counts the entries of the next event loop of what it is told to ``Watch``.

    The node to watch is an ``RNode``; ``seen`` is the count.
    """
    return declared(_CODE).Counter()
