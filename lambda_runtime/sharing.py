"""What a range needs in a process that it shares with others: a way to end it, and its turn to compile.

A process of one's own can be killed; a range that runs in the user's process cannot. So there, the graph
begins with a filter that passes every entry until its switch is thrown.
"""

from __future__ import annotations

from typing import Any

import ROOT

from lambda_runtime import tallies
from lambda_runtime.declaring import declared
from lambda_runtime.once import once

_ENDED = "the event loop was ended on request"

_CODE = r"""
#include <ROOT/RDF/InterfaceUtils.hxx>
#include <ROOT/RDataFrame.hxx>
#include <atomic>
#include <iostream>
#include <memory>
#include <stdexcept>

namespace dask_root_lambda {

// Event loops that are ending on request: each would say on std::cerr that it was interrupted.
std::atomic<int> gEnding{0};

void SetQuiet(bool quiet)
{
   if (quiet) {
      ++gEnding;
      std::cerr.setstate(std::ios_base::failbit);
   } else if (--gEnding == 0) {
      std::cerr.clear();
   }
}

// Event loops end as well where what they read is stopped.
void Connect() { gSetQuiet = SetQuiet; }

class Switch {
   struct State {
      std::atomic<bool> fThrown{false};
      std::atomic<bool> fEnding{false};
   };
   std::shared_ptr<State> fState = std::make_shared<State>();

public:
   void Throw() { fState->fThrown.store(true); }
   void Reset() { fState->fThrown.store(false); }
   void Over()
   {
      if (fState->fEnding.exchange(false))
         SetQuiet(false);
   }
   bool operator()() const
   {
      if (!fState->fThrown.load(std::memory_order_relaxed))
         return true;
      if (!fState->fEnding.exchange(true))
         SetQuiet(true);
      throw std::runtime_error("%s");
   }
};

ROOT::RDF::RNode BehindSwitch(ROOT::RDF::RNode node, const Switch &check) { return node.Filter(check, {}); }

class Compiler : ROOT::RDF::RNode {
public:
   Compiler(const ROOT::RDF::RNode &node) : ROOT::RDF::RNode(node) {}
   void Compile() { GetLoopManager()->Jit(); }
};

} // namespace dask_root_lambda
""".replace("%s", _ENDED)


def new_switch() -> Any:
    """Make a switch; its ``Throw()`` ends the event loops behind it, at their next entry."""
    return _namespace().Switch()


@once
def _namespace() -> Any:
    tallies.declare()
    namespace = declared(_CODE)
    namespace.Connect()
    return namespace


def behind(switch: Any, frame: Any) -> Any:
    """Return a node of ``frame`` whose entries pass through ``switch``."""
    return _namespace().BehindSwitch(ROOT.RDF.AsRNode(frame), switch)


def was_ended(error: Exception) -> bool:
    """Tell whether an event loop raised because its switch was thrown."""
    return _ENDED in str(error)


def compile_graph(frame: Any) -> None:
    """Compile all that is booked on ``frame``, without running it.

    ROOT keeps the code of all graphs that are not compiled yet in one place, and the next event loop takes
    all of it: two threads that start new graphs at once find their code taken, not yet compiled, and fail
    with ``unordered_map::at``. (``RunGraphs`` compiles all graphs before it starts threads, too.)
    """
    compiler = _namespace().Compiler
    # Compiling takes seconds, in which the user's thread goes on, and hears of Ctrl-C.
    compiler.Compile.__release_gil__ = True
    compiler(ROOT.RDF.AsRNode(frame)).Compile()
