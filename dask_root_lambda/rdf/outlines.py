"""Outlines of objects: what ROOT reads of one to know its columns, on this user's disk.

The first start of a script opens an object of its data set in the bucket. What was read of it then is kept as
a file of the same size, with holes. If the object is still the same at a later start, ROOT opens that file
under the object's name: the code that reads objects need not be compiled, which takes long.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import ROOT

from dask_root_lambda import state_home
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.rdf import known, opening
from dask_root_lambda.rdf.known import Known
from lambda_runtime import diagnostics
from lambda_runtime.declaring import declared
from lambda_runtime.remote import objects

T = TypeVar("T")

_FORMAT = 1
"""Format of outlines; those of another format are not found."""
_MOST_OUTLINES = 100
"""Outlines that are kept: those that were used last."""
_MOST_BYTES = 8 << 20
"""Bytes of an outline, without its holes."""
_BLOCKS_BYTES = 1 << 20
"""What a file system may need for the blocks that parts begin and end in."""

_CODE = r"""
#pragma cling optimize(0)
#include <ROOT/RRawFileUnix.hxx>
#include <TFile.h>
#include <TPluginManager.h>
#include <cstring>
#include <map>
#include <string>

namespace dask_root_lambda {
namespace outlines {

std::map<std::string, std::string> gPaths;  // by the names of objects
unsigned long long gMissed = 0;             // how often another one was to be opened

std::string Path(std::string_view url)
{
   const auto found = gPaths.find(std::string(url));
   if (found != gPaths.end())
      return found->second;
   ++gMissed;
   return "";
}

// ROOT looks at files that it has registered when the process ends, after code as this is gone.
struct OutlinedFile : TFile {
   OutlinedFile(const char *url, Option_t * = "", const char * = "", Int_t = 1)
      : TFile(Path(url).c_str(), "READ_WITHOUT_GLOBALREGISTRATION")
   {
      SetName(url);
   }
};

struct OutlinedRawFile : ROOT::Internal::RRawFileUnix {
   OutlinedRawFile(std::string_view url, ROptions options)
      : RRawFileUnix(Path(url), options) {}
};

// Lets ROOT open outlines under the names of objects, unless it opens the objects already.
bool Register()
{
   // The first that fits is asked: those that ROOT has for these schemes are loaded now, and taken away.
   const auto handler = gPluginMgr->FindHandler("TFile", "https://");
   if (handler && !std::strncmp(handler->GetClass(), "dask_root_lambda::", 18))
      return !std::strcmp(handler->GetClass(), "dask_root_lambda::outlines::OutlinedFile");
   for (auto pattern : {"^[a]?s3:", "^http[s]?:"})
      gPluginMgr->RemoveHandler("TFile", pattern);
   for (auto pattern : {"^s3:", "^https?:"})
      gPluginMgr->AddHandler("TFile", pattern, "dask_root_lambda::outlines::OutlinedFile", "RIO",
                             "OutlinedFile(const char*,Option_t*,const char*,Int_t)");
   gPluginMgr->AddHandler("ROOT::Internal::RRawFile", "^https?:",
                          "dask_root_lambda::outlines::OutlinedRawFile", "RIO",
                          "OutlinedRawFile(std::string_view,ROOT::Internal::RRawFile::ROptions)");
   return true;
}

} // namespace outlines
} // namespace dask_root_lambda
"""


def through(url: str, identity: FileIdentity, tree: str, make: Callable[[], T]) -> T | None:
    """Call what has ROOT open an object, with the outline in its place; None where that does not do.

    Parameters
    ----------
    url
        The object's name, as ROOT knows it.
    identity
        What it is now.
    tree
        The name of the TTree or RNTuple for which it is opened.
    make
        What is called. It may open this object, and no other.
    """
    path = _path(url, identity, tree)
    if not _is_ours(path, identity.size):
        return None
    outlines = declared(_CODE).outlines
    outlines.gPaths[url] = str(path)
    if not outlines.Register():
        return None
    missed = outlines.gMissed
    with contextlib.suppress(Exception), opening.unprepared():  # whatever a damaged outline makes ROOT raise
        made = make()
        if outlines.gMissed == missed:
            return made
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    return None


def keep(url: str, identity: FileIdentity, tree: str) -> None:
    """Keep the outline of an object that ROOT has just opened; where that cannot be written, nothing is kept.

    Parameters
    ----------
    url
        The object's name, as ROOT knows it.
    identity
        What it is now.
    tree
        The name of the TTree or RNTuple for which it was opened.
    """
    path = _path(url, identity, tree)
    if _is_ours(path, identity.size):
        return
    with contextlib.suppress(OSError), diagnostics.record(quiet=True):
        if _has_friends(url, tree):
            return
        parts = objects.opening_parts(url)
        if parts and sum(len(content) for _, content in parts) <= _MOST_BYTES:
            _write(path, identity.size, parts)
            # An outline is of use where the object's identity is known before that code is compiled.
            known.remember({url: Known(identity)})


def _has_friends(url: str, tree: str) -> bool:
    """Whether ROOT opens other files with a tree; where it does not, its frame crashes the process."""
    with ROOT.TFile.Open(url) as file:
        return isinstance(found := file.Get(tree), ROOT.TTree) and bool(found.GetListOfFriends())


def _is_ours(path: Path, size: int) -> bool:
    """Whether a file is an outline of an object of this size, which nobody else could have written."""
    try:
        status = path.lstat()
        os.utime(path, follow_symlinks=False)
    except OSError:
        return False
    private = status.st_uid == os.getuid() and stat.S_ISREG(status.st_mode) and not status.st_mode & 0o022
    return private and status.st_size == size


def _path(url: str, identity: FileIdentity, tree: str) -> Path:
    """Return where the outline of a content is; another ROOT may read other parts of it."""
    what = _FORMAT, ROOT.__version__, url, tree, identity.size, identity.version, identity.mtime_ns
    return _directory() / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:32]}.root"


def _directory() -> Path:
    return state_home.home() / "outlines"


def _write(path: Path, size: int, parts: Sequence[tuple[int, bytes]]) -> None:
    """Write a file of this user's alone, as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.truncate(size)
            for offset, content in parts:
                file.seek(offset)
                file.write(content)
            file.flush()
            taken = 512 * os.fstat(file.fileno()).st_blocks
        if taken > sum(len(content) for _, content in parts) + _BLOCKS_BYTES:
            return  # a file system without holes
        Path(name).replace(path)
        for old in _by_use()[_MOST_OUTLINES:]:
            old.unlink(missing_ok=True)
    finally:
        Path(name).unlink(missing_ok=True)


def _by_use() -> list[Path]:
    """Return all outlines, those that were used last first."""
    return sorted(_directory().glob("*.root"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
