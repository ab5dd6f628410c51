"""Outlines of files that are far away: what ROOT reads of one to know its columns, on this user's disk.

The first start of a script opens a file of its data set: an object, or one on an XRootD server. What was read
of it is kept as a file of the same size, with holes. If the far one is still the same at a later start, ROOT
makes the frame of this file: without round trips, and without compiling the code that reads objects.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ROOT

from dask_root_lambda import state_home
from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.rdf import known, probes
from dask_root_lambda.rdf.known import Known
from lambda_runtime import diagnostics
from lambda_runtime.remote import listing, names, objects

logger = logging.getLogger(__name__)

_FORMAT = 2
"""Format of outlines; those of another format are not found."""
_MOST_OUTLINES = 100
"""Outlines that are kept: those that were used last."""
_MOST_BYTES = 8 << 20
"""Bytes of an outline, without its holes."""
_BLOCKS_BYTES = 1 << 20
"""What a file system may need for the blocks that parts begin and end in."""
_BEGIN_BYTES = 1024
"""What ROOT reads at the beginning of a file, and more: its header, and the record of its directory."""


def are_of_use(urls: Sequence[str]) -> bool:
    """Tell whether the first of a data set's files may have an outline: they are far away, and many."""
    if names.is_xrootd(urls[0]):
        return probes.are_many(urls)
    return names.is_remote(urls[0]) and listing.are_many(urls)


def frame(urls: Sequence[str], identity: FileIdentity, tree: str, *more: Any) -> Any:
    """Make ROOT's frame over files, of the outline of the first; None where there is none that does.

    Parameters
    ----------
    urls
        The names of the files, as ROOT knows them.
    identity
        What the first of them is now.
    tree
        The name of the TTree or RNTuple.
    more
        What else the constructor of RDataFrame is given.
    """
    for source, make in _FRAMES.items():
        path = _path(urls[0], identity, tree, source)
        if not _is_ours(path, identity.size):
            continue
        try:
            with diagnostics.record(quiet=True) as reported:
                made = make(path, urls, tree, more)
            if not reported.text:
                return made
        except Exception:  # a damaged one may make ROOT raise anything; the far file is read then
            logger.debug("%s is damaged", path, exc_info=True)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return None


def keep(url: str, identity: FileIdentity, tree: str, opened: Any) -> None:
    """Keep the outline of a file that ROOT has just opened; where that does not do, nothing is kept.

    Parameters
    ----------
    url
        The file's name, as ROOT knows it.
    identity
        What it is now.
    tree
        The name of the TTree or RNTuple for which it was opened.
    opened
        ROOT's frame, for which it was opened.
    """
    path = _path(url, identity, tree, source_of(opened))
    is_named = identity.version or probes.is_settled(identity.mtime_ns)
    if not is_named or _is_ours(path, identity.size):
        return
    with contextlib.suppress(Exception), diagnostics.record(quiet=True):  # nothing depends on it
        parts = _of_object(url, tree) if names.is_remote(url) else _over_xrootd(url, identity, tree)
        if not 0 < sum(len(content) for _, content in parts) <= _MOST_BYTES:
            return
        _write(path, identity.size, parts)
        found = frame([url], identity, tree)
        if found is None:
            return
        if _columns(found) != _columns(opened):
            path.unlink(missing_ok=True)
        elif names.is_remote(url):
            # The next start has to know what the object is before it can ask for one.
            known.remember({url: Known(identity)})


def source_of(frame: Any) -> str:
    """Return what ROOT calls the kind of a frame's source: ``TTreeDS``, ``RNTupleDS``, or another."""
    return str(ROOT.Internal.RDF.GetDataSourceLabel(ROOT.RDF.AsRNode(frame)))


def _of_tree(path: Path, urls: Sequence[str], tree: str, more: Sequence[Any]) -> Any:
    chain = ROOT.TChain(tree, "", ROOT.TChain.kWithoutGlobalRegistration)
    for name in (str(path), *urls[1:]):
        chain.Add(name)
    frame = ROOT.RDataFrame(chain, *more)
    # The outline is open now. Where ROOT tells names, or should open the first file again, it is the far one.
    chain.GetListOfFiles().At(0).SetTitle(urls[0])
    frame._outlined = chain  # which has to live as long
    return frame


def _of_ntuple(path: Path, urls: Sequence[str], name: str, more: Sequence[Any]) -> Any:
    return ROOT.RDataFrame(name, [str(path), *urls[1:]], *more)


_FRAMES = {"TTreeDS": _of_tree, "RNTupleDS": _of_ntuple}
"""Kind of source -> what makes a frame of an outline."""


def _columns(frame: Any) -> list[tuple[str, str]]:
    return [(str(name), str(frame.GetColumnType(name))) for name in frame.GetColumnNames()]


def _of_object(url: str, tree: str) -> Sequence[tuple[int, bytes]]:
    """Return what ROOT has read of an object: offsets and contents."""
    with ROOT.TFile.Open(url) as file:
        return () if _has_friends(file.Get(tree)) else objects.opening_parts(url)


def _has_friends(found: Any) -> bool:
    """Whether ROOT opens other files with a tree; where it finds none, its frame crashes the process."""
    return isinstance(found, ROOT.TTree) and bool(found.GetListOfFriends())


def _over_xrootd(url: str, identity: FileIdentity, tree: str) -> Sequence[tuple[int, bytes]]:
    """Read what ROOT reads of a file to know a tree: offsets and contents."""
    with ROOT.TFile.Open(url) as file:
        parts = [(place, _read(file, *place)) for place in _places(file, tree)]
        begin = parts[0][1][: rootfile.HEADER_BYTES]
        same = rootfile.identify(url, begin, file.GetSize()) == replace(identity, mtime_ns=0)
    return [(offset, content) for (offset, _), content in parts] if same else ()


def _places(file: Any, tree: str) -> Iterator[tuple[int, int]]:
    """Yield offsets and sizes of the records that lead to a tree, of the tree, and of its classes."""
    yield 0, min(_BEGIN_BYTES, file.GetSize())
    yield file.GetSeekInfo(), file.GetNbytesInfo()
    found = file
    for name in tree.split("/"):
        yield found.GetSeekKeys(), found.GetNbytesKeys()
        key = found.GetKey(name)
        yield key.GetSeekKey(), key.GetNbytes()
        found = found.Get(name)
    if _has_friends(found):
        raise LookupError("an outline lacks friends")
    if not isinstance(found, ROOT.TTree):
        yield found.GetSeekHeader(), found.GetNBytesHeader()
        yield found.GetSeekFooter(), found.GetNBytesFooter()


def _read(file: Any, offset: int, size: int) -> bytes:
    content = ctypes.create_string_buffer(size)
    if file.ReadBuffer(content, offset, size):
        raise OSError(f"cannot read {size} bytes at {offset}")
    return content.raw


def _is_ours(path: Path, size: int) -> bool:
    """Whether a file is an outline of an object of this size, which nobody else could have written."""
    try:
        status = path.lstat()
        os.utime(path, follow_symlinks=False)
    except OSError:
        return False
    private = status.st_uid == os.getuid() and stat.S_ISREG(status.st_mode) and not status.st_mode & 0o022
    return private and status.st_size == size


def _path(url: str, identity: FileIdentity, tree: str, source: str) -> Path:
    """Return where the outline of a content is; another ROOT may read other parts of it."""
    what = _FORMAT, ROOT.__version__, url, tree, source, identity.size, identity.version, identity.mtime_ns
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
