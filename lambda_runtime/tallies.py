"""What ranges read, each with a tally of its own: several may read at once in one process.

Files on disks and XRootD servers are ROOT's: it tells a thread's `TVirtualPerfStats` of each read. Objects
are ours: who opens one takes the tally of the thread along, also to threads that fetch ahead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dask_root_lambda.protocol.traffic import LOCAL, Traffic, of_source
from lambda_runtime import traffic
from lambda_runtime.declaring import declared
from lambda_runtime.once import once

_CODE = r"""
#pragma cling optimize(0)
#include <TFile.h>
#include <TMemFile.h>
#include <TVirtualPerfStats.h>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace dask_root_lambda {

class Tally : public std::enable_shared_from_this<Tally> {
public:
   struct Line {
      unsigned long long fRequests = 0, fBytes = 0;
   };
   // A fetch that is under way.
   struct Use {
      Tally &fTally;
      Use(Tally &tally) : fTally(tally)
      {
         std::lock_guard<std::mutex> lock(fTally.fMutex);
         ++fTally.fUses;
      }
      ~Use()
      {
         std::lock_guard<std::mutex> lock(fTally.fMutex);
         --fTally.fUses;
         fTally.fUnused.notify_all();
      }
   };

   static std::shared_ptr<Tally> Current();
   void Add(const std::string &source, unsigned long long requests, unsigned long long bytes)
   {
      std::lock_guard<std::mutex> lock(fMutex);
      auto &line = fLines[source];
      line.fRequests += requests;
      line.fBytes += bytes;
   }
   bool Over()
   {
      std::lock_guard<std::mutex> lock(fMutex);
      return fOver;
   }
   // What is fetched ahead is not wanted any more; what came of it counts.
   void End()
   {
      std::unique_lock<std::mutex> lock(fMutex);
      fOver = true;
      fUnused.wait_for(lock, std::chrono::seconds(1), [this] { return fUses == 0; });
   }
   // A line for each source: text, which Python takes without compiling anything.
   std::string Lines(bool forget)
   {
      std::lock_guard<std::mutex> lock(fMutex);
      std::string lines;
      for (auto &[source, line] : fLines)
         lines += std::to_string(line.fRequests) + "\t" + std::to_string(line.fBytes) + "\t" + source + "\n";
      if (forget)
         fLines.clear();
      return lines;
   }

private:
   std::mutex fMutex;
   std::condition_variable fUnused;
   std::map<std::string, Line> fLines;
   int fUses = 0;
   bool fOver = false;
};

thread_local Tally *gOfThread = nullptr;
std::shared_ptr<Tally> gOfProcess = std::make_shared<Tally>();

std::shared_ptr<Tally> Tally::Current()
{
   return gOfThread ? gOfThread->shared_from_this() : gOfProcess;
}

std::string LinesOfProcess(bool forget)
{
   return gOfProcess->Lines(forget);
}

// In a child, what was read before was read by the parent.
void BeginTally()
{
   gOfThread = nullptr;
   gOfProcess = std::make_shared<Tally>();
}

// ROOT tells it what the thread reads of files on disks and XRootD servers.
class ReadWatch : public TVirtualPerfStats {
   Tally &fTally;

public:
   ReadWatch(Tally &tally) : fTally(tally) {}
   void FileReadEvent(TFile *file, Int_t size, Double_t) override
   {
      const std::string name = file->GetName();
      const auto scheme = name.find("://");
      if (file->IsWritable() || dynamic_cast<TMemFile *>(file))
         return;
      if (scheme == std::string::npos || name.compare(0, scheme, "file") == 0) {
         // ROOT's own dictionaries are files, too.
         if (name.size() < 4 || name.compare(name.size() - 4, 4, ".pcm"))
            fTally.Add("%s", 1, size);
         return;
      }
      const auto host = name.substr(scheme + 3, name.find('/', scheme + 3) - scheme - 3);
      fTally.Add(name.substr(0, scheme + 3) + host.substr(host.rfind('@') + 1), 1, size);
   }

   void SimpleEvent(EEventType) override {}
   void PacketEvent(const char *, const char *, const char *, Long64_t, Double_t, Double_t, Double_t,
                    Long64_t) override {}
   void FileEvent(const char *, const char *, const char *, const char *, Bool_t) override {}
   void FileOpenEvent(TFile *, const char *, Double_t) override {}
   void UnzipEvent(TObject *, Long64_t, Double_t, Int_t, Int_t) override {}
   void RateEvent(Double_t, Double_t, Long64_t, Long64_t) override {}
   void SetFile(TFile *) override {}
   void SetBytesRead(Long64_t) override {}
   Long64_t GetBytesRead() const override { return 0; }
   void SetNumEvents(Long64_t) override {}
   Long64_t GetNumEvents() const override { return 0; }
   void PrintBasketInfo(Option_t * = "") const override {}
   void SetLoaded(TBranch *, std::size_t) override {}
   void SetLoaded(std::size_t, std::size_t) override {}
   void SetLoadedMiss(TBranch *, std::size_t) override {}
   void SetLoadedMiss(std::size_t, std::size_t) override {}
   void SetMissed(TBranch *, std::size_t) override {}
   void SetMissed(std::size_t, std::size_t) override {}
   void SetUsed(TBranch *, std::size_t) override {}
   void SetUsed(std::size_t, std::size_t) override {}
   void UpdateBranchIndices(TObjArray *) override {}
};

// Counts what a thread reads from Begin to End.
class Count {
   std::shared_ptr<Tally> fTally = std::make_shared<Tally>();
   ReadWatch fWatch{*fTally};
   Tally *fTallyBefore = nullptr;
   TVirtualPerfStats *fStatsBefore = nullptr;

public:
   void Begin()
   {
      fTallyBefore = gOfThread;
      fStatsBefore = gPerfStats;
      gOfThread = fTally.get();
      gPerfStats = &fWatch;
   }
   void End()
   {
      gPerfStats = fStatsBefore;
      gOfThread = fTallyBefore;
      fTally->End();
   }
   std::string Lines() { return fTally->Lines(false); }
};

} // namespace dask_root_lambda
""".replace("%s", LOCAL)


@once
def declare() -> Any:
    """Declare the code; return its namespace."""
    namespace = declared(_CODE)
    # A thread that fetches ahead may need Python to end.
    namespace.Count.End.__release_gil__ = True
    traffic.include(lambda forget: _read(namespace.LinesOfProcess(forget)))
    os.register_at_fork(after_in_child=namespace.BeginTally)
    # PyROOT makes what it calls at the first call, and not in two threads at once.
    count = namespace.Count()
    count.Begin()
    count.End()
    _read(str(count.Lines()) + str(namespace.LinesOfProcess(False)))
    return namespace


@contextmanager
def counted(found: list[Traffic]) -> Iterator[None]:
    """Count what this thread reads in the block, and what is fetched for it.

    Parameters
    ----------
    found
        What was read is appended to it when the block ends, however it ends.
    """
    count = declare().Count()
    count.Begin()
    try:
        yield
    finally:
        count.End()
        found.extend(_read(count.Lines()))


def _read(lines: Any) -> list[Traffic]:
    fields = [line.split("\t", 2) for line in str(lines).splitlines()]
    return [of_source(source, gets=int(gets), bytes_read=int(n_bytes)) for gets, n_bytes, source in fields]
