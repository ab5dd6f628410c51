"""The C++ code that reads what is kept of far files in the bucket, and keeps what of them was fetched."""

from __future__ import annotations

import ctypes
from typing import Any

import ROOT

from dask_root_lambda.protocol.errors import ConfigurationError
from lambda_runtime import ntuple_reads
from lambda_runtime.declaring import declared
from lambda_runtime.once import once
from lambda_runtime.remote import library as libraries
from lambda_runtime.remote.packs import CHUNK_BYTES

_CODE = r"""
#pragma cling optimize(0)
#include <TDirectory.h>
#include <TNetXNGFile.h>
#include <TUrl.h>
#include <TVirtualMutex.h>
#include <TVirtualPerfStats.h>

namespace dask_root_lambda {
namespace remote {

constexpr long long kChunk = CHUNK;
constexpr std::size_t kDigest = 32;
using Sha256 = unsigned char *(*)(const unsigned char *, std::size_t, unsigned char *);
Sha256 gSha256 = nullptr;

void UseDigest(std::intptr_t function)
{
   gSha256 = reinterpret_cast<Sha256>(function);
}

// Bytes that the range may still hold to keep them; there is one at a time in the process.
std::atomic<long long> gRoom{0};

void SetRoom(long long room)
{
   gRoom = room;
}

// A blob in the bucket: parts of a file, one behind the other, with a digest of each chunk of them.
struct Pack {
   Object fObject;
   long long fBegin = 0, fSize = 0;  // where the parts begin in it, and their bytes
   std::string fDigests;
   std::vector<long long> fExtents;  // of each part, where it begins in the file, and its bytes
   std::set<long long> fBad;  // chunks that do not have their digest
   bool fGood = true;         // whether it is where it was
};

// What was fetched, one part behind the other, with a line for each that says where it was.
struct Batch {
   std::string fLines, fData;
};

// What is kept of one file.
class Kept : public Nearby {
   struct Extent {
      long long fSize;
      int fPack;         // -1: fetched by this range
      long long fPlace;  // in the pack; or which of those that were fetched
   };
   struct Wanted {
      char *fTo;
      long long fOffset, fPlace, fSize;
   };
   std::mutex fMutex;  // of all that follows
   std::map<long long, Extent> fExtents;  // by offset in the file; none overlaps another
   std::vector<std::shared_ptr<Pack>> fPacks;
   std::vector<std::pair<long long, std::string>> fNew;
   std::size_t fGiven = 0;
   bool fDamaged = false;

   // The parts of an interval that no extent has.
   std::vector<std::pair<long long, long long>> Gaps(long long at, long long end)
   {
      std::vector<std::pair<long long, long long>> gaps;
      auto next = fExtents.upper_bound(at);
      if (next != fExtents.begin()) {
         const auto before = std::prev(next);
         at = std::max(at, before->first + before->second.fSize);
      }
      for (; at < end; ++next) {
         const auto stop = next == fExtents.end() ? end : std::min(end, next->first);
         if (stop > at)
            gaps.emplace_back(at, stop);
         if (next == fExtents.end())
            break;
         at = std::max(at, next->first + next->second.fSize);
      }
      return gaps;
   }

   struct Verdict {
      bool fReached = true;
      std::set<long long> fBad;
      bool IsGood() const { return fReached && fBad.empty(); }
   };

   // Reads whole chunks of a pack, each of which has to have its digest.
   static Verdict Verified(Pack &pack, Tally &tally, const std::vector<Wanted> &wanted,
                           const std::atomic<bool> *stop)
   {
      std::map<long long, std::string> chunks;
      for (const auto &each : wanted)
         for (auto i = each.fPlace / kChunk; i * kChunk < each.fPlace + each.fSize; ++i)
            chunks[i].resize(std::min(kChunk, pack.fSize - i * kChunk));
      std::vector<Part> parts;
      for (auto &[i, chunk] : chunks)
         parts.push_back({&chunk[0], pack.fBegin + i * kChunk, static_cast<long long>(chunk.size())});
      auto pieces = Planned(parts);
      Verdict verdict;
      if (!Fetch(pack.fObject, tally, pieces, kAtOnce, stop).fText.empty()) {
         verdict.fReached = false;
         return verdict;
      }
      for (const auto &[i, chunk] : chunks) {
         unsigned char digest[kDigest];
         gSha256(reinterpret_cast<const unsigned char *>(chunk.data()), chunk.size(), digest);
         if (std::memcmp(digest, pack.fDigests.data() + i * kDigest, kDigest))
            verdict.fBad.insert(i);
      }
      if (!verdict.IsGood())
         return verdict;
      for (const auto &each : wanted)
         for (auto at = each.fPlace; at < each.fPlace + each.fSize;) {
            const auto i = at / kChunk;
            const auto end = std::min((i + 1) * kChunk, each.fPlace + each.fSize);
            std::memcpy(each.fTo + (at - each.fPlace), chunks[i].data() + (at - i * kChunk), end - at);
            at = end;
         }
      return verdict;
   }

   void Enter(int number)
   {
      const auto &pack = *fPacks[number];
      long long place = 0;
      for (std::size_t i = 0; i + 1 < pack.fExtents.size(); i += 2) {
         const auto end = place + pack.fExtents[i + 1], shift = pack.fExtents[i] - place;
         while (place < end) {
            const auto bad = pack.fBad.lower_bound(place / kChunk);
            const auto good = bad == pack.fBad.end() ? end : std::min(end, *bad * kChunk);
            for (const auto &[at, stop] : Gaps(place + shift, good + shift))
               fExtents[at] = {stop - at, number, at - shift};
            place = good == end ? end : std::min(end, (*bad + 1) * kChunk);
         }
      }
   }

   // Some chunks of a pack, or all if it is out of reach, are not read any more: what they had may be in
   // others, or is fetched, and kept, anew.
   void Drop(int number, const Verdict &verdict)
   {
      std::lock_guard<std::mutex> lock(fMutex);
      for (auto each = fExtents.begin(); each != fExtents.end();)
         each = each->second.fPack == number ? fExtents.erase(each) : std::next(each);
      fPacks[number]->fBad.insert(verdict.fBad.begin(), verdict.fBad.end());
      fPacks[number]->fGood &= verdict.fReached;
      for (std::size_t i = 0; i < fPacks.size(); ++i)
         if (fPacks[i]->fGood)
            Enter(i);
      fDamaged = true;
   }

public:
   void AddPack(const std::string &url, const std::string &source, long long begin, long long size,
                const std::string &digests, const std::vector<long long> &extents)
   {
      auto pack = std::make_shared<Pack>();
      pack->fObject.fName = pack->fObject.fShown = "https://s3.invalid";
      pack->fObject.fSource = source;
      pack->fObject.fUrl = url;
      pack->fObject.fAttempts = 2;
      pack->fBegin = begin;
      pack->fSize = size;
      pack->fDigests = digests;
      std::lock_guard<std::mutex> lock(fMutex);
      pack->fExtents = extents;
      fPacks.push_back(pack);
      Enter(fPacks.size() - 1);
   }
   std::vector<Part> Take(Tally &tally, std::vector<Part> parts, const std::atomic<bool> *stop) override
   {
      std::vector<Part> far;
      std::map<int, std::vector<Wanted>> near;
      std::vector<std::shared_ptr<Pack>> packs;
      {
         std::lock_guard<std::mutex> lock(fMutex);
         packs = fPacks;
         for (const auto &part : parts) {
            auto at = part.fOffset;
            const auto end = at + part.fSize;
            auto next = fExtents.upper_bound(at);
            if (next != fExtents.begin() && std::prev(next)->first + std::prev(next)->second.fSize > at)
               --next;
            for (; at < end; ++next) {
               const auto from = next == fExtents.end() ? end : std::min(end, next->first);
               if (from > at)
                  far.push_back({part.fTo + (at - part.fOffset), at, from - at});
               at = std::max(at, from);
               if (at == end)
                  break;
               const auto &[first, extent] = *next;
               const auto size = std::min(end, first + extent.fSize) - at;
               const auto to = part.fTo + (at - part.fOffset);
               if (extent.fPack < 0)
                  std::memcpy(to, fNew[extent.fPlace].second.data() + (at - first), size);
               else
                  near[extent.fPack].push_back({to, at, extent.fPlace + at - first, size});
               at += size;
            }
         }
      }
      for (const auto &[number, wanted] : near) {
         const auto verdict = Verified(*packs[number], tally, wanted, stop);
         if (verdict.IsGood())
            continue;
         std::vector<Part> again;
         for (const auto &each : wanted)
            again.push_back({each.fTo, each.fOffset, each.fSize});
         if (!tally.Stopped() && !(stop && (*stop || tally.Over()))) {
            Drop(number, verdict);
            again = Take(tally, std::move(again), stop);
         }
         far.insert(far.end(), again.begin(), again.end());
      }
      return far;
   }
   void Add(const Part &part) override
   {
      std::lock_guard<std::mutex> lock(fMutex);
      for (const auto &[at, stop] : Gaps(part.fOffset, part.fOffset + part.fSize)) {
         if ((gRoom -= stop - at) < 0) {
            gRoom += stop - at;
            continue;
         }
         fExtents[at] = {stop - at, -1, static_cast<long long>(fNew.size())};
         fNew.emplace_back(at, std::string(part.fTo + (at - part.fOffset), stop - at));
      }
   }
   bool Damaged()
   {
      std::lock_guard<std::mutex> lock(fMutex);
      return fDamaged;
   }
   // The next parts that were fetched, of about so many bytes, which are let go; no lines: there are no more.
   Batch Next(long long most)
   {
      std::lock_guard<std::mutex> lock(fMutex);
      Batch batch;
      for (; fGiven < fNew.size(); ++fGiven) {
         auto &[at, data] = fNew[fGiven];
         if (!batch.fData.empty() && batch.fData.size() + data.size() > static_cast<std::size_t>(most))
            break;
         batch.fLines += std::to_string(at) + " " + std::to_string(data.size()) + "\n";
         batch.fData += data;
         fExtents.erase(at);
         std::string().swap(data);
      }
      return batch;
   }
};

std::shared_ptr<Kept> MakeKept()
{
   return std::make_shared<Kept>();
}

// Lets an object be read from nearby. What this process holds of it goes there as well.
void Keep(const std::string &name, std::shared_ptr<Kept> kept)
{
   const auto object = Find(name);
   if (!object)
      return;
   std::lock_guard<std::mutex> lock(object->fMutex);
   for (const auto &[first, block] : object->fBlocks)
      kept->Add({&(*block)[0], first, static_cast<long long>(block->size())});
   object->fNearby = kept;
}

// Reads a file on an XRootD server, which is opened when it is first read.
class Xrootd : public Server {
   std::mutex fMutex;
   std::string fUrl;
   std::unique_ptr<TFile> fFile;

   bool Open()
   {
      if (!fFile) {
         TDirectory::TContext where;
         const auto sign = fUrl.find('?') == std::string::npos ? "?" : "&";
         fFile.reset(TFile::Open((fUrl + sign + "filetype=raw").c_str(), "READ"));
         // It is ours to close, also when the process ends.
         R__LOCKGUARD(gROOTMutex);
         gROOT->GetListOfFiles()->Remove(fFile.get());
      }
      return fFile && !fFile->IsZombie();
   }

public:
   Xrootd(const std::string &url) : fUrl(url) {}
   Problem Fetch(Object &object, Tally &tally, std::vector<Piece> &pieces) override
   {
      std::lock_guard<std::mutex> lock(fMutex);
      Tally::Use use(tally);
      // It is counted here, in whatever thread.
      const auto stats = gPerfStats;
      gPerfStats = nullptr;
      Problem problem;
      if (!Open()) {
         problem = {"it cannot be opened", true};
      } else {
         std::vector<Long64_t> offsets;
         std::vector<Int_t> sizes;
         long long size = 0;
         for (const auto &piece : pieces) {
            offsets.push_back(piece.fOffset);
            sizes.push_back(piece.fEnd - piece.fOffset);
            size += sizes.back();
         }
         std::string buffer(size, 0);
         const bool failed = pieces.size() == 1
                                ? fFile->ReadBuffer(&buffer[0], offsets[0], sizes[0])
                                : fFile->ReadBuffers(&buffer[0], &offsets[0], &sizes[0], pieces.size());
         if (failed) {
            problem = {"the server does not send it", true};
         } else {
            tally.Add(object.fSource, 1, size);
            long long at = 0;
            for (std::size_t i = 0; i < pieces.size(); at += sizes[i++])
               pieces[i].Take(buffer.data() + at, sizes[i]);
         }
      }
      gPerfStats = stats;
      return problem;
   }
};

// What ROOT may call a file.
std::vector<std::string> NamesOf(const std::string &name)
{
   return {name, TUrl(name.c_str(), kTRUE).GetUrl()};
}

// Ends what `Keep` and `HoldXrootd` have begun.
void Leave(const std::string &name, bool isXrootd)
{
   for (const auto &each : NamesOf(name)) {
      Shared object;
      std::lock_guard<std::mutex> lock(gObjectsMutex);
      const auto found = gObjects.find(each);
      if (found == gObjects.end())
         continue;
      object = found->second;
      if (isXrootd)
         gObjects.erase(found);
      std::lock_guard<std::mutex> own(object->fMutex);
      object->fNearby = nullptr;
   }
}

// Lets ROOT open a file on an XRootD server as an object, until it is left.
void HoldXrootd(const std::string &name, const std::string &source, long long size)
{
   Leave(name, true);
   Hold(name, name, source, name, {}, "", size);
   std::lock_guard<std::mutex> lock(gObjectsMutex);
   const auto object = gObjects[name];
   object->fServer = std::make_shared<Xrootd>(name);
   for (const auto &each : NamesOf(name))
      gObjects[each] = object;
}

// What ROOT calls to open files on XRootD servers.
struct XrootdFile {
   static TFile *Open(const char *url, Option_t *option, const char *title, Int_t compress, Int_t net,
                      Bool_t parallel = kFALSE)
   {
      if (IsHeld(url))
         return new RemoteFile(url, option, title);
      return new TNetXNGFile(url, option, title, compress, net, parallel);
   }
};

// To be called before such a file is opened: what else reads ``roots://`` may have registered since.
void RegisterXrootd()
{
   gPluginMgr->FindHandler("TFile", "root://");
   for (auto pattern : {"^[x]?root:", "^roots:", "^xroots:"}) {
      gPluginMgr->RemoveHandler("TFile", pattern);
      gPluginMgr->AddHandler("TFile", pattern, "dask_root_lambda::remote::XrootdFile", "NetxNG",
                             "Open(const char*,Option_t*,const char*,Int_t,Int_t,Bool_t)");
   }
}

} // namespace remote
} // namespace dask_root_lambda
""".replace("CHUNK", str(CHUNK_BYTES))

