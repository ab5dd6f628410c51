"""The C++ code by which ROOT opens objects: a TFile for trees, an RRawFile for RNTuples."""

CODE = r"""
#pragma cling optimize(0)  // of what waits for the network; compiling it takes a third less time
#include <ROOT/RRawFile.hxx>
#include <TFile.h>
#include <TPluginManager.h>
#include <TBranch.h>
#include <TROOT.h>
#include <TTree.h>
#include <TTreeCache.h>

namespace dask_root_lambda {
namespace remote {

constexpr long long kTail = 65536;        // what is read of the end of a file, where its directory is
constexpr long long kAhead = 32768;       // what a small read brings along
constexpr long long kMaxBlocks = 32 << 20;
constexpr long long kMaxGap = 262144;
constexpr long long kMaxAhead = 64 << 20;
constexpr long long kEnoughAhead = 4 << 20;  // what a link of 75 MB/s brings in 0.06 s
constexpr std::size_t kAtOnce = 16;
constexpr std::size_t kMaxAlone = 1000;

std::mutex gObjectsMutex;
std::map<std::string, Shared> gObjects;
std::atomic<long long> gHeld{0};          // bytes in blocks

struct Failed {
   unsigned long long fNumber;
   std::string fName, fText;
   bool fPasses;
};
std::vector<Failed> gFailed;  // the last ones
unsigned long long gFailures = 0;
constexpr std::size_t kMaxFailed = 1000;

void Tell(const std::string &name, const std::string &text, bool passes)
{
   std::lock_guard<std::mutex> lock(gObjectsMutex);
   if (gFailed.size() == kMaxFailed)
      gFailed.erase(gFailed.begin());
   gFailed.push_back({++gFailures, name, text, passes});
}

// Tells why an object cannot be opened, in words for the user.
void Refuse(const std::string &name, const std::string &text, bool passes)
{
   Tell(name, text, passes);
   ::Error("TFile::RemoteFile", "%s", text.c_str());
}

unsigned long long Failures()
{
   std::lock_guard<std::mutex> lock(gObjectsMutex);
   return gFailures;
}

// The first reading that failed since so many had.
Failed FailedSince(unsigned long long number, const std::vector<std::string> &names)
{
   std::lock_guard<std::mutex> lock(gObjectsMutex);
   for (auto &each : gFailed)
      if (each.fNumber > number && std::find(names.begin(), names.end(), each.fName) != names.end())
         return each;
   return {0, "", "", false};
}

void Hold(const std::string &name, const std::string &shown, const std::string &source,
          const std::string &url, const std::vector<std::string> &headers, const std::string &tag,
          long long size)
{
   std::lock_guard<std::mutex> lock(gObjectsMutex);
   auto &held = gObjects[name];
   if (held && held->fTag == tag && held->fSize == size) {
      std::lock_guard<std::mutex> own(held->fMutex);
      held->fUrl = url;
      held->fHeaders = headers;
      return;
   }
   held = std::make_shared<Object>();
   held->fName = name;
   held->fShown = shown;
   held->fSource = source;
   held->fUrl = url;
   held->fHeaders = headers;
   held->fTag = tag;
   held->fSize = size;
}

void Renew(const std::string &name, const std::string &url, const std::vector<std::string> &headers)
{
   std::lock_guard<std::mutex> lock(gObjectsMutex);
   const auto found = gObjects.find(name);
   if (found == gObjects.end())
      return;
   std::lock_guard<std::mutex> own(found->second->fMutex);
   found->second->fUrl = url;
   found->second->fHeaders = headers;
}

bool Holds(const std::string &name, const std::string &tag, long long size)
{
   std::lock_guard<std::mutex> lock(gObjectsMutex);
   const auto found = gObjects.find(name);
   return found != gObjects.end() && found->second->fTag == tag && found->second->fSize == size;
}

bool IsHeld(const std::string &name)
{
   std::lock_guard<std::mutex> lock(gObjectsMutex);
   return gObjects.count(name);
}

Callback gResolve = nullptr;

// Python's functions, by their addresses.
void Call(std::intptr_t resolve, std::intptr_t renew)
{
   gResolve = reinterpret_cast<Callback>(resolve);
   gRenew = reinterpret_cast<Callback>(renew);
}

Shared Find(const std::string &name)
{
   for (int looked = 0; looked < 2; ++looked) {
      {
         std::lock_guard<std::mutex> lock(gObjectsMutex);
         const auto found = gObjects.find(name);
         if (found != gObjects.end())
            return found->second;
      }
      if (!looked && gResolve)
         gResolve(name.c_str());
   }
   return nullptr;
}

bool FromBlocks(Object &object, char *to, long long offset, long long size)
{
   std::lock_guard<std::mutex> lock(object.fMutex);
   auto next = object.fBlocks.upper_bound(offset);
   if (next == object.fBlocks.begin())
      return false;
   const auto &[first, block] = *--next;
   if (first + static_cast<long long>(block->size()) < offset + size)
      return false;
   std::memcpy(to, block->data() + (offset - first), size);
   return true;
}

void KeepBlock(Object &object, long long offset, std::shared_ptr<std::string> block)
{
   // Of too many objects, what was kept of the first has to be read again.
   if (gHeld + static_cast<long long>(block->size()) > kMaxBlocks) {
      std::lock_guard<std::mutex> lock(gObjectsMutex);
      for (auto &[name, each] : gObjects) {
         std::lock_guard<std::mutex> own(each->fMutex);
         each->fBlocks.clear();
      }
      gHeld = 0;
   }
   std::lock_guard<std::mutex> lock(object.fMutex);
   gHeld += block->size();
   object.fBlocks[offset] = std::move(block);
}

// Tells of a reading that failed; not where its range was stopped: others may read the object.
bool Report(Object &object, Tally &tally, const Problem &problem)
{
   if (problem.fText.empty())
      return true;
   if (tally.Stopped())
      return false;
   Tell(object.fName, problem.fText, problem.fPasses);
   ::Error("TFile::RemoteRead", "cannot read %s: %s", object.fShown.c_str(), problem.fText.c_str());
   return false;
}

// Keeps the first bytes of an object, which were fetched to look at it.
void KeepHead(const std::string &name, const std::string &content)
{
   if (auto object = Find(name))
      KeepBlock(*object, 0, std::make_shared<std::string>(content));
}

// Makes requests of parts: near ones together, but no more than a twentieth is read in vain.
std::vector<Piece> Planned(std::vector<Part> parts)
{
   std::sort(parts.begin(), parts.end(), [](const Part &a, const Part &b) { return a.fOffset < b.fOffset; });
   long long wanted = 0;
   std::vector<long long> gaps;
   for (std::size_t i = 0; i < parts.size(); ++i) {
      wanted += parts[i].fSize;
      const auto gap = i ? parts[i].fOffset - parts[i - 1].fOffset - parts[i - 1].fSize : 0;
      if (gap > 0 && gap <= kMaxGap)
         gaps.push_back(gap);
   }
   std::sort(gaps.begin(), gaps.end());
   long long largest = 0, spent = 0;
   for (auto gap : gaps) {
      if ((spent += gap) > wanted / 20)
         break;
      largest = gap;
   }
   std::vector<Piece> pieces;
   for (const auto &part : parts) {
      if (pieces.empty() || part.fOffset - pieces.back().fEnd > largest) {
         pieces.emplace_back();
         pieces.back().fOffset = pieces.back().fEnd = part.fOffset;
      }
      pieces.back().fParts.push_back(part);
      pieces.back().fEnd = std::max(pieces.back().fEnd, part.fOffset + part.fSize);
   }
   return pieces;
}

// Reads parts: what is kept nearby from there, the rest from where the object is.
Problem Read(Object &object, Tally &tally, std::vector<Part> parts, const std::atomic<bool> *stop = nullptr)
{
   std::shared_ptr<Nearby> nearby;
   {
      std::lock_guard<std::mutex> lock(object.fMutex);
      nearby = object.fNearby;
   }
   if (nearby)
      parts = nearby->Take(tally, std::move(parts), stop);
   if (parts.empty())
      return {};
   auto pieces = Planned(parts);
   auto problem = Fetch(object, tally, pieces, kAtOnce, stop);
   if (nearby && problem.fText.empty())
      for (const auto &part : parts)
         nearby->Add(part);
   return problem;
}

// Reads a part that ROOT asks for alone: with what is around it, if it is small.
bool ReadOne(Object &object, Tally &tally, char *to, long long offset, long long size)
{
   if (offset < 0 || size < 0 || offset + size > object.fSize)
      return false;
   {
      std::lock_guard<std::mutex> lock(object.fMutex);
      if (object.fAlone.size() < kMaxAlone)
         object.fAlone.emplace_back(offset, size);
   }
   if (!size || FromBlocks(object, to, offset, size))
      return true;
   auto first = offset, end = offset + size;
   const auto tail = std::max(0LL, object.fSize - kTail);
   if (offset >= tail)
      first = tail, end = object.fSize;
   else if (size < kAhead)
      end = std::min(offset + kAhead, object.fSize);
   if (first == offset && end == offset + size)
      return Report(object, tally, Read(object, tally, {{to, offset, size}}));
   auto block = std::make_shared<std::string>(end - first, 0);
   if (!Report(object, tally, Read(object, tally, {{&(*block)[0], first, end - first}})))
      return false;
   std::memcpy(to, block->data() + (offset - first), size);
   KeepBlock(object, first, block);
   return true;
}

struct Content {
   long long fOffset;
   std::string fBytes;
};

// What ROOT has read alone of an object, as it does when it opens one; nothing if that was much, or fails.
std::vector<Content> Opening(const std::string &name)
{
   const auto object = Find(name);
   std::vector<std::pair<long long, long long>> parts;
   if (object) {
      std::lock_guard<std::mutex> lock(object->fMutex);
      parts = object->fAlone;
   }
   std::vector<Content> contents;
   if (parts.size() == kMaxAlone)
      return contents;
   const auto tally = Tally::Current();
   for (const auto &[offset, size] : parts) {
      contents.push_back({offset, std::string(size, 0)});
      if (!ReadOne(*object, *tally, &contents.back().fBytes[0], offset, size))
         return {};
   }
   return contents;
}

bool ReadMany(Object &object, Tally &tally, std::vector<Part> parts)
{
   std::vector<Part> wanted;
   for (const auto &part : parts) {
      if (part.fOffset < 0 || part.fSize < 0 || part.fOffset + part.fSize > object.fSize)
         return false;
      if (part.fSize && !FromBlocks(object, part.fTo, part.fOffset, part.fSize))
         wanted.push_back(part);
   }
   if (wanted.empty())
      return true;
   return Report(object, tally, Read(object, tally, std::move(wanted)));
}

// What is not public of a tree's cache: which entries it has, and to which it reads.
struct Cache : TTreeCache {
   static Long64_t First(const TTreeCache &cache) { return cache.*(&Cache::fEntryCurrent); }
   static Long64_t Next(const TTreeCache &cache) { return cache.*(&Cache::fEntryNext); }
   static Long64_t Last(const TTreeCache &cache) { return cache.*(&Cache::fEntryMax); }
};

// Where the baskets of some entries are.
struct Window {
   std::vector<Part> fParts;
   Long64_t fEnd = 0;  // the entry behind
};

// Those clusters that a tree's cache will want from an entry on, if it goes on as it does: one reading of the
// cache at least, more up to so many bytes.
Window After(TTreeCache &cache, Long64_t begin, long long wanted)
{
   Window window{{}, begin};
   auto tree = cache.GetTree();
   auto branches = cache.GetCachedBranches();
   const auto first = Cache::First(cache), next = Cache::Next(cache), last = Cache::Last(cache);
   if (!tree || !branches || first < 0 || next <= first || begin < next || begin >= last)
      return window;
   long long bytes = 0;
   auto clusters = tree->GetClusterIterator(begin);
   while (window.fEnd < last && (window.fEnd - begin < next - first || bytes < wanted)) {
      const auto from = window.fEnd;
      clusters();
      if (clusters.GetNextEntry() <= from)
         break;
      window.fEnd = std::min(clusters.GetNextEntry(), last);
      for (Int_t i = 0; i < branches->GetEntriesFast(); ++i) {
         auto branch = static_cast<TBranch *>(branches->UncheckedAt(i));
         if (!branch || branch->GetDirectory() != tree->GetDirectory())
            continue;
         const auto entries = branch->GetBasketEntry();
         const auto sizes = branch->GetBasketBytes();
         const auto end = branch->GetWriteBasket();
         for (auto j = std::lower_bound(entries, entries + end, from) - entries; j < end; ++j) {
            if (entries[j] >= window.fEnd)
               break;
            if (branch->GetBasketSeek(j) > 0 && sizes[j] > 0) {
               window.fParts.push_back({nullptr, branch->GetBasketSeek(j), sizes[j]});
               bytes += sizes[j];
            }
         }
      }
   }
   return window;
}

// A window that is fetched while what is before it is computed.
class Ahead {
   std::vector<Part> fBlocks;  // by offset; none touches the next, since ROOT reads neighbours as one
   std::string fBuffer;
   std::atomic<bool> fStop{false};
   bool fGood = false;
   Long64_t fEnd = 0;
   std::thread fThread;

   void Wait()
   {
      if (fThread.joinable())
         fThread.join();
   }

public:
   ~Ahead() { Drop(); }
   void Drop()
   {
      fStop = true;
      Wait();
      fBlocks.clear();
      fGood = false;
   }
   bool IsEmpty() const { return fBlocks.empty(); }
   Long64_t End() const { return fEnd; }
   void Begin(Shared object, std::shared_ptr<Tally> tally, Window window)
   {
      Drop();
      auto &parts = window.fParts;
      fEnd = window.fEnd;
      std::sort(parts.begin(), parts.end(), [](auto &a, auto &b) { return a.fOffset < b.fOffset; });
      long long size = 0;
      for (const auto &part : parts) {
         if (fBlocks.empty() || fBlocks.back().fOffset + fBlocks.back().fSize != part.fOffset)
            fBlocks.push_back({nullptr, part.fOffset, 0});
         fBlocks.back().fSize += part.fSize;
         size += part.fSize;
      }
      if (!size || size > kMaxAhead) {
         fBlocks.clear();
         return;
      }
      fBuffer.resize(size);
      auto at = &fBuffer[0];
      for (auto &block : fBlocks) {
         block.fTo = at;
         at += block.fSize;
      }
      fStop = false;
      fThread = std::thread([this, object, tally] {
         fGood = Read(*object, *tally, fBlocks, &fStop).fText.empty();
      });
   }
   // Copies the begin of a part, if it has it, and takes it off the part; says how many bytes.
   long long Take(Part &part)
   {
      auto block = std::upper_bound(fBlocks.begin(), fBlocks.end(), part.fOffset,
                                    [](long long offset, auto &each) { return offset < each.fOffset; });
      if (block == fBlocks.begin())
         return 0;
      --block;
      const auto at = part.fOffset - block->fOffset;
      const auto size = std::min(part.fSize, block->fSize - at);
      if (size <= 0)
         return 0;
      Wait();
      if (!fGood)
         return 0;
      std::memcpy(part.fTo, block->fTo + at, size);
      part.fTo += size;
      part.fOffset += size;
      part.fSize -= size;
      return size;
   }
};

// Two windows ahead, one behind the other. While the nearer one is used, the other one is on its way. They
// grow, so that a loop that ends early has fetched little in vain.
class Windows {
   Ahead fWindows[2];
   int fNear = 0;
   long long fWanted = 0;

   Ahead &Near() { return fWindows[fNear]; }
   Ahead &Far() { return fWindows[1 - fNear]; }

public:
   void Drop()
   {
      for (auto &each : fWindows)
         each.Drop();
      fWanted = 0;
   }
   // Copies what it has, and returns the rest. Then fetches what the tree's cache will want.
   std::vector<Part> Take(std::vector<Part> parts)
   {
      long long fromNear = 0, fromFar = 0;
      for (auto &part : parts) {
         for (long long taken = 1; part.fSize && taken;) {
            const auto near = Near().Take(part);
            const auto far = part.fSize ? Far().Take(part) : 0;
            fromNear += near;
            fromFar += far;
            taken = near + far;
         }
      }
      if (!fromNear && !fromFar) {
         Drop();
      } else if (fromFar) {
         Near().Drop();
         fNear = 1 - fNear;
      }
      parts.erase(std::remove_if(parts.begin(), parts.end(), [](auto &part) { return !part.fSize; }),
                  parts.end());
      return parts;
   }
   void Begin(Shared object, std::shared_ptr<Tally> tally, TTreeCache &cache)
   {
      for (auto each : {&Near(), &Far()}) {
         if (!each->IsEmpty())
            continue;
         const auto before = each == &Far() && !Near().IsEmpty() ? Near().End() : Cache::Next(cache);
         auto window = After(cache, before, fWanted);
         long long size = 0;
         for (const auto &part : window.fParts)
            size += part.fSize;
         each->Begin(object, tally, std::move(window));
         if (!size)
            return;
         fWanted = std::min(2 * size, kEnoughAhead);
      }
   }
};

class RemoteFile : public TFile {
   Shared fObject;
   std::shared_ptr<Tally> fTally = Tally::Current();  // of the range that opens it
   Windows fAhead;

public:
   RemoteFile(const char *url, Option_t *option = "", const char *title = "", Int_t = 1)
      : TFile(url, "WEB"), fObject(Find(url))
   {
      SetTitle(title);
      fD = -2;
      TString wanted(option);
      wanted.ToUpper();
      if (!wanted.IsNull() && !wanted.BeginsWith("READ") && !wanted.BeginsWith("WEB")) {
         ::Error("TFile::RemoteFile", "%s can be read, and not be written", url);
         fObject = nullptr;
      }
      if (!fObject) {
         MakeZombie();
         gDirectory = gROOT;
         return;
      }
      fOffset = 0;
      // ROOT looks at files that are open when the process ends, after code as this is gone.
      fGlobalRegistration = false;
      Init(kFALSE);
   }
   ~RemoteFile() override { Close(); }
   void Close(Option_t *option = "") override
   {
      fAhead.Drop();
      TFile::Close(option);
   }

   Bool_t IsOpen() const override { return fObject != nullptr && !IsZombie(); }
   Long64_t GetSize() const override { return fObject ? fObject->fSize : -1; }
   Int_t ReOpen(Option_t *) override { return 1; }
   void Seek(Long64_t offset, ERelativeTo from) override
   {
      fOffset = from == kBeg ? offset + fArchiveOffset : from == kCur ? fOffset + offset : GetSize() - offset;
   }
   Bool_t ReadBuffer(char *to, Int_t size) override
   {
      if (const auto status = ReadBufferViaCache(to, size))
         return status == 2;
      return ReadHere(to, size);
   }
   Bool_t ReadBuffer(char *to, Long64_t offset, Int_t size) override
   {
      SetOffset(offset);
      return ReadBuffer(to, size);
   }
   Bool_t ReadBuffers(char *to, Long64_t *offsets, Int_t *sizes, Int_t n) override
   {
      std::vector<Part> parts;
      long long at = 0;
      for (Int_t i = 0; i < n; at += sizes[i++])
         parts.push_back({to + at, offsets[i] + fArchiveOffset, sizes[i]});
      if (!fObject)
         return kTRUE;
      if (!ReadMany(*fObject, *fTally, fAhead.Take(std::move(parts))))
         return kTRUE;
      Count(at);
      if (auto cache = dynamic_cast<TTreeCache *>(GetCacheRead()))
         fAhead.Begin(fObject, fTally, *cache);
      return kFALSE;
   }

private:
   Bool_t ReadHere(char *to, Int_t size)
   {
      if (!fObject || !ReadOne(*fObject, *fTally, to, fOffset, size))
         return kTRUE;
      fOffset += size;
      Count(size);
      return kFALSE;
   }
   void Count(Long64_t bytes)
   {
      fBytesRead += bytes;
      fgBytesRead += bytes;
      ++fReadCalls;
      ++fgReadCalls;
   }
};

class RemoteRawFile : public ROOT::Internal::RRawFile {
   Shared fObject;
   std::shared_ptr<Tally> fTally = Tally::Current();  // of the range that opens it

protected:
   void OpenImpl() override
   {
      fObject = Find(fUrl);
      if (!fObject)
         throw std::runtime_error("cannot open " + fUrl);
      if (fOptions.fBlockSize == ROptions::kUseDefaultBlockSize)
         fOptions.fBlockSize = kAhead;
   }
   std::size_t ReadAtImpl(void *to, std::size_t size, std::uint64_t offset) override
   {
      const auto left = static_cast<long long>(fObject->fSize) - static_cast<long long>(offset);
      const auto given = std::max(0LL, std::min<long long>(size, left));
      if (!ReadOne(*fObject, *fTally, static_cast<char *>(to), offset, given))
         throw std::runtime_error("cannot read " + fObject->fShown);
      return given;
   }
   std::uint64_t GetSizeImpl() override { return fObject->fSize; }
   void ReadVImpl(RIOVec *vector, unsigned int n) override
   {
      std::vector<Part> parts;
      for (unsigned int i = 0; i < n; ++i) {
         parts.push_back({static_cast<char *>(vector[i].fBuffer), static_cast<long long>(vector[i].fOffset),
                          static_cast<long long>(vector[i].fSize)});
         vector[i].fOutBytes = vector[i].fSize;
      }
      if (!ReadMany(*fObject, *fTally, std::move(parts)))
         throw std::runtime_error("cannot read " + fObject->fShown);
   }

public:
   RemoteRawFile(std::string_view url, ROptions options) : RRawFile(url, options) {}
   std::unique_ptr<RRawFile> Clone() const override
   {
      auto clone = std::make_unique<RemoteRawFile>(fUrl, fOptions);
      clone->fTally = fTally;  // who clones it may be a thread of ROOT's
      return clone;
   }
};

void Register()
{
   // The first that fits is asked: those that ROOT has for these schemes are loaded now, and taken away.
   gPluginMgr->FindHandler("TFile", "s3://");
   for (auto pattern : {"^[a]?s3:", "^http[s]?:", "^s3:", "^https?:"})
      gPluginMgr->RemoveHandler("TFile", pattern);
   gPluginMgr->RemoveHandler("ROOT::Internal::RRawFile", "^https?:");
   for (auto pattern : {"^s3:", "^https?:"})
      gPluginMgr->AddHandler("TFile", pattern, "dask_root_lambda::remote::RemoteFile", "RIO",
                             "RemoteFile(const char*,Option_t*,const char*,Int_t)");
   gPluginMgr->AddHandler("ROOT::Internal::RRawFile", "^https?:", "dask_root_lambda::remote::RemoteRawFile",
                          "RIO", "RemoteRawFile(std::string_view,ROOT::Internal::RRawFile::ROptions)");
}

} // namespace remote
} // namespace dask_root_lambda
"""
