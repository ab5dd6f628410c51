"""What ranges read, each with a tally of its own: several may read at once in one process.

Files on disks and XRootD servers are ROOT's: it tells a thread's `TVirtualPerfStats` of each read. Objects
are ours: who opens one takes the tally of the thread along, also to threads that fetch ahead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dask_root_lambda.protocol.traffic import LOCAL, Traffic, of_source
from lambda_runtime import traffic
from lambda_runtime.declaring import declared
from lambda_runtime.once import once
from lambda_runtime.stopping import OnStop

_CODE = r"""
#pragma cling optimize(0)
#include <TFile.h>
#include <TMemFile.h>
#include <TVirtualPerfStats.h>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <unistd.h>

namespace dask_root_lambda {

// Each new environment compiles this before its first range: it has no maps and no other large templates.
void (*gSetQuiet)(bool) = nullptr;  // of event loops; see lambda_runtime/sharing.py

class Tally {
public:
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
      }
   };

   static std::shared_ptr<Tally> Current();
   ~Tally() { Forget(); }
   void Add(const std::string &source, unsigned long long requests, unsigned long long bytes)
   {
      std::lock_guard<std::mutex> lock(fMutex);
      auto line = fFirst;
      while (line && line->fSource != source)
         line = line->fNext;
      if (!line)
         line = fFirst = new Line{source, 0, 0, fFirst};
      line->fRequests += requests;
      line->fBytes += bytes;
   }
   bool Over()
   {
      std::lock_guard<std::mutex> lock(fMutex);
      return fOver;
   }
   // Nothing that is fetched is wanted any more.
   void Stop()
   {
      std::lock_guard<std::mutex> lock(fMutex);
      fStopped = true;
   }
   // From now on ROOT may not say that it could not read.
   bool Stopped()
   {
      std::lock_guard<std::mutex> lock(fMutex);
      if (fStopped && !fOver && !fQuiet && gSetQuiet)
         gSetQuiet(fQuiet = true);
      return fStopped;
   }
   // What is fetched ahead is not wanted any more; what comes of it within a second counts.
   void End()
   {
      for (int i = 0; i < 1000; ++i, usleep(1000)) {
         std::lock_guard<std::mutex> lock(fMutex);
         fOver = true;
         if (fQuiet)
            gSetQuiet(fQuiet = false);
         if (!fUses)
            return;
      }
   }
   // A line for each source: text, which Python takes without compiling anything.
   std::string Lines(bool forget)
   {
      std::lock_guard<std::mutex> lock(fMutex);
      std::string lines;
      for (auto line = fFirst; line; line = line->fNext) {
         char numbers[48];
         snprintf(numbers, sizeof(numbers), "%llu\t%llu\t", line->fRequests, line->fBytes);
         lines.append(numbers).append(line->fSource).append("\n");
      }
      if (forget)
         Forget();
      return lines;
   }

private:
   struct Line {
      std::string fSource;
      unsigned long long fRequests, fBytes;
      Line *fNext;
   };
   std::mutex fMutex;
   Line *fFirst = nullptr;
   int fUses = 0;
   bool fOver = false;
   bool fStopped = false;
   bool fQuiet = false;

   void Forget()
   {
      while (const auto line = fFirst) {
         fFirst = line->fNext;
         delete line;
      }
   }
};

std::shared_ptr<Tally> gOfProcess(new Tally);
thread_local std::shared_ptr<Tally> *gOfThread = nullptr;

std::shared_ptr<Tally> Tally::Current()
{
   return gOfThread ? *gOfThread : gOfProcess;
}

std::string LinesOfProcess(bool forget)
{
   return gOfProcess->Lines(forget);
}

// In a child, what was read before was read by the parent.
void BeginTally()
{
   gOfThread = nullptr;
   gOfProcess.reset(new Tally);
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

// Counts what the thread reads that makes it, until Ended.
struct Count {
   std::shared_ptr<Tally> fTally{new Tally};
   ReadWatch fWatch{*fTally};
   std::shared_ptr<Tally> *fTallyBefore = gOfThread;
   TVirtualPerfStats *fStatsBefore = gPerfStats;

   Count()
   {
      gOfThread = &fTally;
      gPerfStats = &fWatch;
   }
};

Count *Begun()
{
   return new Count;
}

// PyROOT compiles each function that it calls: so one does all that there is to do at the end.
std::string Ended(Count *count)
{
   gPerfStats = count->fStatsBefore;
   gOfThread = count->fTallyBefore;
   count->fTally->End();
   const auto lines = count->fTally->Lines(false);
   delete count;
   return lines;
}

} // namespace dask_root_lambda
""".replace("%s", LOCAL)


@once
def declare() -> Any:
    """Declare the code; return its namespace."""
    namespace = declared(_CODE)
    # A thread that fetches ahead may need Python to end.
    namespace.Ended.__release_gil__ = True
    traffic.include(lambda forget: _read(namespace.LinesOfProcess(forget)))
    os.register_at_fork(after_in_child=namespace.BeginTally)
    # PyROOT makes what it calls at the first call, and not in two threads at once.
    _read(str(namespace.Ended(namespace.Begun())) + str(namespace.LinesOfProcess(False)))
    return namespace


@contextmanager
def counted(found: list[Traffic]) -> Iterator[None]:
    """Count what this thread reads in the block, and what is fetched for it.

    Parameters
    ----------
    found
        What was read is appended to it when the block ends, however it ends.
    """
    namespace = declare()
    count = namespace.Begun()
    try:
        yield
    finally:
        found.extend(_read(namespace.Ended(count)))


@contextmanager
def stopping(on_stop: OnStop | None) -> Iterator[OnStop | None]:
    """Let what ends the work of this thread end what it reads of objects, too.

    Parameters
    ----------
    on_stop
        Takes what ends it; None where nobody will. What stands for it in the block is given.
    """
    if on_stop is None:
        yield None
        return
    tally = declare().Tally.Current()

    def register(end: Callable[[], None] | None) -> None:
        def stop() -> None:
            tally.Stop()
            if end is not None:
                end()

        on_stop(stop)

    register(None)
    try:
        yield register
    finally:
        on_stop(None)


def _read(lines: Any) -> list[Traffic]:
    fields = [line.split("\t", 2) for line in str(lines).splitlines()]
    return [of_source(source, gets=int(gets), bytes_read=int(n_bytes)) for gets, n_bytes, source in fields]
