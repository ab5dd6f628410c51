"""What this user's machine remembers of copies on XRootD servers: which content they are.

Such a server keeps neither a file's time of change as it was, nor a note of ours beside it. A file there is a
copy if it was written here of the same content, and has the size and the time that it had then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from dask_root_lambda import state_home
from lambda_runtime.copying import transfer
from lambda_runtime.copying.content import Content, without_options


def is_copy(target: str, content: Content) -> bool:
    """Tell whether a file on a server is a copy of this content, as it was written."""
    try:
        record = json.loads(_path(target).read_text())
    except (OSError, ValueError):
        return False
    return bool(record == [content.identity, *(transfer.state(target) or ())])


def remember(target: str, content: Content, mtime_ns: int) -> None:
    """Remember a copy.

    Parameters
    ----------
    target
        The file on a server.
    content
        What it is a copy of.
    mtime_ns
        When the server says that it was changed last, ns since the epoch.
    """
    path = _path(target)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump([content.identity, content.size, mtime_ns], file)
        os.replace(file.name, path)  # noqa: PTH105  (a string)


def _path(target: str) -> Path:
    key = hashlib.sha256(without_options(target).encode()).hexdigest()[:32]
    return state_home.home() / "copies" / f"{key}.json"
