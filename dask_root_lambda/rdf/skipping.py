"""Files that the client cannot read are left out where the user asks for it; ranges do so with theirs.

Both tell what they leave out; see `lambda_runtime.skipping`.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ROOT._distrdf import HeadNode

from dask_root_lambda.config import Settings
from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import ConfigurationError, GraphError, InputError, UnavailableInputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.protocol.task import Skipped
from dask_root_lambda.rdf import inputs, probes
from lambda_runtime.remote.names import shown


def wanted(argument: bool | None) -> bool:
    """Decide whether files are left out that cannot be read: as asked, else as is configured.

    Raises
    ------
    ConfigurationError
        The answer is neither yes nor no.
    """
    setting = Settings.resolve(skip_unreadable=argument).skip_unreadable
    if not isinstance(setting, bool):
        raise ConfigurationError(f"skip_unreadable is {setting!r}: it has to be True or False")
    return setting


def readable(args: Sequence[Any]) -> tuple[list[Any], list[Skipped]]:
    """Leave out of a constructor's arguments the files that cannot be read, and say which these are.

    That is done where files are named; those of a TChain or a specification are looked at later.

    Raises
    ------
    InputError
        None of them can be read.
    """
    given = inputs.given(args)
    if not given:
        return list(args), []
    files = [each for name in given for each in _matching(name)]
    bad = _bad(dict(zip(files, probes.look(files), strict=True)))
    skipped = [Skipped(shown(url), None, error.message) for url, error in bad.items()]
    good = [url for url in files if url not in bad]
    if bad and not good:
        raise InputError(f"none of {len(files):,} files can be read. The first: {skipped[0].reason}")
    return ([args[0], good, *args[2:]] if bad else list(args)), skipped


def leave_out(head: Any) -> None:
    """Leave out of a head node the files that cannot be read.

    Raises
    ------
    InputError
        None of them can be read.
    """
    if isinstance(head, HeadNode.EmptySourceHeadNode):
        return
    if time.monotonic() < getattr(head, "look_again_s", 0.0):
        return
    unknown = [
        url for url in head.inputfiles if rootfile.local_path(url) is not None or url not in head.identities
    ]
    answers = dict(zip(unknown, probes.look(unknown), strict=True))
    bad = _bad(answers)
    for url, answer in answers.items():
        if not isinstance(answer, BaseException):
            head.identities.setdefault(url, answer)
    if not bad:
        return
    if len(bad) == len(set(head.inputfiles)):
        raise InputError(f"none of {len(bad):,} files can be read. The first: {next(iter(bad.values()))}")
    head.skipped += [Skipped(shown(url), None, error.message) for url, error in bad.items()]
    kept = [url not in bad for url in head.inputfiles]
    head.samples = tuple(inputs.reduced(head.samples, kept))
    trees = "subnames" if isinstance(head, HeadNode.RNTupleHeadNode) else "subtreenames"
    for column in ("inputfiles", "names", trees):
        rows = zip(getattr(head, column), kept, strict=True)
        setattr(head, column, [value for value, keep in rows if keep])


def check(head: Any) -> None:
    """Raise `GraphError` for a frame whose files cannot be left out one by one: it has friends."""
    if inputs.friends(head):
        raise GraphError(
            "files cannot be left out of a frame with friends, whose entries would be paired wrongly: do "
            "without skip_unreadable"
        )


def check_operation(head: Any, name: str) -> None:
    """Raise `GraphError` for what makes no sense without some entries.

    A later reader would take a Snapshot for whole; ``Range`` counts entries.
    """
    if head.skipped is not None and name == "Range":
        raise GraphError(
            "Range goes by the numbers of entries, and nobody knows how many those have that cannot be read: "
            "do without skip_unreadable, and leave the bad files out of the list"
        )
    if head.skipped is not None and name == "Snapshot":
        raise GraphError(
            "Snapshot would write files that lack what cannot be read, and nothing in them says so: do "
            "without skip_unreadable, and leave the bad files out of the list"
        )


def _bad(answers: Mapping[str, FileIdentity | BaseException]) -> dict[str, InputError]:
    """Return the errors of files that cannot be read; raise any other, as of storage that is away."""
    bad = {}
    for url, answer in answers.items():
        if isinstance(answer, InputError) and not isinstance(answer, UnavailableInputError):
            bad[url] = answer
        elif isinstance(answer, BaseException):
            raise answer
    return bad


def _matching(name: str) -> list[str]:
    is_pattern = rootfile.local_path(name) is not None and glob.has_magic(name)
    return sorted(glob.glob(name)) if is_pattern else [name]  # noqa: PTH207  (a string)
