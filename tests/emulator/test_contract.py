"""The option that points the contract suite at real AWS, as far as that is seen without an account."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)

HERE = Path(__file__).parent


def test_real_aws_is_for_the_contract_suite_only() -> None:
    """Tests that start an emulator of their own are skipped, whatever their fixtures are called."""
    chosen = (
        "test_contract_invoke.py::test_no_payload_is_an_empty_object",
        "test_events.py::test_idle_time_can_be_skipped",
        "test_access.py::test_the_root_user_may_do_everything",
    )
    command = [sys.executable, "-m", "pytest", "--real-aws", "-q", "-p", "no:cacheprovider", "-rs"]
    # Without a role, what would go to AWS ends at once.
    ended = subprocess.run(
        [*command, *(str(HERE / name) for name in chosen)],
        capture_output=True, text=True, timeout=100, check=False, cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
    )  # fmt: skip
    assert "2 skipped, 1 error" in ended.stdout, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert "--real-aws needs --real-aws-role" in ended.stdout
