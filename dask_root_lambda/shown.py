"""What objects look like on a terminal and in a notebook: rows of a name and a value, without secrets."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit, urlunsplit

Rows = Sequence[tuple[str, str]]

_LEFT = "style='text-align:left'"


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Return rows as a table of HTML; the first of each row is its name."""
    lines = [f"<tr>{''.join(f'<th {_LEFT}>{html.escape(each)}</th>' for each in head)}</tr>"] if head else []
    for name, *values in rows:
        cells = "".join(f"<td {_LEFT}>{html.escape(value)}</td>" for value in values)
        lines.append(f"<tr><th {_LEFT}>{html.escape(name)}</th>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def link(url: str) -> str:
    """Return a link to a page, as HTML."""
    return f"<a href='{html.escape(url)}' target='_blank'>{html.escape(url)}</a>"


def without_secrets(url: str) -> str:
    """Return a URL without passwords, and without its query, in which tokens and signatures are.

    What is no URL stays.
    """
    if "://" not in url:
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "..." if parts.query else "", ""))


def few(items: Sequence[str], most: int) -> list[str]:
    """Return the first of many items, and how many more there are."""
    more = [f"and {len(items) - most:,} more"] if len(items) > most else []
    return [*items[:most], *more]
