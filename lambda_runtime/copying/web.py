"""Files on web servers."""

from __future__ import annotations

from lambda_runtime.copying.content import Content
from lambda_runtime.remote import objects


def look(url: str) -> Content:
    """Ask a server for a file's size and version."""
    seen = objects.look(url)
    return Content(url, seen.size, seen.tag or str(seen.mtime_ns), seen.mtime_ns)


def read(content: Content, offset: int, size: int) -> bytes:
    """Read a part of a file, of the version that was looked at."""
    tag = content.version if content.version.startswith('"') else ""
    return objects.part(content.url, tag, offset, size)
