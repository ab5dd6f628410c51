"""What the demo reads: the user's files, CERN's, or generated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dask_root_lambda.demo import DEFAULT_EVENTS, generator
from dask_root_lambda.protocol.errors import ConfigurationError

CERN_FILE = (
    "root://eospublic.cern.ch//eos/opendata/cms/derived-data/AOD2NanoAODOutreachTool/"
    "Run2012BC_DoubleMuParked_Muons.root"
)
"""61,540,413 events of 2012, 2.2 GB: https://opendata.cern.ch/record/12341"""
_CMS = "/eos/opendata/cms/"
_GENERATED_RANGES = 16
"""Ranges of generated events, by default: enough to see them run on two environments."""


@dataclass(frozen=True)
class Dataset:
    """Files, and what to call them."""

    files: tuple[str, ...]
    name: str
    """Name in the text."""
    title: str
    """Title in the plot."""
    note: str = ""
    """Text on the right of the plot."""
    npartitions: int | None = None
    """Ranges, unless the user says how many; None for as many as run at once."""


def choose(files: Sequence[str] | None, events: int | None, execution: str) -> Dataset:
    """Decide what to read; generate it if need be.

    Raises
    ------
    ConfigurationError
        Generated events were asked for where they cannot be read, or cannot be made.
    """
    if files:
        return _given(tuple(files))
    if execution != "lambda":
        return _generated(DEFAULT_EVENTS if events is None else events)
    if events is None:
        return Dataset((CERN_FILE,), CERN_FILE, "CMS Open Data", "11.6 fb^{-1} (8 TeV)")
    raise ConfigurationError(
        "--events makes a file on this machine, which AWS Lambda cannot read: leave it out to read CERN's "
        "open data, or name files on root:// with --files"
    )


def _given(files: tuple[str, ...]) -> Dataset:
    name = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1:,} more"
    # A file's name may lie about who took the data; its place at CERN does not.
    if all(_CMS in url for url in files):
        return Dataset(files, name, "CMS Open Data")
    short = files[0].rsplit("/", 1)[-1]
    return Dataset(files, name, short if len(files) == 1 else f"{len(files):,} files")


def _generated(events: int) -> Dataset:
    path = generator.dataset(events)
    return Dataset(
        (str(path),),
        f"{events:,} generated events, {path}",
        "Generated events",
        f"{events:,} events",
        _GENERATED_RANGES,
    )
