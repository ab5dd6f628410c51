"""What frames and results look like, on a terminal and in a notebook; nothing is computed for it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import ROOT
from ROOT._distrdf import HeadNode

from dask_root_lambda import shown
from dask_root_lambda.rdf import whole
from lambda_runtime.remote import names

_FILES, _COLUMNS, _LONGEST = 5, 40, 60
"""Files, columns and characters of an argument that are shown."""


def of_frame(node: Any) -> str:
    """Describe a node of a frame in a line: the frame, and what is booked down to the node."""
    head, chain = node.get_head(), []
    while node.operation is not None:
        chain.append(_written(node.operation) if "entry_range" not in vars(node) else _range(node))
        node = node.parent
    return f"<{'.'.join([f'RDataFrame({_source(head)})', *reversed(chain)])}>"


def of_frame_as_html(node: Any) -> str:
    """Describe a node of a frame as HTML: its files, entries and columns."""
    frame = node.rdf_node
    defined = {*map(str, frame.GetDefinedColumnNames())}
    columns = [
        (name, str(frame.GetColumnType(name)), "Define" if name in defined else "data set")
        for name in map(str, list(frame.GetColumnNames())[:_COLUMNS])
    ]
    more = len(frame.GetColumnNames()) - len(columns)
    if more > 0:
        columns.append((f"and {more:,} more", "", ""))
    line = html.escape(of_frame(node))
    return f"<p><code>{line}</code></p>{shown.table(_rows(node.get_head()))}" + shown.table(
        columns, ("column", "type", "origin")
    )


def of_result(node: Any, *, computed: bool) -> str:
    """Describe a result in a line."""
    return f"<Result of {_written(node.operation)}{', computed' if computed else ''}>"


def of_result_as_html(node: Any, value: Any) -> str:
    """Describe a result as HTML; a value of None is not computed yet."""
    line = f"<code>{html.escape(of_result(node, computed=value is not None))}</code>"
    if value is None:
        return f"<p>{line} It is computed when it is touched, or by dask.compute.</p>"
    if hasattr(value, "_repr_html_"):
        return f"<p>{line}</p>{value._repr_html_()}"
    text = str(value.AsString()) if isinstance(value, ROOT.RDF.RCutFlowReport) else str(value)
    return f"<p>{line}</p><pre>{html.escape(text)}</pre>"


def _rows(head: Any) -> Iterator[tuple[str, ...]]:
    entries = whole.known_entries(head)
    if not isinstance(head, HeadNode.EmptySourceHeadNode):
        files = [shown.without_secrets(name) for name in head.inputfiles]
        yield "tree", ", ".join(shown.few(sorted(set(_trees(head))), _FILES))
        yield "files", ", ".join(shown.few(files, _FILES))
    yield "entries", "not counted yet" if entries is None else f"{entries:,}"
    yield "npartitions", "as many as run at once" if head.npartitions is None else f"{head.npartitions:,}"


def _source(head: Any) -> str:
    if isinstance(head, HeadNode.EmptySourceHeadNode):
        return f"{int(head.nentries):,} entries"
    n_files = len(head.inputfiles)
    trees = ", ".join(map(repr, shown.few(sorted(set(_trees(head))), 1)))
    return f"{trees}, {n_files:,} file{'s' if n_files > 1 else ''}"


def _trees(head: Any) -> list[str]:
    trees = head.subnames if isinstance(head, HeadNode.RNTupleHeadNode) else head.subtreenames
    return [str(name).lstrip("/") for name in trees]


def _range(node: Any) -> str:
    chosen = node.entry_range
    return f"Range({chosen.begin}, {chosen.end}, {chosen.stride})"


def _written(operation: Any) -> str:
    arguments = [*map(_argument, operation.args)]
    arguments += [f"{name}={_argument(item)}" for name, item in operation.kwargs.items()]
    return f"{operation.name}({', '.join(arguments)})"


def _argument(item: Any) -> str:
    if not isinstance(item, str | int | float | list | tuple):
        return getattr(item, "__name__", type(item).__name__)
    text = repr(shown.without_secrets(names.shown(item)) if isinstance(item, str) else item)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
