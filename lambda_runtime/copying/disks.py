"""Files of this machine that are copies."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from dask_root_lambda.protocol.errors import StoreError
from lambda_runtime.copying.content import Content, Flow

_ATTRIBUTE = "user.dask-root-lambda.source"
"""Extended attribute that says what a file is a copy of, where there are such."""
_BLOCK_BYTES = 8 << 20


def write(flow: Flow, path: Path, content: Content) -> None:
    """Write a file, which has its name when it is complete; its time of change is the source's."""
    temporary = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            while block := flow.read(_BLOCK_BYTES):
                file.write(block)
        if temporary.stat().st_size != content.size:
            raise StoreError(f"{path} has not all bytes that were written: copy it again")
        _mark(temporary, content)
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def is_copy(path: Path, content: Content) -> bool:
    """Tell whether a file is the copy of this content, unchanged: by size, time of change and attribute."""
    try:
        found = path.stat()
    except OSError:
        return False
    marked = _marked(path)
    same_time = content.mtime_ns != 0 and found.st_mtime_ns == content.mtime_ns
    return found.st_size == content.size and same_time and marked in (None, content.identity)


def _mark(path: Path, content: Content) -> None:
    if hasattr(os, "setxattr"):
        with contextlib.suppress(OSError):
            os.setxattr(path, _ATTRIBUTE, content.identity.encode())
    if content.mtime_ns:
        os.utime(path, ns=(content.mtime_ns, content.mtime_ns))


def _marked(path: Path) -> str | None:
    if hasattr(os, "getxattr"):
        with contextlib.suppress(OSError):
            return os.getxattr(path, _ATTRIBUTE).decode()
    return None
