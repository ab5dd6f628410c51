"""What ROOT and Cling report while a piece of code runs, and what that code raises, in our terms.

Cling's diagnostics (with the user's line) and ROOT's errors go to the process's standard error, where
the user of a function never sees them. `record` keeps those of the calling thread as text.
"""

from __future__ import annotations

import logging
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import ROOT

from dask_root_lambda.protocol.errors import (
    CompilationError,
    ConfigurationError,
    DaskRootLambdaError,
    RemoteError,
    UnavailableInputError,
    UserCodeError,
)
from lambda_runtime import jupyter, storage_token
from lambda_runtime.declaring import declared
from lambda_runtime.once import once

# Before the first of our code is compiled, which is the recorder below.
jupyter.load_completion_library()

_RECORDER = r"""
#include <TError.h>
#include <TInterpreter.h>
#include <TString.h>
#include <cstring>
#include <mutex>
#include <pthread.h>

namespace dask_root_lambda {

// A list by hand: each process compiles this first, and a map of strings would cost a tenth of a second.
struct Recording {
   pthread_t fThread;
   TString fText;
   Recording *fNext;
};

constexpr int kMaxText = 16384;
std::mutex gMutex;
Recording *gFirst = nullptr;
ErrorHandlerFunc_t gNext = nullptr;

Recording **Find()
{
   auto link = &gFirst;
   while (*link && !pthread_equal((*link)->fThread, pthread_self()))
      link = &(*link)->fNext;
   return link;
}

// ROOT ends the event loop of a Display when it has its rows, and warns that there are more entries.
bool IsOfDisplay(int level, const char *location, const char *message)
{
   return level == kWarning && location && !strcmp(location, "RDataFrame::Run") &&
          !strncmp(message, "RDataFrame stopped processing", 29);
}

void Record(int level, Bool_t abort, const char *location, const char *message)
{
   if (IsOfDisplay(level, location, message)) {
      std::lock_guard<std::mutex> lock(gMutex);
      if (*Find())
         return;
   }
   if (level >= kError) {
      std::lock_guard<std::mutex> lock(gMutex);
      if (auto recording = *Find()) {
         if (recording->fText.Length() < kMaxText)
            recording->fText.Append(location ? location : "").Append(": ").Append(message).Append("\n");
         if (!abort)
            return;
      }
   }
   gNext(level, abort, location, message);
}

void Install()
{
   static const bool installed = [] {
      gInterpreter->ReportDiagnosticsToErrorHandler();
      gNext = SetErrorHandler(Record);
      return true;
   }();
   (void)installed;
}

void Begin()
{
   std::lock_guard<std::mutex> lock(gMutex);
   if (!*Find())
      gFirst = new Recording{pthread_self(), "", gFirst};
}

TString End()
{
   std::lock_guard<std::mutex> lock(gMutex);
   auto link = Find();
   auto recording = *link;
   if (!recording)
      return "";
   *link = recording->fNext;
   TString text = recording->fText;
   delete recording;
   return text;
}

} // namespace dask_root_lambda
"""


logger = logging.getLogger(__name__)

_UNDECLARED = re.compile(
    r"(?:use of undeclared identifier|unknown type name) '([^']+)'"
    r"|no (?:member|type|template) named '([^']+)' in namespace"
)
_READING = re.compile(r"(?:T(?:Basket|Branch|Buffer|File|Key|NetXNGFile|Tree)\w*|R__unzip\w*|RNTuple\w*)\b")
"""Where ROOT's errors of reading come from."""
_NOT_FOUND, _NOT_KNOWN = "failed to retrieve the JIT helper function", "unordered_map::at"
"""What ROOT 6.40 says of each graph with something new in it, once code that it made for one did not compile:
it goes on to look for that code's functions (``DeclareAndRetrieveDeferredJitCalls`` of RLoopManager.cxx). Of
a graph that needs such a function it says the second, as a map of the user's may that lacks a key."""
_spoiled = threading.Event()
"""Set once code did not compile in this process."""
_OF_OVERLOAD = re.compile(r"=>\n +\w+: (.*?)(?=\n  \S[^\n]* =>\n|\Z)", re.DOTALL)
"""What each C++ function said that PyROOT has tried: it writes signature, type of the error, and text."""
_TRAVELS = (
    "what gInterpreter.Declare, ProcessLine, .L and Numba.Declare make does not travel. Give the C++ code to "
    "ROOT.RDF.Distributed.DistributeCppCode, or a Python function that makes it to "
    "ROOT.RDF.Distributed.initialize, and run again"
)


class Record:
    """The errors that ROOT and Cling reported, once the block that `record` opened has ended."""

    def __init__(self, text: str = "") -> None:
        self.text = text

    @property
    def from_compiler(self) -> bool:
        """Whether Cling is among those who reported."""
        return any(line.startswith("cling: ") for line in self.text.splitlines())

    @property
    def from_reading(self) -> bool:
        """Whether what ROOT reads files with is among them: they are damaged, or out of reach."""
        return any(_READING.match(line) for line in self.text.splitlines())


class LoopError(Exception):
    """What an event loop raised is its cause.

    Parameters
    ----------
    find
        Finds the operation that raised. It runs code of the user's: called once what ROOT reported is taken.
    began
        Whether the graph had been compiled, and the event loop could begin.
    """

    def __init__(self, find: Callable[[], str | None], *, began: bool) -> None:
        super().__init__()
        self.find = find
        self.began = began


