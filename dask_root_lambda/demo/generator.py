"""Events like those of CMS's NanoAOD, generated once and kept.

Every event has random numbers of its own, made of the seed, its number and a counter. So a dataset's
counts are the same on every machine, and the first events of a larger dataset are the smaller one's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import ROOT

from dask_root_lambda.demo.events import SOURCE
from dask_root_lambda.demo.resonances import RESONANCES
from dask_root_lambda.protocol.errors import ConfigurationError

SEED = 2012
TREE = "Events"
MAX_EVENTS = 1_000_000_000

_CLUSTERS = 64
"""Clusters of a dataset, at least: as many ranges as it can be divided into."""
_LARGEST_CLUSTER = 25_000
_STALE_S = 3600.0
"""Nobody writes a file for so long: what is older was left by a process that was killed."""


def dataset(events: int, directory: Path | None = None) -> Path:
    """Return a file of generated events; it is made if it is not there.

    Parameters
    ----------
    events
        Events in its tree ``Events``, from 1 to `MAX_EVENTS`; about 30 bytes of disk each.
    directory
        Where it is kept; by default ``dask-root-lambda`` in the user's cache directory.

    Raises
    ------
    ConfigurationError
        A number of events that is out of range, or a directory that cannot be written to.
    """
    if not 1 <= events <= MAX_EVENTS:
        raise ConfigurationError(f"events is {events}: it has to be a whole number from 1 to {MAX_EVENTS:,}")
    path = location(events, directory)
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(path.parent)
            with _written_as(path) as partial:
                _write(partial, events)
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be written: {error}; name another cache directory in XDG_CACHE_HOME"
            ) from error
    return path


def location(events: int, directory: Path | None = None) -> Path:
    """Return where a dataset is, or would be, kept: its name carries its size and the generator's version."""
    return (directory or _cache_directory()) / f"dimuon-{events}-{_version()}.root"


def _cache_directory() -> Path:
    """Follow https://specifications.freedesktop.org/basedir-spec, by which a relative path does not count."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "dask-root-lambda"


def _version() -> str:
    """Identify the generator by all that decides on its events."""
    text = f"{SOURCE}{RESONANCES}{SEED}{_CLUSTERS}{_LARGEST_CLUSTER}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@contextlib.contextmanager
def _written_as(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to; what is complete gets the right one, anything else goes."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.root")
    try:
        yield partial
        # Another process may have been faster; its file may be in use, and stays.
        if not path.exists():
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _remove_stale(directory: Path) -> None:
    for partial in directory.glob(".*.partial.root"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime > _STALE_S:
                partial.unlink()


def _write(path: Path, events: int) -> None:
    """Write cluster by cluster: in between, Ctrl-C is heard."""
    demo = _compiled()
    resonances = ROOT.std.vector[demo.Resonance]()
    for each in RESONANCES:
        resonances.push_back(demo.Resonance(each.mass_gev, each.width_gev, each.fraction))
    cluster = min(max(events // _CLUSTERS, 1), _LARGEST_CLUSTER)
    writer = demo.Writer(str(path), TREE, SEED, resonances, cluster)
    good = all(writer.Fill(begin, min(begin + cluster, events)) for begin in range(0, events, cluster))
    if not (writer.Close() and good):
        raise OSError("the disk may be full")


@cache
def _compiled() -> Any:
    if not ROOT.gInterpreter.Declare(SOURCE):
        raise ConfigurationError(
            "ROOT's interpreter cannot compile C++ on this machine: it needs the headers of the C and C++ "
            "standard libraries, and the command c++ to find them; install g++"
        )
    return ROOT.dask_root_lambda_demo
