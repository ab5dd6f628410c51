"""The copy of one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lambda_runtime.copying import buckets, disks
from lambda_runtime.copying.content import Content
from lambda_runtime.copying.stream import flowing
from lambda_runtime.remote import names


def state(target: str) -> tuple[int, int] | None:
    """Ask for the size and the last change, in ns, of a file on an XRootD server; None if there is none."""
    from lambda_runtime.copying import xrootd

    return xrootd.state(target)


def is_there(content: Content, target: str) -> bool:
    """Tell whether a path, or an object in S3, is a copy of this content already.

    Raises
    ------
    InputError
        The bucket cannot be asked.
    """
    name = names.parse_s3(target)
    if name is None:
        return disks.is_copy(Path(target), content)
    return buckets.stored(name) == (content.size, content.identity)


def _nobody(n_bytes: int) -> None:
    """Nobody watches a copy in a function."""


def copy(content: Content, target: str, watch: Callable[[int], None] = _nobody) -> int:
    """Copy a file; return when its copy was changed last, ns, where that tells it from others, else 0.

    Parameters
    ----------
    content
        The file, as it was looked at.
    target
        A path, a URL of XRootD, or the internal name of an object in S3.
    watch
        Called with the number of bytes that have come; what it raises stops the copy.

    Raises
    ------
    InputError
        The file cannot be read, or changed meanwhile; or the bucket refuses.
    StoreError
        The copy cannot be written, or is not what was sent.
    """
    name = names.parse_s3(target)
    watch(0)
    if name is not None and buckets.is_within(content, name) and buckets.duplicate(content, name):
        watch(content.size)
        return 0
    with flowing(content, watch) as flow:
        if name is not None:
            buckets.write(flow, name, content, watch)
        elif names.is_xrootd(target):
            from lambda_runtime.copying import xrootd

            return xrootd.write(flow, target, content)
        else:
            disks.write(flow, Path(target), content)
    return 0
