"""What this user's machine remembers of uploads that are under way: the next copy goes on with them.

S3 does not tell what an upload is to be a copy of, and not every S3 tells the checksums of its parts. So
these are kept in the state directory: a file for each target, which the process that copies there locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dask_root_lambda import state_home
from lambda_runtime.copying.content import Content
from lambda_runtime.copying.uploads import Part, Upload
from lambda_runtime.remote.names import S3Name

_FORMAT = 1
"""Version of the file format; files of other versions are not read."""
_DAMAGED = (OSError, ValueError, KeyError, TypeError)


class Unfinished:
    """What is remembered of the upload to one target.

    Parameters
    ----------
    path
        Where it is kept.
    file
        The file there, open and locked; None where nothing can be kept, or another process copies there.
    """

    def __init__(self, path: Path, file: IO[str] | None) -> None:
        self.identity = ""
        """Identity of the content that is copied."""
        self.upload: Upload | None = None
        """None where none is under way."""
        self.parts: dict[int, Part] = {}
        """Those that S3 has, by number."""
        self._path = path
        self._file = file

    @property
    def lasts(self) -> bool:
        """Whether the next copy will know of it."""
        return self._file is not None

    def begin(self, content: Content, upload: Upload) -> None:
        """Remember an upload, and none before it."""
        self.identity, self.upload, self.parts = content.identity, upload, {}
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.seek(0)
                self._file.truncate()
        self._append(
            {
                "format": _FORMAT,
                "identity": content.identity,
                "upload_id": upload.upload_id,
                "size": upload.size,
                "part_bytes": upload.part_bytes,
            }
        )

    def add(self, parts: Sequence[Part]) -> None:
        """Remember parts that S3 has."""
        self.parts.update({part.number: part for part in parts})
        self._append([[part.number, part.tag, part.crc32] for part in parts])

    def forget(self) -> None:
        """Forget the upload: it is complete, or was ended."""
        self.upload, self.parts = None, {}
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def recall(self, name: S3Name) -> None:
        """Read what an earlier copy has left, but for lines that are damaged."""
        if self._file is None:
            return
        with contextlib.suppress(*_DAMAGED):
            begin, *lines = filter(str.strip, self._file)
            head = json.loads(begin)
            if head["format"] != _FORMAT:
                return
            sizes = int(head["size"]), int(head["part_bytes"])
            self.identity, self.upload = str(head["identity"]), Upload(name, str(head["upload_id"]), *sizes)
            for line in lines:
                self._recall_parts(line)

    def _recall_parts(self, line: str) -> None:
        with contextlib.suppress(*_DAMAGED):
            self.parts.update({number: Part(number, tag, crc32) for number, tag, crc32 in json.loads(line)})

    def _append(self, document: Any) -> None:
        """Write a line, apart from one that was cut off; where it cannot be written, a copy begins anew."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write(f"\n{json.dumps(document, separators=(',', ':'))}\n")
                self._file.flush()


@contextmanager
def held(name: S3Name) -> Iterator[Unfinished]:
    """Yield what is remembered of the upload to a target, for this process alone."""
    key = hashlib.sha256(name.internal().encode()).hexdigest()[:32]
    path = state_home.home() / "copies" / f"{key}.jsonl"
    with contextlib.ExitStack() as closing:
        file = None
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            opened = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
            closing.enter_context(opened)
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file = opened
        record = Unfinished(path, file)
        record.recall(name)
        yield record
        if record.upload is None:
            record.forget()
