"""The dimuon analysis on a real AWS account: ``pytest tests/test_smoke.py --smoke-aws``.

Opt-in, since it costs money (some cents) and needs a deployment, which is found as users' scripts find it:
credentials, region and ``dask-root-lambda.aws`` settings from the environment.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dask_root_lambda import cli

CERN_EVENTS = 61_540_413
"""https://opendata.cern.ch/record/12341"""


@pytest.mark.timeout(1800)
def test_dimuon_on_aws(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """CERN's open data, read over root:// from functions: every event once, and the same numbers twice."""
    if not request.config.getoption("--smoke-aws"):
        pytest.skip("runs on a real AWS account, for money: ask for it with --smoke-aws")
    runs = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}.json"
        arguments = ["--execution", "lambda", "--npartitions", "64", "--output", str(tmp_path)]
        assert cli.main(["demo", *arguments, "--json", str(path)]) == 0
        runs.append(json.loads(path.read_text()))
    first, second = runs
    assert first["cut_flow"]["all_events"] == CERN_EVENTS
    assert (first["cut_flow"], first["mean_mass_gev"]) == (second["cut_flow"], second["mean_mass_gev"])
    assert first["report"]["total"]["failures"] == 0
