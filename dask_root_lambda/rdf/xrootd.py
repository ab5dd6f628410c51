"""Looking at many files on XRootD servers side by side.

Threads of C++ look, and none of them is in Python: ROOT's own functions, called from threads of Python, hold
the interpreter's lock while a server takes its time. They compile nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ROOT

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from lambda_runtime import diagnostics, ending
from lambda_runtime.declaring import declared

# ROOT has to know of threads before the first of them starts.
ROOT.EnableThreadSafety()

AT_ONCE, ASKED_AT_ONCE = 64, 128
"""Files that are open at once, and about which a server is asked at once: each waits most of the time."""

_under_way: set[Any] = set()
"""Looks that threads are busy with."""

_CODE = r"""
#include <TFile.h>
#include <TNetXNGSystem.h>
#include <TString.h>
#include <TSystem.h>
#include <TTree.h>
#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace dask_root_lambda {

struct Glimpse {
   bool fDone = false;
   std::string fProblem;
   Long64_t fSize = -1;
   Long64_t fChanged = 0;
   Long64_t fEntries = -1;
   std::string fHead;
};

class Looks {
protected:
   std::vector<std::string> fUrls;
   std::vector<Glimpse> fSeen;
   std::atomic<std::size_t> fNext{0};
   std::atomic<bool> fStop{false};

   template <typename F>
   void Each(std::size_t atOnce, F look)
   {
      auto work = [&] {
         for (auto i = fNext++; i < fUrls.size() && !fStop; i = fNext++) {
            Begin(); // of keeping what this thread reports: see lambda_runtime/diagnostics.py
            const bool good = look(i, fSeen[i]);
            const TString said = End();
            fSeen[i].fDone = true;
            if (!good)
               fSeen[i].fProblem = said.Length() ? said.Data() : "ROOT does not say why";
         }
      };
      std::vector<std::thread> threads;
      for (std::size_t i = 0; i < std::min(atOnce, fUrls.size()); ++i)
         threads.emplace_back(work);
      for (auto &thread : threads)
         thread.join();
   }

public:
   Looks(const std::vector<std::string> &urls) : fUrls(urls), fSeen(urls.size()) {}
   void Stop() { fStop = true; }
   const Glimpse &Seen(std::size_t i) const { return fSeen[i]; }

   // A server that does not tell is no failure: the file may be read all the same.
   void AskSizes(std::size_t atOnce)
   {
      Each(atOnce, [&](std::size_t i, Glimpse &seen) {
         FileStat_t status;
         TNetXNGSystem system(fUrls[i].c_str());
         if (system.GetPathInfo(fUrls[i].c_str(), status) == 0) {
            seen.fSize = status.fSize;
            seen.fChanged = status.fMtime;
         }
         return true;
      });
   }

   // A raw file has no directory to read: one request opens it, and tells how long it is.
   void ReadHeads(std::size_t atOnce, Int_t length)
   {
      Each(atOnce, [&](std::size_t i, Glimpse &seen) {
         const auto &url = fUrls[i];
         const auto raw = url + (url.find('?') == std::string::npos ? "?" : "&") + "filetype=raw";
         std::unique_ptr<TFile> file{TFile::Open(raw.c_str())};
         if (!file)
            return false;
         seen.fSize = file->GetSize();
         seen.fHead.resize(std::min<Long64_t>(length, seen.fSize));
         return !file->ReadBuffer(seen.fHead.data(), 0, seen.fHead.size());
      });
   }

   void CountEntries(std::size_t atOnce, const std::vector<std::string> &trees)
   {
      Each(atOnce, [&](std::size_t i, Glimpse &seen) {
         std::unique_ptr<TFile> file{TFile::Open(fUrls[i].c_str())};
         auto *tree = file ? file->Get<TTree>(trees[i].c_str()) : nullptr;
         seen.fEntries = tree ? tree->GetEntries() : -1;
         return tree != nullptr;
      });
   }
};

} // namespace dask_root_lambda
"""

# Apart: it takes a second to compile, and is needed for RNTuples only.
_RNTUPLE_CODE = r"""
#include <ROOT/RNTupleReader.hxx>
#include <exception>

