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

# What asks for states is compiled at each start: nothing is with it, and nothing in it takes long to compile.
_CODE = r"""
#include <TNetXNGSystem.h>
#include <TString.h>
#include <TSystem.h>
#include <algorithm>
#include <atomic>
#include <pthread.h>
#include <string>
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
   std::atomic<std::size_t> fNext{0};
   std::atomic<bool> fStop{false};

   static void *Work(void *looks)
   {
      static_cast<Looks *>(looks)->Work();
      return nullptr;
   }

   void Work()
   {
      for (auto i = fNext++; i < fUrls.size() && !fStop; i = fNext++) {
         Begin(); // of keeping what this thread reports: see lambda_runtime/diagnostics.py
         const bool good = Look(i, fSeen[i]);
         const TString said = End();
         fSeen[i].fDone = true;
         if (!good)
            fSeen[i].fProblem = said.Length() ? said.Data() : "ROOT does not say why";
      }
   }

protected:
   std::vector<std::string> fUrls;
   std::vector<Glimpse> fSeen;

   virtual bool Look(std::size_t i, Glimpse &seen) = 0;

public:
   Looks(const std::vector<std::string> &urls) : fUrls(urls), fSeen(urls.size()) {}
   virtual ~Looks() {}

   void Run(std::size_t atOnce)
   {
      std::vector<pthread_t> threads;
      for (pthread_t thread; threads.size() < std::min(atOnce, fUrls.size());) {
         if (pthread_create(&thread, nullptr, Work, this))
            break; // a container may allow few
         threads.push_back(thread);
      }
      if (threads.empty())
         Work();
      for (auto thread : threads)
         pthread_join(thread, nullptr);
   }

   void Stop() { fStop = true; }
   const Glimpse &Seen(std::size_t i) const { return fSeen[i]; }
};

// Where a server does not tell, nothing has failed: the file may still be readable.
class StateLooks : public Looks {
   bool Look(std::size_t i, Glimpse &seen) override
   {
      FileStat_t status;
      TNetXNGSystem system(fUrls[i].c_str());
      if (system.GetPathInfo(fUrls[i].c_str(), status) == 0) {
         seen.fSize = status.fSize;
         seen.fChanged = status.fMtime;
      }
      return true;
   }

public:
   using Looks::Looks;
};

} // namespace dask_root_lambda
"""

_HEADERS_CODE = r"""
#include <TFile.h>
#include <memory>

namespace dask_root_lambda {

// A raw file has no directory to read: one request opens it, and tells how long it is.
class HeaderLooks : public Looks {
   Int_t fLength;

   bool Look(std::size_t i, Glimpse &seen) override
   {
      const auto &url = fUrls[i];
      const auto raw = url + (url.find('?') == std::string::npos ? "?" : "&") + "filetype=raw";
      std::unique_ptr<TFile> file{TFile::Open(raw.c_str())};
      if (!file)
         return false;
      seen.fSize = file->GetSize();
      seen.fHead.resize(std::min<Long64_t>(fLength, seen.fSize));
      return !file->ReadBuffer(seen.fHead.data(), 0, seen.fHead.size());
   }

public:
   HeaderLooks(const std::vector<std::string> &urls, Int_t length) : Looks(urls), fLength(length) {}
};

} // namespace dask_root_lambda
"""

_TREES_CODE = r"""
#include <TFile.h>
#include <TTree.h>
#include <memory>

namespace dask_root_lambda {

class TreeLooks : public Looks {
   std::vector<std::string> fTrees;

   bool Look(std::size_t i, Glimpse &seen) override
   {
      std::unique_ptr<TFile> file{TFile::Open(fUrls[i].c_str())};
      auto *tree = file ? file->Get<TTree>(fTrees[i].c_str()) : nullptr;
      seen.fEntries = tree ? tree->GetEntries() : -1;
      return tree != nullptr;
   }

public:
   TreeLooks(const std::vector<std::string> &urls, const std::vector<std::string> &trees)
      : Looks(urls), fTrees(trees) {}
};

} // namespace dask_root_lambda
"""

_RNTUPLES_CODE = r"""
#include <ROOT/RNTupleReader.hxx>
#include <exception>

namespace dask_root_lambda {

class RNTupleLooks : public Looks {
   std::vector<std::string> fNames;

   bool Look(std::size_t i, Glimpse &seen) override
   {
      try {
         seen.fEntries = ROOT::RNTupleReader::Open(fNames[i], fUrls[i])->GetNEntries();
      } catch (const std::exception &error) {
         Error("RNTupleReader::Open", "%s", error.what());
      }
      return seen.fEntries >= 0;
   }

public:
   RNTupleLooks(const std::vector<std::string> &urls, const std::vector<std::string> &names)
      : Looks(urls), fNames(names) {}
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
    return [
        State(int(seen.fSize), int(seen.fChanged) * 1_000_000_000) if seen.fSize >= 0 else None
        for seen in _seen(_CODE, "StateLooks", ASKED_AT_ONCE, urls)
    ]


def headers(urls: Sequence[str]) -> list[FileIdentity | InputError | Problem]:
    """Read what identifies the content of files, without when they were changed.

    In the place of one that is truncated, or is no ROOT file, is its error.
    """
    seen = _seen(_HEADERS_CODE, "HeaderLooks", AT_ONCE, urls, rootfile.HEADER_BYTES)
    return [_header(url, each) for url, each in zip(urls, seen, strict=True)]


def _seen(code: str, name: str, at_once: int, urls: Sequence[str], *more: Any) -> Iterator[Any]:
    """Look at files, with a class of this code; yield what was seen of each."""
    with diagnostics.record():  # its code, which ours calls, is declared then
        declared(_CODE).Looks.Run.__release_gil__ = True
        looks = getattr(declared(code), name)(list(urls), *more)
    with _stoppable(looks):
        looks.Run(at_once)
    for place in range(len(urls)):
        yield looks.Seen(place)


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
    code, name = (_RNTUPLES_CODE, "RNTupleLooks") if rntuples else (_TREES_CODE, "TreeLooks")
    return [_entries(seen) for seen in _seen(code, name, AT_ONCE, urls, list(trees))]


def _entries(seen: Any) -> int | Problem:
    if not seen.fDone:
        return Problem("the process ends")
    return Problem(str(seen.fProblem)) if str(seen.fProblem) else int(seen.fEntries)
