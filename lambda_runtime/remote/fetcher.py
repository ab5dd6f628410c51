"""The C++ code that fetches parts of objects over HTTP: libcurl's, without Python's lock.

ROOT reads in threads that do not hold that lock, and while it holds locks of its own: who needed Python for
each read could wait for a thread that waits for ROOT.
"""

CODE = r"""
#pragma cling optimize(0)  // of what waits for the network; compiling it takes a third less time
#include <TError.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace dask_root_lambda {
namespace remote {

// Of curl.h, which is not on every machine; libcurl never changes them.
constexpr int kUrl = 10002, kRange = 10007, kErrorBuffer = 10010, kUserAgent = 10018, kHttpHeader = 10023,
              kWriteData = 10001, kHeaderData = 10029, kCaInfo = 10065, kPrivate = 10103, kProtocols = 10318,
              kWriteFunction = 20011, kHeaderFunction = 20079, kLowSpeedLimit = 19, kLowSpeedTime = 20,
              kFollow = 52, kMaxRedirects = 68, kHttpVersion = 84, kBufferSize = 98, kNoSignal = 99,
              kConnectTimeoutMs = 156, kKeepAlive = 213, kMaxConnects = 6, kResponseCode = 0x200002,
              kPrivateInfo = 0x100015;
struct Message {
   int fKind;
   void *fEasy;
   union {
      void *fWhatever;
      int fResult;
   } fData;
};

struct Curl {
   void *(*EasyInit)();
   int (*SetOption)(void *, int, ...);
   int (*GetInfo)(void *, int, ...);
   void (*Reset)(void *);
   void (*EasyCleanup)(void *);
   const char *(*ErrorText)(int);
   void *(*Append)(void *, const char *);
   void (*FreeList)(void *);
   void *(*MultiInit)();
   int (*MultiSetOption)(void *, int, ...);
   int (*Add)(void *, void *);
   int (*Remove)(void *, void *);
   int (*Perform)(void *, int *);
   int (*Poll)(void *, void *, unsigned int, int, int *);
   Message *(*Read)(void *, int *);
   int (*MultiCleanup)(void *);
};
Curl gCurl;
std::string gCertificates, gAgent;
long gConnectMs = 5000, gStallS = 10, gDeadlineMs = 120000;  // the last: without a byte
constexpr int kAttempts = 6;
long long gFirstDelayMs = 200;
constexpr std::size_t kMaxText = 8192;

using Clock = std::chrono::steady_clock;

struct Object;
struct Part;
struct Piece;
struct Problem;

// What is kept of an object nearer by. What it does not have comes from where the object is.
struct Nearby {
   virtual ~Nearby() {}
   // Reads what it has of the parts, and returns the rest.
   virtual std::vector<Part> Take(Tally &tally, std::vector<Part> parts, const std::atomic<bool> *stop) = 0;
   // Is given what came from afar.
   virtual void Add(const Part &part) = 0;
};

// Reads of a file that no web server has.
struct Server {
   virtual ~Server() {}
   virtual Problem Fetch(Object &object, Tally &tally, std::vector<Piece> &pieces) = 0;
};

// Where an object is, and what is known of it. One that is replaced here lives on in files that are open.
struct Object {
   std::string fName;   // as ROOT knows it
   std::string fShown;  // as the user knows it
   std::string fSource; // where it comes from
   std::string fTag;    // strong ETag, with its quotes; empty without
   long long fSize = 0;
   int fAttempts = kAttempts;  // of each request
   std::shared_ptr<Server> fServer;  // nothing for a web server
   std::mutex fMutex;   // of what follows
   std::shared_ptr<Nearby> fNearby;
   std::string fUrl;    // signed
   std::vector<std::string> fHeaders;
   std::map<long long, std::shared_ptr<std::string>> fBlocks;  // by their first byte
   std::vector<std::pair<long long, long long>> fAlone;  // what ROOT read alone at first: offsets and sizes
};
using Shared = std::shared_ptr<Object>;

struct Problem {
   std::string fText;
   bool fPasses = false;  // whether a later try may succeed
};

// A part of an object, in one request: what lies in a gap is thrown away.
struct Part {
   char *fTo;
   long long fOffset, fSize;
};
struct Piece {
   long long fOffset = 0, fEnd = 0;
   std::vector<Part> fParts;  // by offset
   long long fGot = 0;
   int fFailures = 0;
   bool fRenewed = false;
   std::size_t fPart = 0;
   Clock::time_point fNotBefore{};
   // Of the request that is under way:
   void *fEasy = nullptr;
   void *fList = nullptr;
   long fStatus = 0;
   long long fTaken = 0;
   std::string fHeaders, fBody;
   char fError[256] = "";

   void Take(const char *data, long long size)
   {
      auto at = fOffset + fGot;
      fGot += size;
      for (auto i = fPart; i < fParts.size() && fParts[i].fOffset < at + size; ++i) {
         auto &part = fParts[i];
         const auto first = std::max(at, part.fOffset), last = std::min(at + size, part.fOffset + part.fSize);
         if (first < last)
            std::memcpy(part.fTo + (first - part.fOffset), data + (first - at), last - first);
         if (i == fPart && part.fOffset + part.fSize <= at + size)
            ++fPart;
      }
   }
};

std::size_t OnData(char *data, std::size_t, std::size_t size, void *to)
{
   auto &piece = *static_cast<Piece *>(to);
   if (!piece.fStatus)
      gCurl.GetInfo(piece.fEasy, kResponseCode, &piece.fStatus);
   if (piece.fStatus == 206) {
      if (piece.fOffset + piece.fGot + static_cast<long long>(size) > piece.fEnd)
         return 0;
      piece.Take(data, size);
      piece.fTaken += size;
   } else if (piece.fStatus == 200) {
      // The whole object is on its way: the server does not know ranges.
      return 0;
   } else if (piece.fBody.size() < kMaxText) {
      piece.fBody.append(data, std::min(size, kMaxText - piece.fBody.size()));
   }
   return size;
}

std::size_t OnHeader(char *data, std::size_t, std::size_t size, void *to)
{
   auto &headers = static_cast<Piece *>(to)->fHeaders;
   // Of the last answer, where redirections came before.
   if (size > 5 && !std::strncmp(data, "HTTP/", 5))
      headers.clear();
   if (headers.size() < kMaxText)
      headers.append(data, size);
   return size;
}

// A multi handle keeps connections. Two threads must not use one: each takes one, and gives it back.
struct Connections {
   std::mutex fMutex;
   std::vector<void *> fIdle;

   void *Take()
   {
      std::lock_guard<std::mutex> lock(fMutex);
      if (fIdle.empty()) {
         auto multi = gCurl.MultiInit();
         gCurl.MultiSetOption(multi, kMaxConnects, 64L);
         return multi;
      }
      auto multi = fIdle.back();
      fIdle.pop_back();
      return multi;
   }
   void Give(void *multi)
   {
      std::lock_guard<std::mutex> lock(fMutex);
      fIdle.push_back(multi);
   }
};
// Never destroyed: threads may read while the process ends.
Connections *gConnections = new Connections;

// In a child, connections are the parent's.
void AfterFork()
{
   gConnections = new Connections;
}

std::pair<std::string, std::vector<std::string>> Address(Object &object)
{
   std::lock_guard<std::mutex> lock(object.fMutex);
   return {object.fUrl, object.fHeaders};
}

void Start(void *multi, Object &object, Piece &piece)
{
   auto [url, headers] = Address(object);
   piece.fEasy = gCurl.EasyInit();
   piece.fStatus = 0;
   piece.fTaken = 0;
   piece.fHeaders.clear();
   piece.fBody.clear();
   piece.fError[0] = 0;
   const auto range = std::to_string(piece.fOffset + piece.fGot) + "-" + std::to_string(piece.fEnd - 1);
   for (const auto &header : headers)
      piece.fList = gCurl.Append(piece.fList, header.c_str());
   if (!object.fTag.empty())
      piece.fList = gCurl.Append(piece.fList, ("If-Match: " + object.fTag).c_str());
   auto easy = piece.fEasy;
   gCurl.SetOption(easy, kUrl, url.c_str());
   gCurl.SetOption(easy, kRange, range.c_str());
   gCurl.SetOption(easy, kHttpHeader, piece.fList);
   gCurl.SetOption(easy, kUserAgent, gAgent.c_str());
   gCurl.SetOption(easy, kCaInfo, gCertificates.c_str());
   gCurl.SetOption(easy, kErrorBuffer, piece.fError);
   gCurl.SetOption(easy, kWriteFunction, OnData);
   gCurl.SetOption(easy, kWriteData, &piece);
   gCurl.SetOption(easy, kHeaderFunction, OnHeader);
   gCurl.SetOption(easy, kHeaderData, &piece);
   gCurl.SetOption(easy, kPrivate, &piece);
   gCurl.SetOption(easy, kProtocols, "http,https");
   gCurl.SetOption(easy, kNoSignal, 1L);
   gCurl.SetOption(easy, kKeepAlive, 1L);
   gCurl.SetOption(easy, kHttpVersion, 2L);
   gCurl.SetOption(easy, kBufferSize, 262144L);
   gCurl.SetOption(easy, kConnectTimeoutMs, gConnectMs);
   gCurl.SetOption(easy, kLowSpeedLimit, 1024L);
   gCurl.SetOption(easy, kLowSpeedTime, gStallS);
   // S3 names the right region in its redirections, for which a URL is signed anew.
   gCurl.SetOption(easy, kFollow, object.fShown.rfind("s3:", 0) == 0 ? 0L : 1L);
   gCurl.SetOption(easy, kMaxRedirects, 5L);
   gCurl.Add(multi, easy);
}

void Stop(void *multi, Object &object, Piece &piece, Tally &tally)
{
   if (!piece.fEasy)
      return;
   tally.Add(object.fSource, 1, piece.fTaken);
   gCurl.Remove(multi, piece.fEasy);
   gCurl.EasyCleanup(piece.fEasy);
   gCurl.FreeList(piece.fList);
   piece.fEasy = piece.fList = nullptr;
}

using Callback = int (*)(const char *);
Callback gRenew = nullptr;

bool MayPass(int result, long status)
{
   if (status == 206 || status == 0)
      // These of curl's stay: certificates (60, 77), a URL that is none (3, 1). A name service may come back.
      return result != 60 && result != 77 && result != 3 && result != 1;
   return status == 408 || status == 429 || status >= 500;
}

std::string Described(const Piece &piece, int result)
{
   if (piece.fStatus == 200)
      return "the server sends the whole object: it does not answer ranges";
   if (piece.fStatus && piece.fStatus != 206) {
      const auto code = piece.fBody.find("<Code>");
      const auto end = piece.fBody.find("</Code>");
      auto text = "HTTP " + std::to_string(piece.fStatus);
      if (code != std::string::npos && end != std::string::npos)
         text += " " + piece.fBody.substr(code + 6, end - code - 6);
      return text;
   }
   if (!result)
      return "the answer is " + std::to_string(piece.fEnd - piece.fOffset - piece.fGot) + " bytes short";
   return piece.fError[0] ? piece.fError : gCurl.ErrorText(result);
}

// Takes what became of a request: true if the piece is done, else it is tried again, or ``problem`` is set.
bool Finish(Object &object, Piece &piece, int result, Problem &problem)
{
   if (!piece.fStatus)
      gCurl.GetInfo(piece.fEasy, kResponseCode, &piece.fStatus);
   if (piece.fStatus == 206 && piece.fOffset + piece.fGot == piece.fEnd)
      return true;
   const bool refused = piece.fStatus == 403 || piece.fStatus == 400 || piece.fStatus == 401;
   if (refused && !piece.fRenewed && gRenew) {
      // What was signed may have expired.
      piece.fRenewed = true;
      if (!gRenew(object.fName.c_str()))
         return false;
   }
   const bool passes = MayPass(result, piece.fStatus);
   if (!passes || ++piece.fFailures >= object.fAttempts) {
      problem = {Described(piece, result), passes};
      return false;
   }
   const auto delay = gFirstDelayMs << (piece.fFailures - 1);
   const auto spread = std::hash<void *>{}(&piece) / 64 % (delay / 2 + 1);
   piece.fNotBefore = Clock::now() + std::chrono::milliseconds(delay + spread);
   return false;
}

// Fetches pieces side by side; says what is wrong, nothing if all is well. It ends once the range is stopped
// that it fetches for; where it fetches ahead, also once ``stop`` is set, or the range is over.
Problem Fetch(Object &object, Tally &tally, std::vector<Piece> &pieces, std::size_t atOnce,
              const std::atomic<bool> *stop = nullptr)
{
   if (object.fServer)
      return object.fServer->Fetch(object, tally, pieces);
   Problem problem;
   Tally::Use use(tally);
   auto multi = gConnections->Take();
   std::size_t done = 0, running = 0;
   long long got = 0;
   auto last = Clock::now();  // when something came
   while (done < pieces.size() && problem.fText.empty()) {
      const auto now = Clock::now();
      long long size = 0;
      for (const auto &piece : pieces)
         size += piece.fGot;
      if (size != got)
         last = now;
      got = size;
      if (now > last + std::chrono::milliseconds(gDeadlineMs)) {
         problem = {"no answer within " + std::to_string(gDeadlineMs / 1000) + " s", true};
         break;
      }
      long long wait = stop ? 50 : 200;
      if (tally.Stopped() || (stop && (*stop || tally.Over()))) {
         problem = {"nobody wants it", true};
         break;
      }
      for (auto &piece : pieces) {
         if (piece.fEasy || piece.fOffset + piece.fGot == piece.fEnd)
            continue;
         if (running == atOnce)
            break;
         const long long due = std::chrono::duration<double, std::milli>(piece.fNotBefore - now).count();
         if (due > 0) {
            wait = std::min(wait, due);
         } else {
            Start(multi, object, piece);
            ++running;
         }
      }
      int active = 0, left = 0;
      gCurl.Perform(multi, &active);
      bool finished = false;
      while (auto message = gCurl.Read(multi, &left)) {
         Piece *piece = nullptr;
         const auto result = message->fData.fResult;
         gCurl.GetInfo(message->fEasy, kPrivateInfo, &piece);
         done += Finish(object, *piece, result, problem);
         Stop(multi, object, *piece, tally);
         --running;
         finished = true;
      }
      if (!finished)
         gCurl.Poll(multi, nullptr, 0, wait, nullptr);
   }
   for (auto &piece : pieces)
      Stop(multi, object, piece, tally);
   gConnections->Give(multi);
   return problem;
}

// What a server says of an object, and its first bytes.
struct Answer {
   long fStatus = 0;
   std::string fHeaders, fBody, fProblem;
   bool fPasses = false;
};

Answer Look(const std::string &shown, const std::string &source, const std::string &url,
            const std::vector<std::string> &headers, const std::string &tag, long long offset, long long size)
{
   Object object;
   const auto tally = Tally::Current();
   object.fShown = shown;
   object.fSource = source;
   object.fUrl = url;
   object.fHeaders = headers;
   object.fTag = tag;
   Answer answer;
   answer.fBody.resize(size);
   const auto deadline = Clock::now() + std::chrono::milliseconds(gDeadlineMs);
   for (int failures = 0; Clock::now() < deadline; ++failures) {
      Piece piece;
      piece.fOffset = offset;
      piece.fEnd = offset + size;
      piece.fParts = {{&answer.fBody[0], offset, size}};
      auto multi = gConnections->Take();
      Start(multi, object, piece);
      int active = 1, left = 0, result = -1;
      while (active) {
         gCurl.Perform(multi, &active);
         if (active)
            gCurl.Poll(multi, nullptr, 0, 1000, nullptr);
      }
      while (auto message = gCurl.Read(multi, &left))
         result = message->fData.fResult;
      gCurl.GetInfo(piece.fEasy, kResponseCode, &piece.fStatus);
      Stop(multi, object, piece, *tally);
      gConnections->Give(multi);
      answer.fStatus = piece.fStatus;
      answer.fHeaders = piece.fHeaders;
      if (result == 0 && piece.fStatus == 206) {
         // A short object has fewer bytes than were asked for.
         answer.fBody.resize(piece.fGot);
         answer.fProblem.clear();
         return answer;
      }
      answer.fProblem = Described(piece, result);
      answer.fPasses = MayPass(result, piece.fStatus);
      if (!answer.fPasses || failures + 1 >= kAttempts) {
         answer.fBody = piece.fBody;
         return answer;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(gFirstDelayMs << failures));
   }
   answer.fBody.clear();
   return answer;
}

} // namespace remote
} // namespace dask_root_lambda
"""
