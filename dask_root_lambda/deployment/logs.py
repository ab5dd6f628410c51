"""What the functions of a deployment logged, of a run, a task or a request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from dask_root_lambda.invocation import aws
from dask_root_lambda.invocation.discovery import Deployment
from dask_root_lambda.plan.graph import range_key
from dask_root_lambda.protocol.errors import ConfigurationError

_MAX_REQUESTS = 20
"""Requests of a run whose lines are fetched: each is a query."""

_MAX_LINES = 10_000
"""Lines among which a run is looked for."""

_SPAN = re.compile(r"(\d+)([smhd])")
_OF_REQUEST = re.compile(r"RequestId: ([0-9a-f-]{36})")
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
    stream: str = ""
    """The log of one environment, in which it is."""
    time_ms: int = 0
    """The same time, since the epoch."""
    mark: str = ""
    """``start`` or ``report``: Lambda's first and last line of an invocation."""


@dataclass(frozen=True)
class Matches:
    """Lines that were looked for."""

    lines: tuple[Line, ...]
    """In the order of their times."""
    cut: bool = False
    """Whether there are more than were asked for."""
    requests_left: int = 0
    """Invocations whose lines were not fetched."""


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
) -> Matches:
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
        Whether all lines of the requests are wanted that have such a line, those too that do not say to
        which request they belong: what the user's code printed.

    Raises
    ------
    AccessError, UnreachableError
        The log cannot be read, and why.
    """
    log = _Log(session, deployment.log_group, start)
    lines = log.read(text, limit)
    if not whole:
        return Matches(tuple(lines[:limit]), len(lines) > limit)
    requests = list(dict.fromkeys(line.request_id for line in lines if line.request_id))
    found: list[Line] = []
    for request in requests[:_MAX_REQUESTS]:
        found += log.of_request(request, limit)
        if len(found) > limit:
            break
    kept = _ordered(found or lines)
    return Matches(tuple(kept[:limit]), len(kept) > limit, max(0, len(requests) - _MAX_REQUESTS))


def run_of_range(
    session: aws.Session, deployment: Deployment, index: int, beginning: str, start: datetime
) -> str:
    """Return the run that has logged a range of this number last.

    Parameters
    ----------
    session
        AWS account and region.
    deployment
        Whose log.
    index
        Number of the range.
    beginning
        Of the run's name; returned, where none is found.
    start
        The first moment.
    """
    run, number = range_key(f"({re.escape(beginning)}[0-9a-f]*)", index)
    pattern = re.compile(f"{run}-{number},")
    found = _Log(session, deployment.log_group, start).read(f"-{index}, attempt", _MAX_LINES)
    runs = [match[1] for line in found if (match := pattern.search(line.message))]
    return runs[-1] if runs else beginning


class _Log:
    """A log group, from a moment on."""

    def __init__(self, session: aws.Session, group: str, start: datetime) -> None:
        self._client = session.client("logs")
        self._group = group
        self._start_ms = int(start.timestamp() * 1000)

    def read(self, text: str, limit: int) -> list[Line]:
        """Read the lines with this text, more than ``limit`` only if there are more."""
        # A quoted pattern is taken literally:
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        pattern = {"filterPattern": f'"{escaped}"'} if text else {}
        return self._query(limit, startTime=self._start_ms, **pattern)

    def of_request(self, request: str, limit: int) -> list[Line]:
        """Read all that its environment logged while it ran a request.

        An environment runs one at a time, and logs into a stream of its own.
        """
        own = self.read(request, limit)
        marks = [line for line in own if line.mark]
        if not marks or marks[0].mark != "start":
            return own
        span = {"startTime": marks[0].time_ms, "logStreamNames": [marks[0].stream]}
        if marks[-1].mark == "report":
            span["endTime"] = marks[-1].time_ms + 1
        return list(_between(self._query(limit, **span), request))

    def _query(self, limit: int, **options: Any) -> list[Line]:
        lines: list[Line] = []
        with aws.translated(f"the log {self._group} cannot be read"):
            pages = self._client.get_paginator("filter_log_events")
            for page in pages.paginate(logGroupName=self._group, **options):
                lines.extend(_read(page["events"]))
                if len(lines) > limit:
                    break
        return _ordered(lines)


def _between(lines: Iterable[Line], request: str) -> Iterator[Line]:
    """Take the lines from a request's first to its last."""
    inside = False
    for line in lines:
        own = line.request_id == request
        if inside and not own and line.mark == "start":
            return
        inside = inside or (own and line.mark == "start")
        if inside:
            yield replace(line, request_id=request)
        if own and line.mark == "report":
            return


def _ordered(lines: Iterable[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: line.time_ms)


def _read(events: Iterable[dict[str, Any]]) -> Iterator[Line]:
    for event in events:
        text, time_ms = str(event["message"]).rstrip(), int(event["timestamp"])
        moment = datetime.fromtimestamp(time_ms / 1000, timezone.utc)
        try:
            record = json.loads(text)
        except ValueError:
            record = None
        line = _line(moment.isoformat(timespec="milliseconds"), text, record)
        yield replace(line, time_ms=time_ms, stream=str(event.get("logStreamName", "")))


def _line(time_text: str, text: str, record: object) -> Line:
    """Make a line of text, or of a structured record: the function's own, or one of Lambda's.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
    """
    if isinstance(record, dict) and "message" in record:
        said = str(record["message"])
        trace = record.get("stackTrace") or ""
        return Line(
            time_text,
            said + (f"\n{trace}" if trace else ""),
            str(record.get("level", "")),
            str(record.get("requestId", record.get("AWSRequestId", ""))),
        )
    inner = record.get("record") if isinstance(record, dict) else None
    if isinstance(record, dict) and isinstance(inner, dict):
        kind = str(record.get("type", "")).removeprefix("platform.")
        details = {name: value for name, value in inner.items() if name != "requestId"}
        mark = kind if kind in ("start", "report") else ""
        return Line(time_text, json.dumps(details), kind, str(inner.get("requestId", "")), mark=mark)
    found = _OF_REQUEST.search(text)
    mark = {"START": "start", "REPORT": "report"}.get(text.partition(" ")[0], "") if found else ""
    return Line(time_text, text, request_id=found[1] if found else "", mark=mark)
