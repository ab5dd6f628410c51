"""The dimuon analysis in functions that Terraform made, found as users' scripts find them: by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import dask
import pytest
import ROOT

from dask_root_lambda import LambdaExecutor
from dask_root_lambda.demo import analysis, generator
from dask_root_lambda.demo.analysis import Analysis

from .conftest import NAME, REGION, Deployment

pytestmark = pytest.mark.timeout(600)

PAIRS = "nMuon == 2 && Muon_charge[0] != Muon_charge[1]"
MASS = "ROOT::VecOps::InvariantMass(Muon_pt, Muon_eta, Muon_phi, Muon_mass)"


@pytest.fixture
def configured(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A user's configuration: a region and a name."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with dask.config.set(
        {
            "dask-root-lambda.aws.deployment": NAME,
            "dask-root-lambda.aws.region": REGION,
            "dask-root-lambda.aws.endpoint-url": deployment.emulator.endpoint,
        }
    ):
        yield deployment


@pytest.fixture(params=["generated", "cms"])
def muons(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Generated events, and real ones where they are beside the project."""
    if request.param == "cms":
        return str(request.getfixturevalue("dimuon_file"))
    return str(generator.dataset(60_000, tmp_path_factory.mktemp("muons")))


def contents(histogram: Any) -> list[float]:
    return [histogram.GetBinContent(index) for index in range(histogram.GetNbinsX() + 2)]


def test_the_dimuon_spectrum_is_local_roots(configured: Deployment, muons: str) -> None:
    """Every bin and every count; billed as functions of the memory that Terraform gave them."""
    outcome = analysis.run(Analysis((muons,), execution="lambda", npartitions=3, concurrency=2))
    local = ROOT.RDataFrame("Events", muons)
    pairs = local.Filter(PAIRS).Define("mass", MASS)
    expected = pairs.Histo1D(("m", "", analysis.BINS, analysis.LOW_GEV, analysis.HIGH_GEV), "mass")
    flow = outcome.cut_flow
    assert contents(outcome.spectrum) == contents(expected)
    assert (flow.all_events, flow.opposite_charge) == (local.Count().GetValue(), pairs.Count().GetValue())
    total = outcome.report.total
    assert total.failures == 0
    assert total.gb_seconds == pytest.approx(total.billed_s * 1769 / 1024)


def test_functions_are_what_terraform_made(configured: Deployment) -> None:
    """Name, memory, version behind the alias, log group and variables, as code in the function sees them."""
    with LambdaExecutor(execution="lambda", concurrency=1) as executor:
        seen = executor.submit(lambda: dict(os.environ)).result(60)
    outputs = configured.outputs
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == outputs["function"]
    assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "1769"
    assert seen["AWS_LAMBDA_FUNCTION_VERSION"] == outputs["versions"][NAME]
    assert seen["AWS_LAMBDA_LOG_GROUP_NAME"] == outputs["log_group"]
    assert seen["AWS_LAMBDA_LOG_FORMAT"] == "JSON"
    assert seen["DASK_ROOT_LAMBDA_STORE"] == outputs["store"]
    assert seen["DASK_ROOT_LAMBDA_TOKEN_SECRET"] == outputs["token_secret_arn"]
    assert seen["AWS_REGION"] == REGION
