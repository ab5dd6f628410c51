"""REPORT lines are read as AWS writes them."""

from __future__ import annotations

import json

import pytest

from dask_root_lambda.cost.billing import Billing, parse_report

WARM = (
    "START RequestId: 8f5 Version: $LATEST\nEND RequestId: 8f5\n"
    "REPORT RequestId: 8f5\tDuration: 1234.56 ms\tBilled Duration: 1235 ms\tMemory Size: 1769 MB\t"
    "Max Memory Used: 602 MB\t\n"
)
COLD = WARM.replace("Billed Duration: 1235 ms", "Billed Duration: 3736 ms").replace(
    "602 MB\t", "602 MB\tInit Duration: 2500.70 ms\t"
)
RESTORED = WARM.replace("Billed Duration: 1235 ms", "Billed Duration: 1247 ms").replace(
    "602 MB\t", "602 MB\tRestore Duration: 310.00 ms\tBilled Restore Duration: 12 ms\t"
)


def structured(**more: float) -> str:
    """The report of functions that log JSON."""
    metrics = {"durationMs": 1234.56, "billedDurationMs": 1235, "memorySizeMB": 1769, "maxMemoryUsedMB": 602}
    record = {"requestId": "8f5", "metrics": {**metrics, **more}, "status": "success"}
    return json.dumps({"time": "2026-01-01T00:00:00.000Z", "type": "platform.report", "record": record})


STRUCTURED = structured()
STRUCTURED_COLD = structured(billedDurationMs=3736, initDurationMs=2500.7)
STRUCTURED_RESTORED = structured(billedDurationMs=1247, restoreDurationMs=310, billedRestoreDurationMs=12)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (WARM, Billing(1.23456, 1.235, 1769, 602.0)),
        (COLD, Billing(1.23456, 3.736, 1769, 602.0, init_s=2.5007)),
        (RESTORED, Billing(1.23456, 1.247, 1769, 602.0, restore_s=0.31)),
        (STRUCTURED, Billing(1.23456, 1.235, 1769, 602.0)),
        (STRUCTURED_COLD, Billing(1.23456, 3.736, 1769, 602.0, init_s=2.5007)),
        (STRUCTURED_RESTORED, Billing(1.23456, 1.247, 1769, 602.0, restore_s=0.31)),
        ("printed without an end of line" + STRUCTURED, Billing(1.23456, 1.235, 1769, 602.0)),
        (f'user said "platform.report"\n{WARM}', Billing(1.23456, 1.235, 1769, 602.0)),
    ],
)
def test_report_lines(log, expected):
    """Warm, cold, restored and structured reports give the same figures; init tells a cold start."""
    found = parse_report(log)
    assert found is not None
    assert found == Billing(**{name: pytest.approx(value) for name, value in vars(expected).items()})
    assert found.cold == (expected.init_s is not None or expected.restore_s is not None)


@pytest.mark.parametrize(
    "log",
    [
        "",
        "END RequestId: 8f5\n",
        WARM[: WARM.index("Billed")],
        '{"type": "platform.report"',
        STRUCTURED[:-30],
    ],
)
def test_a_report_that_is_missing_or_cut_off_is_none(log):
    """The log's tail is 4 KB; what is not whole is not guessed."""
    assert parse_report(log) is None


def test_lambdas_gigabyte_is_1024_megabytes():
    """1,769 MB for a second are 1.7275 GB-seconds: https://aws.amazon.com/lambda/pricing/"""
    assert Billing(billed_s=1.0, memory_mb=1769).gb_seconds == pytest.approx(1.7275390625)
