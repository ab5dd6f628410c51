"""What the functions of a deployment logged, of a run, a task or a request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from dask_root_lambda import aws
from dask_root_lambda.discovery import Deployment
from dask_root_lambda.protocol.errors import ConfigurationError

_MAX_REQUESTS = 20
"""Requests of a run whose lines are fetched: each is a query."""

_SPAN = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Line:
    """An event of the log."""

    time: str
    """UTC, in ISO form."""
    message: str
    """What was logged."""
    level: str = ""
    """INFO, WARN, ...; ``report`` and the like of Lambda's own lines."""
    request_id: str = ""
    """The invocation that it belongs to."""


def seconds(text: str) -> int:
    """Read a span of time, such as 90s, 15m, 3h or 2d.

    Raises
    ------
    ConfigurationError
        It is none.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"{text!r} is no span of time: use 90s, 15m, 3h or 2d")
    return int(found[1]) * _SECONDS[found[2]]


def find(
    session: aws.Session, deployment: Deployment, text: str, start: datetime, limit: int, *, whole: bool
) -> list[Line]:
    """Search the log of a deployment.

    Parameters
    ----------
    session
        AWS account and region.
    deployment
        Whose log.
    text
        What lines have to contain; empty for all.
    start
        The first moment.
    limit
        Lines at most.
    whole
        Whether all lines of the requests are wanted that have such a line.

    Raises
    ------
    AccessError, UnreachableError
        The log cannot be read, and why.
    """
    lines = _query(session, deployment.log_group, text, start, limit)
    if not whole:
        return lines
    requests = list(dict.fromkeys(line.request_id for line in lines if line.request_id))[:_MAX_REQUESTS]
    found = [
        line for request in requests for line in _query(session, deployment.log_group, request, start, limit)
    ]
    return _ordered(found or lines)[:limit]


def _query(session: aws.Session, group: str, text: str, start: datetime, limit: int) -> list[Line]:
    # A quoted pattern is taken literally:
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    pattern = {"filterPattern": f'"{escaped}"'} if text else {}
    lines: list[Line] = []
    with aws.translated(f"the log {group} cannot be read"):
        pages = session.client("logs").get_paginator("filter_log_events")
        begin = {"logGroupName": group, "startTime": int(start.timestamp() * 1000)}
        for page in pages.paginate(**begin, **pattern):
            lines.extend(_read(page["events"]))
            if len(lines) >= limit:
                break
    return _ordered(lines)[:limit]


def _ordered(lines: Iterable[Line]) -> list[Line]:
    return sorted(dict.fromkeys(lines), key=lambda line: line.time)


def _read(events: Iterable[dict[str, object]]) -> Iterator[Line]:
    for event in events:
        moment = datetime.fromtimestamp(float(str(event["timestamp"])) / 1000, timezone.utc)
        text, time_text = str(event["message"]).rstrip(), moment.isoformat(timespec="milliseconds")
        try:
            record = json.loads(text)
        except ValueError:
            record = None
        yield _line(time_text, text, record if isinstance(record, dict) else {})


def _line(time_text: str, text: str, record: dict[str, object]) -> Line:
    """Make a line of text, or of a structured record: the function's own, or one of Lambda's.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
    """
    if "message" in record:
        said = str(record["message"])
        trace = record.get("stackTrace") or ""
        return Line(
            time_text,
            said + (f"\n{trace}" if trace else ""),
            str(record.get("level", "")),
            str(record.get("requestId", record.get("AWSRequestId", ""))),
        )
    inner = record.get("record")
    if isinstance(inner, dict):
        kind = str(record.get("type", "")).removeprefix("platform.")
        details = {name: value for name, value in inner.items() if name != "requestId"}
        return Line(time_text, json.dumps(details), kind, str(inner.get("requestId", "")))
    found = re.search(r"RequestId: ([0-9a-f-]{36})", text)
    return Line(time_text, text, request_id=found[1] if found else "")
