"""Files that the names which users give mean: one, those of a folder, or those that match a pattern."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dask_root_lambda import s3_names
from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import InputError
from lambda_runtime.copying.content import without_options
from lambda_runtime.remote import listing, names
from lambda_runtime.remote.names import S3Name

_WILDCARD = re.compile(r"[*\[]")


@dataclass(frozen=True)
class Found:
    """A file to copy."""

    url: str
    """A path, a URL, or the internal name of an object in S3."""
    relative: str
    """Its name below a folder that it is copied to."""


@dataclass(frozen=True)
class Named:
    """What a user's name means."""

    files: tuple[Found, ...]
    several: bool
    """Whether it may mean several files: a folder or a pattern."""


def find(text: str) -> Named:
    """Find the files that a name means.

    Raises
    ------
    InputError
        There are none, or they cannot be listed.
    """
    if text.startswith("s3://"):
        named = _in_s3(text)
    elif names.is_xrootd(text):
        named = _over_xrootd(text)
    elif rootfile.local_path(text) is not None:
        named = _on_disk(str(rootfile.local_path(os.path.expanduser(text))))  # noqa: PTH111  (a string)
    else:
        named = _one(text, unquote(urlsplit(text).path))
    if not named.files:
        raise InputError(f"no file to copy is in {text}: check the name, the folder and the pattern")
    return named


def _one(url: str, path: str) -> Named:
    last = path.rsplit("/", 1)[-1]
    if not last:
        raise InputError(f"cannot copy {url}: a web server does not list folders; name the files")
    return Named((Found(url, last),), several=False)


def _in_s3(text: str) -> Named:
    name = s3_names.read(text)
    if not name.bucket:
        raise InputError(f"{text} names no bucket: write s3://bucket/key")
    if not name.key or name.key.endswith("/"):
        below = listing.below(name)
        return Named(
            tuple(Found(each.internal(), each.key.removeprefix(name.key)) for each in below), several=True
        )
    if not name.is_pattern:
        return _one(name.internal(), name.key)
    matching = [each for each in listing.matching(name) if not each.key.endswith("/")]
    return Named(
        tuple(Found(each.internal(), each.key.rsplit("/", 1)[-1]) for each in matching), several=True
    )


def _on_disk(text: str) -> Named:
    path = Path(text)
    if path.is_dir():
        paths = sorted(each for each in path.rglob("*") if each.is_file())
        return Named(
            tuple(Found(str(each), each.relative_to(path).as_posix()) for each in paths), several=True
        )
    if not _WILDCARD.search(text) or path.exists():
        return _one(text, text)
    matching = [each for each in sorted(glob.glob(text)) if Path(each).is_file()]  # noqa: PTH207  (any path)
    return Named(tuple(Found(each, Path(each).name) for each in matching), several=True)


def _over_xrootd(text: str) -> Named:
    base, question, query = text.partition("?")
    folder, _, last = base.rpartition("/")
    if last and not _WILDCARD.search(last):
        return _one(text, base)
    tail = f"{question}{query}"
    if not last:
        files = [Found(f"{folder}/{name}{tail}", name) for name in _below(folder, tail)]
        return Named(tuple(sorted(files, key=lambda file: file.relative)), several=True)
    from lambda_runtime.copying import xrootd

    fits = re.compile(fnmatch.translate(last))
    names_here = sorted(name for name, is_folder in xrootd.names_in(f"{folder}/{tail}") if not is_folder)
    return Named(
        tuple(Found(f"{folder}/{name}{tail}", name) for name in names_here if fits.match(name)), several=True
    )


def _below(folder: str, tail: str) -> Iterator[str]:
    """Yield the names of all files in a folder and its folders, relative to it."""
    from lambda_runtime.copying import xrootd

    for name, is_folder in xrootd.names_in(f"{folder}/{tail}"):
        if is_folder:
            yield from (f"{name}/{rest}" for rest in _below(f"{folder}/{name}", tail))
        else:
            yield name


def is_folder(target: str) -> bool:
    """Tell whether what `target` returned is a folder's name."""
    return without_options(target).endswith("/")


def target(text: str) -> str:
    """Return a target's name as copies take it; the path of a folder ends in a slash.

    Raises
    ------
    InputError
        Nothing can be written there.
    """
    if text.startswith("s3://"):
        name = s3_names.read(text)
        if not name.bucket:
            raise InputError(f"{text} names no bucket: write s3://bucket/key")
        if name.key and not name.key.endswith("/"):
            return name.internal()
        return f"{S3Name(name.bucket, name.key.rstrip('/'), name.place).internal().rstrip('/')}/"
    if names.is_xrootd(text):
        from lambda_runtime.copying import xrootd

        base, question, query = text.partition("?")
        slash = "" if base.endswith("/") or not xrootd.is_folder(text) else "/"
        return f"{base}{slash}{question}{query}"
    path = rootfile.local_path(os.path.expanduser(text))  # noqa: PTH111  (its last slash says something)
    if path is None:
        raise InputError(
            f"cannot write to {names.shown(text)}: copies go to a local path, to s3:// or to root://"
        )
    absolute = os.path.abspath(path)  # noqa: PTH100  (resolves no links)
    return f"{absolute}/" if text.endswith("/") or path.is_dir() else absolute
