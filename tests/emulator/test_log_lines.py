"""The wording and arithmetic of Lambda's own log lines."""

from __future__ import annotations

import json
import signal

import pytest

from dask_root_lambda.emulator.log_lines import JsonLines, TextLines, Usage
from dask_root_lambda.emulator.logs import EVENT_BYTES, STREAMS, LogStore
from dask_root_lambda.emulator.outcomes import describe_exit


@pytest.mark.parametrize(
    ("duration_ms", "init_ms", "billed_ms"),
    [(1.0, None, 1), (1.01, None, 2), (0.2, None, 1), (2.85, 106.5, 110), (3000.0000000001, None, 3000)],
)
def test_billing_rounds_up_to_a_millisecond(
    duration_ms: float, init_ms: float | None, billed_ms: int
) -> None:
    """Duration and initialisation together, rounded up: https://aws.amazon.com/lambda/pricing/."""
    assert Usage(duration_ms, 128, 30, init_ms).billed_ms == billed_ms


def test_report_is_worded_as_aws_does() -> None:
    """Fields in AWS's order, separated by tabs.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
    """
    usage = Usage(133.614, 128, 31, 80.0, status="error", error_type="Runtime.ExitError")
    assert TextLines().report("id", usage) == (
        "REPORT RequestId: id\tDuration: 133.61 ms\tBilled Duration: 214 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 31 MB\tInit Duration: 80.00 ms\tStatus: error\tError Type: Runtime.ExitError\t\n"
    )


def test_a_restore_is_reported_and_billed() -> None:
    """The function's part of the restore is billed with the duration.

    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-monitoring.html
    """
    usage = Usage(91.83, 512, 126, restore_ms=1029.45, billed_restore_ms=161.2)
    assert TextLines().report("id", usage) == (
        "REPORT RequestId: id\tDuration: 91.83 ms\tBilled Duration: 254 ms\tMemory Size: 512 MB\t"
        "Max Memory Used: 126 MB\tRestore Duration: 1029.45 ms\tBilled Restore Duration: 162 ms\t\n"
    )
    assert TextLines().restore_report(1236.04, "error", "Runtime.ExitError") == (
        "RESTORE_REPORT Restore Duration: 1236.04 ms\tStatus: error\tError Type: Runtime.ExitError\n"
    )


def test_json_says_the_same() -> None:
    """Platform records, as the Telemetry API words them.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
    """
    lines = JsonLines(lambda: 1_700_000_000.5)
    usage = Usage(1.5, 128, 30, 80.25, status="error", error_type="Runtime.ExitError")
    report = json.loads(lines.report("id", usage))
    assert (report["time"], report["type"]) == ("2023-11-14T22:13:20.500Z", "platform.report")
    assert report["record"] == {
        "requestId": "id", "status": "error", "errorType": "Runtime.ExitError",
        "metrics": {"durationMs": 1.5, "billedDurationMs": 82, "memorySizeMB": 128, "maxMemoryUsedMB": 30,
                    "initDurationMs": 80.25},
    }  # fmt: skip
    start = json.loads(lines.start("id", "3"))
    assert (start["type"], start["record"]) == ("platform.start", {"requestId": "id", "version": "3"})


def test_init_report_is_worded_as_aws_does() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html."""
    expected = "INIT_REPORT Init Duration: 1236.04 ms\tPhase: init\tStatus: timeout\n"
    assert TextLines().init_report(1236.04, "init", "timeout") == expected


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (3 << 8, " with error: exit status 3"),
        (0, " without providing a reason"),
        (signal.SIGSEGV, " with error: signal: segmentation fault"),
        (signal.SIGSEGV | 0x80, " with error: signal: segmentation fault"),
        (signal.SIGKILL, " with error: signal: killed"),
        (40, " with error: signal: signal 40"),
    ],
)
def test_an_exit_is_worded_as_aws_does(status: int, words: str) -> None:
    """Wait statuses, core dumps included, become the words after "Runtime exited"."""
    assert describe_exit(status) == words


def test_output_without_an_end_of_line_does_not_swallow_lambdas_lines() -> None:
    """What a process leaves unfinished ends before Lambda writes."""
    stream = LogStore().open("group", "1")
    stream.write(b"no end of line")
    stream.write_line("END\n")
    assert [event.message for event in stream.events] == ["no end of line", "END"]


def test_a_long_line_becomes_several_events() -> None:
    """CloudWatch Logs has no event over 256 KB."""
    stream = LogStore().open("group", "1")
    stream.write(b"x" * (2 * EVENT_BYTES + 1) + b"\n")
    assert [len(event.message) for event in stream.events] == [EVENT_BYTES, EVENT_BYTES, 1]


def test_logs_are_bounded() -> None:
    """The store forgets the oldest streams, and a stream its oldest events."""
    store = LogStore()
    first = store.open("group", "1")
    for _ in range(STREAMS):
        store.open("group", "1")
    assert len(store.streams) == STREAMS
    assert (first.group, first.name) not in store.streams