namespace dask_root_lambda {

class RNTupleLooks : public Looks {
public:
   using Looks::Looks;

   void CountEntries(std::size_t atOnce, const std::vector<std::string> &names)
   {
      Each(atOnce, [&](std::size_t i, Glimpse &seen) {
         try {
            seen.fEntries = ROOT::RNTupleReader::Open(names[i], fUrls[i])->GetNEntries();
         } catch (const std::exception &error) {
            Error("RNTupleReader::Open", "%s", error.what());
         }
         return seen.fEntries >= 0;
      });
   }
};

} // namespace dask_root_lambda
"""


@dataclass(frozen=True)
class State:
    """What a server tells of a file without opening it."""

    size: int
    """Length in bytes."""
    mtime_ns: int
    """Time of the last change, ns since the epoch, in whole seconds."""


@dataclass(frozen=True)
class Problem:
    """Why a file cannot be read."""

    text: str
    """What ROOT reported."""


def states(urls: Sequence[str]) -> list[State | None]:
    """Ask how long files are, and when they were last changed; None where the server does not tell."""
    looks = _looks(urls)
    with _stoppable(looks):
        looks.AskSizes(ASKED_AT_ONCE)
    seen = [looks.Seen(place) for place in range(len(urls))]
    return [
        State(int(each.fSize), int(each.fChanged) * 1_000_000_000) if each.fSize >= 0 else None
        for each in seen
    ]


def headers(urls: Sequence[str]) -> list[FileIdentity | InputError | Problem]:
    """Read what identifies the content of files, without when they were changed.

    In the place of one that is truncated, or is no ROOT file, is its error.
    """
    looks = _looks(urls)
    with _stoppable(looks):
        looks.ReadHeads(AT_ONCE, rootfile.HEADER_BYTES)
    return [_header(url, looks.Seen(place)) for place, url in enumerate(urls)]


def _looks(urls: Sequence[str], *, rntuples: bool = False) -> Any:
    with diagnostics.record():  # its code, which ours calls, is declared then
        looks = declared(_CODE).Looks
        if rntuples:
            looks = declared(_RNTUPLE_CODE).RNTupleLooks
    for name in ("AskSizes", "ReadHeads", "CountEntries"):
        getattr(looks, name).__release_gil__ = True
    return looks(list(urls))


@contextmanager
def _stoppable(looks: Any) -> Iterator[None]:
    """At the end of the process begin no more looks: those under way are waited for, or left."""
    with ending.at_work():
        _under_way.add(looks)
        try:
            yield
        finally:
            _under_way.discard(looks)


def _stop() -> None:
    for looks in list(_under_way):
        looks.Stop()


ending.on_end(_stop)


def _header(url: str, seen: Any) -> FileIdentity | InputError | Problem:
    if not seen.fDone:
        return Problem("the process ends")
    if str(seen.fProblem):
        return Problem(str(seen.fProblem))
    try:
        return rootfile.identify(url, bytes(seen.fHead), int(seen.fSize))
    except InputError as error:
        return error


def entries(urls: Sequence[str], trees: Sequence[str], *, rntuples: bool = False) -> list[int | Problem]:
    """Count the entries of a tree, or of an RNTuple, in each file, of this machine too."""
    looks = _looks(urls, rntuples=rntuples)
    # Where the interpreter's lock is let go, an argument must not be where PyROOT keeps those of all calls.
    named = ROOT.std.vector["std::string"](list(trees))
    with _stoppable(looks):
        looks.CountEntries(AT_ONCE, named)
    return [_entries(looks.Seen(place)) for place in range(len(urls))]


def _entries(seen: Any) -> int | Problem:
    if not seen.fDone:
        return Problem("the process ends")
    return Problem(str(seen.fProblem)) if str(seen.fProblem) else int(seen.fEntries)