_NTUPLES_CODE = r"""
#pragma cling optimize(0)

namespace dask_root_lambda {
namespace remote {

void ReadNTuples()
{
   gOpenRaw = [](std::string_view url, ROOT::Internal::RRawFile::ROptions options) {
      using Raw = ROOT::Internal::RRawFile;
      return IsHeld(std::string(url)) ? static_cast<Raw *>(new RemoteRawFile(url, options)) : nullptr;
   };
}

} // namespace remote
} // namespace dask_root_lambda
"""


@once
def code() -> Any:
    """Declare the code; return its namespace.

    Raises
    ------
    ConfigurationError
        libcurl or OpenSSL is missing.
    """
    libraries.library()
    ROOT.gSystem.Load("libNetxNG")
    namespace = declared(_CODE).remote
    namespace.UseDigest(_sha256())
    return namespace


@once
def prepare_ntuples() -> None:
    """Let RNTuples on XRootD servers be read from what is kept as well."""
    code()
    ntuple_reads.declare()
    declared(_NTUPLES_CODE).remote.ReadNTuples()


def _sha256() -> int:
    """Return the address of OpenSSL's SHA256, which is that of Python's hashlib, or of libcurl."""
    import _hashlib

    from pycurl import _pycurl

    for module in (_hashlib, _pycurl):
        found = getattr(ctypes.CDLL(getattr(module, "__file__", None)), "SHA256", None)
        if found is not None:
            return int(ctypes.cast(found, ctypes.c_void_p).value or 0)
    raise ConfigurationError("far data cannot be kept: neither Python nor libcurl has OpenSSL's SHA256")
