"""Mappers, unpickled: the user's code declared and run, the files checked."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ROOT

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.protocol.task import DataFile, Mapper, Program, session
from lambda_runtime import IN_FUNCTION, attachments, storage
from lambda_runtime.diagnostics import user_code
from lambda_runtime.ranges import FileRange
from lambda_runtime.remote.names import shown
from lambda_runtime.surroundings import surroundings

_KEPT = 8
"""Mappers that a process remembers."""


@dataclass(frozen=True)
class LoadedMapper:
    """A mapper with its program unpickled and the user's code declared."""

    mapper: Mapper
    program: Program
    indices: dict[str, list[int]]
    """``file/tree``, as DistRDF writes it, -> where it stands in the file table."""
    checked: set[str] = field(default_factory=set)
    """Files that have been found to be those that the client saw."""
    boundaries: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Tree and file -> its clusters, see `lambda_runtime.ranges.FileRange`."""

    @classmethod
    def load(cls, mapper: Mapper) -> LoadedMapper:
        """Unpack the user's files, declare the user's code, run ``initialize``.

        Raises
        ------
        CompilationError, UserCodeError
            The user's code did not compile, or raised.
        """
        if mapper.session == session():
            attachments.check(mapper.attachments)
        else:
            attachments.unpack(mapper.attachments)
        with user_code("the C++ code given to DistributeCppCode"):
            if mapper.code and not ROOT.gInterpreter.Declare(mapper.code):
                raise RuntimeError("declaration failed")
        with user_code("the function given to initialize", python=True):
            loaded = cls.read(mapper)
            loaded.program.initialize()
        if IN_FUNCTION:
            surroundings.keep()
        return loaded

    @classmethod
    def read(cls, mapper: Mapper) -> LoadedMapper:
        """Unpickle a mapper's program, without bringing anything of the user's into the process."""
        program: Program = wire.loads(mapper.program)
        indices: dict[str, list[int]] = {}
        for index, file in enumerate(mapper.files):
            indices.setdefault(f"{file.url}/{file.tree}", []).append(index)
        return cls(mapper, program, indices)

    def range(self, index: int, interval: Interval) -> Any:
        """Make DistRDF's range of an interval; what one range learns of the files, the next ones know."""
        made = self.program.range(index, interval)
        if isinstance(made, FileRange):
            made.boundaries = self.boundaries
        return made

    def by_index(self, entries_by_key: dict[str, int]) -> dict[int, int]:
        """Return entries by index in the file table; a file listed twice counts twice."""
        return {index: entries for key, entries in entries_by_key.items() for index in self.indices[key]}

    def check_files(self, data_range: Any) -> None:
        """Compare files of a range, and friends, with those that the client saw, each once in this process.

        Parameters
        ----------
        data_range
            DistRDF's range.

        Raises
        ------
        InputError
            A file is missing, or not the one that the client saw.
        """
        for file in self.files_of(data_range):
            if file.url not in self.checked:
                _check_file(file)
                self.checked.add(file.url)

    def files_of(self, data_range: Any) -> list[DataFile]:
        """Return the files of a range, and those of friends that it reads."""
        if not self.mapper.files:
            return []
        own = slice(data_range.first_file_idx, data_range.last_file_idx)
        names = zip(data_range.filenames[own], data_range.treenames[own], strict=True)
        read = [self.mapper.files[self.indices[f"{url}/{tree}"][0]] for url, tree in names]
        friends = {file.url: file for file in self.mapper.friends}
        return [*read, *(friends[url] for url in data_range.friend_urls())]


def _check_file(file: DataFile) -> None:
    found = storage.compare(file.url, file.identity)
    if found is not None:
        raise replaced(file, found)


def replaced(file: DataFile, found: FileIdentity) -> InputError:
    """Make the error of a file that is not the one that the client saw."""
    return InputError(
        f"{shown(file.url)} is not the file it was when the RDataFrame was made ({found.size:,} bytes, then "
        f"{file.identity.size:,}): make the RDataFrame again"
    )


class Mappers:
    """The mappers that this process used last."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[str, LoadedMapper] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: str, fetch: Callable[[], bytes]) -> LoadedMapper:
        """Return the mapper with this digest, loading it the first time.

        Parameters
        ----------
        digest
            SHA-256 of the mapper's blob.
        fetch
            Gets the blob; called only where the mapper is not known yet.
        """
        with self._lock:
            if digest not in self._loaded:
                self._loaded[digest] = LoadedMapper.load(wire.loads_as(Mapper, fetch()))
            self._loaded.move_to_end(digest)
            while len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
            return self._loaded[digest]