@contextmanager
def record(*, quiet: bool = False) -> Iterator[Record]:
    """Record what ROOT and Cling report as errors in this thread, instead of printing it.

    It is logged as a warning where the block ends well, unless ``quiet``: then nobody else will tell.
    """
    recorder = _recorder()
    kept = Record()
    recorder.Begin()
    try:
        yield kept
    except BaseException:
        kept.text = _without_repetitions(str(recorder.End()))
        raise
    kept.text = _without_repetitions(str(recorder.End()))
    if kept.text and not quiet:
        logger.warning("ROOT reported:\n%s", kept.text)


_as_raised: ContextVar[bool] = ContextVar("as_raised", default=False)


@contextmanager
def python_as_raised() -> Iterator[None]:
    """Let what Python code of the user's raises pass as it is: for a debugger, which needs its frames."""
    token = _as_raised.set(True)
    try:
        yield
    finally:
        _as_raised.reset(token)


@contextmanager
def user_code(what: str, *, python: bool = False) -> Iterator[Record]:
    """Translate what the user's code raises, with ROOT's and Cling's diagnostics beside it; yield these.

    Parameters
    ----------
    what
        Names it in the error.
    python
        Whether it is a Python function.
    """
    reported = Record()
    try:
        with record() as reported:
            yield reported
    except DaskRootLambdaError:
        raise
    except Exception as failure:
        if python and _as_raised.get():
            raise
        error, found = failure, None
        if isinstance(failure, LoopError) and isinstance(failure.__cause__, Exception):
            # What was read wrong is no operation's fault, and may end the process when it is read again.
            found = None if reported.from_reading else failure.find()
            what, error = found or what, failure.__cause__
        name = type(error).__name__
        kind, verdict = _verdict(error, reported, of_user=found is not None)
        expired = storage_token.expired() if "TNetXNGFile::" in reported.text else ""
        if expired and storage_token.is_from_secret():
            # The next try looks for a new token first.
            raise UnavailableInputError(f"{what} {verdict}; {expired}") from None
        raise kind(
            f"{what} {verdict}{f'; {expired}' if expired else ''}",
            type_name=name,
            traceback="".join(traceback.format_exception(error)),
            diagnostics=reported.text,
        ) from None


def _verdict(error: Exception, reported: Record, *, of_user: bool) -> tuple[type[RemoteError], str]:
    """Return the class of the error to raise for what code raised, and what is said of the code.

    Parameters
    ----------
    error, reported
        What was raised, and reported beside it.
    of_user
        Whether an operation of the user's is known that raises it.
    """
    if reported.from_compiler:
        _spoiled.set()
        return CompilationError, f"does not compile; see the line below{_hint(reported.text)}"
    if _NOT_FOUND in str(error) or (_spoiled.is_set() and not of_user and _NOT_KNOWN in str(error)):
        return CompilationError, (
            "cannot be compiled in this process: a graph did not compile in it before, and ROOT compiles "
            "nothing new after that. Start the process (the kernel, the script or Dask's workers) again"
        )
    return UserCodeError, f"raised {type(error).__name__}: {said(error)}"


def undeclared(text: str) -> list[str]:
    """Return the names of which Cling says that nobody has declared them."""
    found = (match.group(1) or match.group(2) for match in _UNDECLARED.finditer(text))
    return list(dict.fromkeys(found))


def _hint(text: str) -> str:
    """Say what to do about names that are not declared here: where it was booked, the code compiled."""
    names = ", ".join(undeclared(text))
    return f". Of {names} only your own process knows: {_TRAVELS}" if names else ""


@once
def check_compiler() -> None:
    """Compile a line that needs C++'s own headers; once in a process, if it works.

    Raises
    ------
    ConfigurationError
        They are not there: Cling has none of its own, and asks the machine's compiler where they are. Or the
        interpreter is broken, see `lambda_runtime.jupyter`.
    """
    jupyter.check_completion()
    with record():
        compiles = ROOT.gInterpreter.Declare("#include <new>\n#include <cstdlib>")
    if not compiles:
        raise ConfigurationError(
            "ROOT finds no C++ standard headers on this machine, and cannot compile anything: install g++ "
            "(Debian: apt-get install g++)"
        )


def said(error: BaseException) -> str:
    """Return what an error says, without the C++ functions that PyROOT has tried to call."""
    texts = (text.strip() for text in _OF_OVERLOAD.findall(str(error)))
    return "\n".join(dict.fromkeys(filter(None, texts))) or str(error).strip() or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return said(error).partition("\n")[0].strip()


@once
def _recorder() -> Any:
    recorder = declared(_RECORDER)
    recorder.Install()
    return recorder


def _without_repetitions(text: str) -> str:
    """Drop paragraphs that came before: the interpreter tries each overload in turn."""
    paragraphs = dict.fromkeys(part.strip("\n") for part in text.split("\n\n"))
    seen: dict[str, str] = {}
    for paragraph in paragraphs:
        _, _, body = paragraph.partition("error: ")
        seen.setdefault(body or paragraph, paragraph)
    return "\n\n".join(part for part in seen.values() if part)
