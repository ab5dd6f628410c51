"""RNTuples on XRootD servers: ROOT tells nobody what it reads of them, so we read through it, and count."""

from __future__ import annotations

from collections.abc import Iterable

import ROOT

from lambda_runtime import tallies
from lambda_runtime.declaring import declared
from lambda_runtime.once import once

_CODE = r"""
#pragma cling optimize(0)
#include <ROOT/RRawFileNetXNG.hxx>
#include <TPluginManager.h>
#include <TROOT.h>

namespace dask_root_lambda {

class CountedRawFile : public ROOT::Internal::RRawFile {
   std::unique_ptr<RRawFile> fFile;
   std::shared_ptr<Tally> fTally = Tally::Current();  // of the range that opens it
   std::string fSource;

   void Add(std::size_t size) { fTally->Add(fSource, 1, size); }

protected:
   void OpenImpl() override
   {
      fFile->GetSize();  // opens it
      if (fOptions.fBlockSize == ROptions::kUseDefaultBlockSize)
         fOptions.fBlockSize = 128 * 1024;  // as RRawFileNetXNG does
   }
   std::size_t ReadAtImpl(void *to, std::size_t size, std::uint64_t offset) override
   {
      const auto given = fFile->ReadAt(to, size, offset);
      Add(given);
      return given;
   }
   void ReadVImpl(RIOVec *parts, unsigned int n) override
   {
      fFile->ReadV(parts, n);
      std::size_t given = 0;
      for (unsigned int i = 0; i < n; ++i)
         given += parts[i].fOutBytes;
      Add(given);
   }
   std::uint64_t GetSizeImpl() override { return fFile->GetSize(); }

public:
   CountedRawFile(std::string_view url, ROptions options)
      : RRawFile(url, options), fFile(new ROOT::Internal::RRawFileNetXNG(url, options))
   {
      fFile->SetBuffering(false);  // this one buffers
      const auto host = fUrl.find("://") + 3;
      const auto named = fUrl.substr(host, fUrl.find('/', host) - host);
      fSource = fUrl.substr(0, host) + named.substr(named.rfind('@') + 1);
   }
   std::unique_ptr<RRawFile> Clone() const override
   {
      auto clone = std::make_unique<CountedRawFile>(fUrl, fOptions);
      clone->fTally = fTally;  // who clones it may be a thread of ROOT's
      return clone;
   }
   RIOVecLimits GetReadVLimits() override { return fFile->GetReadVLimits(); }
};

// Opens those files that are read in another way; returns nothing for others.
using OpenRaw = ROOT::Internal::RRawFile *(*)(std::string_view, ROOT::Internal::RRawFile::ROptions);
OpenRaw gOpenRaw = nullptr;

struct RawFiles {
   static ROOT::Internal::RRawFile *Open(std::string_view url, ROOT::Internal::RRawFile::ROptions options)
   {
      const auto other = gOpenRaw ? gOpenRaw(url, options) : nullptr;
      return other ? other : new CountedRawFile(url, options);
   }
};

void CountRawFiles()
{
   // The first that fits is asked: that which ROOT has is loaded now, and taken away.
   gPluginMgr->FindHandler("ROOT::Internal::RRawFile", "root://");
   gPluginMgr->RemoveHandler("ROOT::Internal::RRawFile", "^root[s]?:");
   gPluginMgr->AddHandler("ROOT::Internal::RRawFile", "^root[s]?:", "dask_root_lambda::RawFiles", "RIO",
                          "Open(std::string_view,ROOT::Internal::RRawFile::ROptions)");
}

} // namespace dask_root_lambda
"""


def prepare(urls: Iterable[str]) -> None:
    """Count what is read of RNTuples from now on, if some of these files are on XRootD servers."""
    if any(url.startswith(("root://", "roots://")) for url in urls):
        declare()


@once
def declare() -> None:
    """Declare the code, and count from now on."""
    tallies.declare()
    ROOT.gSystem.Load("libNetxNG")
    declared(_CODE).CountRawFiles()
