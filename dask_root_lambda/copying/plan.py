"""What is copied to where."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dask_root_lambda.copying import places, written
from dask_root_lambda.copying.places import Found, Named
from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import InputError
from lambda_runtime.copying import sources, transfer
from lambda_runtime.copying.content import Content, without_options
from lambda_runtime.remote import names
from lambda_runtime.remote.names import S3Name

_LOOKS_AT_ONCE = 16


@dataclass(frozen=True)
class Item:
    """A file, and where it goes."""

    content: Content
    target: str
    is_there: bool
    """Whether that is there already, and equal."""

    @property
    def is_far(self) -> bool:
        """Whether neither end is on this machine."""
        return rootfile.local_path(self.content.url) is None and rootfile.local_path(self.target) is None

    @property
    def object(self) -> S3Name | None:
        """The target, where it is in S3."""
        return names.parse_s3(self.target)

    @property
    def shown(self) -> str:
        """The target as users know it."""
        return without_options(names.shown(self.target))


def plan(given: Sequence[str], target: str) -> list[Item]:
    """Look at what is to be copied, and at what is there already.

    Raises
    ------
    InputError
        A source is missing, or nothing can be written to the target.
    """
    folder = places.target(target)
    pairs = assign([places.find(text) for text in given], folder)

    def look(pair: tuple[Found, str]) -> Item:
        content = sources.look(pair[0].url)
        is_copy = written.is_copy if names.is_xrootd(pair[1]) else _is_there
        return Item(content, pair[1], is_copy(pair[1], content))

    with ThreadPoolExecutor(_LOOKS_AT_ONCE, "copy-look") as pool:
        return list(pool.map(look, pairs))


def _is_there(target: str, content: Content) -> bool:
    return transfer.is_there(content, target)


def assign(named: Sequence[Named], target: str) -> list[tuple[Found, str]]:
    """Give each file its target: the name itself for a single file, else a name below it.

    Raises
    ------
    InputError
        Two files would have one name.
    """
    files = [file for each in named for file in each.files]
    if len(named) == 1 and not named[0].several and not places.is_folder(target):
        return [(files[0], target)]
    pairs = [(file, _below(target)(file.relative)) for file in files]
    seen: dict[str, Found] = {}
    for file, place in pairs:
        other = seen.setdefault(place, file)
        if other is not file:
            raise InputError(
                f"{names.shown(other.url)} and {names.shown(file.url)} would both be "
                f"{names.shown(place)}: copy them to different folders"
            )
    return pairs


def _below(target: str) -> Callable[[str], str]:
    if names.is_xrootd(target):
        base, question, query = target.partition("?")
        return lambda relative: f"{_inside(base, _without_signs(relative))}{question}{query}"
    folder = f"{target.rstrip('/')}/"
    name = names.parse_s3(folder)
    if name is None:
        return lambda relative: _inside(folder, relative)
    return lambda relative: S3Name(name.bucket, f"{name.key}{relative}", name.place).internal()


def _inside(folder: str, relative: str) -> str:
    """Return the path of a file in a folder, from a name that others have given."""
    inside = os.path.normpath(relative.lstrip("/"))
    if inside in (".", "..") or inside.startswith("../"):
        raise InputError(f"{relative!r} would be outside of {folder}: copy it by its own name")
    return f"{folder}{inside}"


def _without_signs(relative: str) -> str:
    if "?" in relative or "#" in relative:
        raise InputError(
            f"{relative!r} has a sign of URLs, ? or #: copy it by itself, and give it another name"
        )
    return relative
