"""A deployment is found by its name, and its absence says what to do."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from dask_root_lambda import LambdaExecutor
from dask_root_lambda.config import Settings
from dask_root_lambda.invocation import aws, discovery
from dask_root_lambda.invocation.cancellation import Cancellation
from dask_root_lambda.invocation.invokers import AwsInvoker
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import (
    AccessError,
    ConfigurationError,
    DeploymentError,
    DeploymentNotFoundError,
    FunctionNotFoundError,
)
from dask_root_lambda.protocol.task import Body, Request
from tests.deployed import make_deployment


@pytest.fixture(autouse=True)
def _user(monkeypatch, tmp_path, aws_endpoint):
    """A user of the emulated account, with a state directory of the test's own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def find(name):
    return discovery.find(aws.Session(Settings.resolve()), name)


def test_a_deployment_is_found_with_all_that_a_client_needs():
    """Ten parameters, in one or more pages, become one value."""
    tiers = {"tiers": '{"1769": "a", "3538": "b"}'}
    name = make_deployment(version="0.1.0", **tiers)
    found = find(name)
    assert found == discovery.Deployment(
        name=name,
        region="us-east-1",
        function=name,
        qualifier="live",
        bucket=name,
        store=f"s3://{name}/partial",
        log_group=f"/aws/lambda/{name}",
        image="image:1",
        memory_mb=1769,
        tiers={1769: "a", 3538: "b"},
        version="0.1.0",
    )


def test_an_executor_runs_on_the_deployment_that_it_finds():
    """``deployment="name"`` is enough: the alias is invoked, and the journal tells what it cost."""
    name = make_deployment()
    with LambdaExecutor("lambda", concurrency=1, deployment=name) as executor:
        assert executor.submit(pow, 2, 10).result(60) == 1024
        usd = executor.report().total.usd
    (path,) = _journals()
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["invocations"] == 1
    assert json.loads(line)["usd"] == pytest.approx(usd) != 0
    assert path.parent.name == name
    assert path.parent.parent.name == "us-east-1"


def test_larger_functions_of_the_deployment_are_looked_up_when_they_are_needed():
    """They are known by their memory; the alias of each is invoked."""
    larger = make_deployment(settings={"MemorySize": 3538})
    name = make_deployment()
    tiers = json.dumps({"10240": "gone", "3538": larger, "1769": name})
    boto3.client("ssm").put_parameter(Name=f"/dask-root-lambda/{name}/tiers", Value=tiers, Overwrite=True)
    invoker = AwsInvoker(Settings.resolve(deployment=name, concurrency=1))
    assert invoker.tiers == (1769, 3538, 10240)
    blob = Body.of(wire.dumps((pow, (2, 10), {})))
    request = Request("call", "task", (blob,), result_key="calls/1/result", seal_key=b"k" * 32)
    answers = [invoker.invoke(replace(request, tier=tier), Cancellation()) for tier in (0, 1)]
    assert [answer.billing.memory_mb for answer in answers] == [1769, 3538]
    with pytest.raises(FunctionNotFoundError, match="gone"):
        invoker.invoke(replace(request, tier=2), Cancellation())
    invoker.close()


def test_a_named_function_needs_no_deployment():
    """SSM is not asked, and no journal is kept."""
    name = make_deployment()
    settings = Settings.resolve(execution="lambda", function=name, deployment="there-is-none", concurrency=1)
    with LambdaExecutor(settings=settings) as executor:
        assert executor.submit(abs, -1).result(60) == 1
    assert _journals() == []


def test_a_missing_deployment_says_how_to_make_it():
    """Name, region and account, and the command to run."""
    with pytest.raises(
        DeploymentNotFoundError,
        match=r"no deployment 'mine' in us-east-1 of account 123456789012: make it with "
        r"'dask-root-lambda deploy --name mine --region us-east-1'",
    ):
        LambdaExecutor("lambda", deployment="mine")


@pytest.mark.parametrize("damage", [{"bucket": None}, {"memory-mb": "much"}, {"tiers": "[]"}])
def test_a_damaged_deployment_says_to_deploy_again(damage):
    """A parameter that is missing or makes no sense is named."""
    name = make_deployment(**damage)
    with pytest.raises(DeploymentError, match=f"are not those of a deployment .*deploy --name {name}"):
        find(name)


@pytest.mark.parametrize("name", ["", "X", "a", "1st", "a_b", "a-", "a" * 31, "../other"])
def test_names_that_cannot_be_are_refused(name):
    """Before AWS is asked."""
    with pytest.raises(ConfigurationError, match="is no name of a deployment"):
        find(name)


def test_credentials_that_are_missing_are_told_as_such(monkeypatch, tmp_path):
    """Not as a missing deployment."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AccessError, match=r"'mine' cannot be looked up in us-east-1.*aws configure"):
        find("mine")


def _journals():
    return sorted(Path(os.environ["XDG_STATE_HOME"]).glob("**/journal.jsonl"))


@pytest.mark.parametrize(
    "function",
    ["muons", "muons-3538", "function:muons", "arn:aws:lambda:eu-west-1:123456789012:function:muons-3538"],
)
def test_a_function_without_its_qualifier(function):
    """Names and ARNs, with and without version or alias."""
    for qualifier in ("", ":live", ":7", ":$LATEST"):
        assert discovery.unqualified(function + qualifier) == function


@pytest.mark.parametrize(
    ("log_group", "name"),
    [
        ("/dask-root-lambda/muons", "muons"),
        ("/aws/lambda/muons", None),
        ("/dask-root-lambda/../etc", None),
        ("muons", None),
        ("", None),
    ],
)
def test_the_deployment_of_a_function_that_is_named(log_group, name):
    """Its functions, of whatever tier, share a log group; others have theirs elsewhere."""
    assert discovery.deployment_of(log_group) == name
