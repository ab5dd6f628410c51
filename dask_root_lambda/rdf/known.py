"""What was learned of files, on this user's disk: the next start of a script need not open them again.

It names them by hashes: URLs may hold tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dask_root_lambda import state_home
from dask_root_lambda.protocol.rootfile import FileIdentity

_FORMAT = 1
"""Format of this store's files; those of another format are not read."""
_PARTS = 64
"""Files of this store. A data file's directory says which of them it is in: a data set is commonly in one."""
_MOST_FILES = 20_000
"""Data files that one of them is about: the last. The store takes 250 MB at most, and commonly one."""


@dataclass(frozen=True)
class Known:
    """What was learned of a file."""

    identity: FileIdentity
    """Identity of the content from which the rest was learned."""
    entries: Mapping[str, int] = field(default_factory=dict)
    """Entries of its trees and RNTuples, by name."""


def recall(urls: Iterable[str]) -> dict[str, Known]:
    """Return what is remembered of files; whether they are still the same is the caller's to see."""
    found = {}
    for path, group in _by_part(urls).items():
        records = _read(path)
        found.update({url: known for url in group if (known := _known(records.get(_key(url)))) is not None})
    return found


def remember(learned: Mapping[str, Known]) -> None:
    """Keep what was learned of files, beside what is known of the same content already.

    Where nothing can be written, nothing is kept.
    """
    for path, group in _by_part(learned).items():
        records = _read(path)
        for url in group:
            key, known = _key(url), learned[url]
            before = _known(records.pop(key, None))
            if before is not None and before.identity == known.identity:
                known = Known(known.identity, {**before.entries, **known.entries})
            records[key] = asdict(known)
        last = dict(list(records.items())[-_MOST_FILES:])
        with contextlib.suppress(OSError):
            _write(path, json.dumps({"format": _FORMAT, "files": last}, separators=(",", ":")))


def _directory() -> Path:
    return state_home.home() / "files"


def _by_part(urls: Iterable[str]) -> dict[Path, list[str]]:
    groups: dict[Path, list[str]] = {}
    for url in urls:
        part = int(_digest(url.partition("?")[0].rpartition("/")[0]), 16) % _PARTS
        groups.setdefault(_directory() / f"{part:02}.json", []).append(url)
    return groups


def _key(url: str) -> str:
    """Return what names a file, without what is asked for beside it, such as a token."""
    return _digest(url.partition("?")[0])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Any]:
    """Return the records of a file of this store; none if it is damaged, or others could have written it."""
    with contextlib.suppress(OSError, ValueError), path.open() as file:
        status = os.fstat(file.fileno())
        if status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & 0o022:
            document = json.load(file)
            if isinstance(document, dict) and document.get("format") == _FORMAT:
                records = document.get("files")
                return records if isinstance(records, dict) else {}
    return {}


def _known(record: Any) -> Known | None:
    """Read a record; None if it is not one."""
    try:
        identity = FileIdentity(**record["identity"])
        entries = record["entries"]
        numbers = (identity.size, identity.mtime_ns, *entries.values())
        texts = (identity.header, identity.version)
    except (AttributeError, KeyError, TypeError):
        return None
    good = all(type(number) is int and number >= 0 for number in numbers)
    return Known(identity, entries) if good and all(isinstance(text, str) for text in texts) else None


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole: it is this user's alone, as what mkstemp makes is."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
