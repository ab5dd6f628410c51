"""Functions' logs as CloudWatch Logs has them: handed to moto when somebody asks.

Most invocations' logs are never read. So they wait in the emulator's bounded store, which costs next to
nothing, until a request for Logs comes; then moto gets what it does not have yet, and answers.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dask_root_lambda.emulator.endpoint import Request, Response
from dask_root_lambda.emulator.logs import EVENTS_PER_STREAM, LogEvent, LogStore

logger = logging.getLogger(__name__)

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
BATCH_EVENTS = 10_000
AHEAD_S = 7200.0
BATCH_BYTES = 1_048_576
EVENT_OVERHEAD_BYTES = 26

CLOCK_MARGIN_S = 60.0


@dataclass(frozen=True)
class Batch:
    """Events that go to one stream together."""

    group: str
    """Log group."""
    stream: str
    """Log stream."""
    events: list[LogEvent]
    """In their order."""


class CloudWatch:
    """Hands logs over.

    Parameters
    ----------
    region
        Of the logs.
    ask
        Sends a request to moto.
    trim
        Given group, stream and a number, lets moto forget all but so many events.
    """

    def __init__(
        self, region: str, ask: Callable[[Request], Response], trim: Callable[[str, str, int], None]
    ) -> None:
        self._region = region
        self._ask = ask
        self._trim = trim
        # A request must not be answered while the logs that came before it are still on their way.
        self._lock = threading.Lock()

    def hand_over(self, batches: list[Batch]) -> None:
        """Give moto what it does not have; called in the thread that then asks moto for logs."""
        with self._lock:
            for batch in batches:
                names = {"logGroupName": batch.group, "logStreamName": batch.stream}
                self._call("CreateLogGroup", {"logGroupName": batch.group})
                self._call("CreateLogStream", names)
                # A virtual clock may be ahead of moto's; another time is less of a loss than no event.
                latest_ms = int((time.time() + AHEAD_S - CLOCK_MARGIN_S) * 1000)
                for events in _cut(batch.events, latest_ms):
                    self._call("PutLogEvents", {**names, "logEvents": events})
                self._trim(batch.group, batch.stream, EVENTS_PER_STREAM)

    def _call(self, operation: str, parameters: dict[str, Any]) -> None:
        scope = f"emulator/20260101/{self._region}/logs/aws4_request"
        headers = {
            "authorization": f"AWS4-HMAC-SHA256 Credential={scope}",
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": f"Logs_20140328.{operation}",
        }
        body = json.dumps(parameters).encode()
        response = self._ask(Request("POST", "/", tuple(headers.items()), headers, body, True))
        # Groups and streams that exist are refused with 400, and are what is wanted.
        refused = response.status >= 400 or b"rejectedLogEventsInfo" in response.body
        if refused and operation == "PutLogEvents":
            logger.warning("moto refused log events: %s", response.body[:200])


def take_pending(store: LogStore) -> list[Batch]:
    """Take what was not handed over yet out of a store; on the event loop's thread."""
    batches = []
    for (group, name), stream in store.streams.items():
        if stream.events:
            batches.append(Batch(group, name, list(stream.events)))
            stream.events.clear()
    return batches


def _cut(events: list[LogEvent], latest_ms: int) -> list[list[dict[str, Any]]]:
    """Cut events into pieces that one call takes, none of them later than it takes."""
    pieces: list[list[dict[str, Any]]] = [[]]
    size = 0
    for event in events:
        event_bytes = len(event.message.encode()) + EVENT_OVERHEAD_BYTES
        if len(pieces[-1]) >= BATCH_EVENTS or size + event_bytes > BATCH_BYTES:
            pieces.append([])
            size = 0
        # CloudWatch Logs has no empty messages; what was an empty line becomes a space.
        timestamp_ms = min(event.timestamp_ms, latest_ms)
        pieces[-1].append({"timestamp": timestamp_ms, "message": event.message or " "})
        size += event_bytes
    return pieces
