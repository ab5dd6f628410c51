"""Terraform makes a deployment in an emulated AWS; the analysis runs in it; destroy leaves nothing."""

from __future__ import annotations

import json
from typing import Any

import dask
import pytest
import ROOT

from dask_root_lambda import LambdaCluster, RDataFrame

from ..conftest import EVENTS
from .conftest import NAME, REGION, VARIABLES, Deployment

pytestmark = pytest.mark.timeout(600)


def test_a_second_plan_shows_no_change(deployment: Deployment) -> None:
    """What was applied is what AWS reports."""
    changes = deployment.terraform.changes()
    assert not changes, changes


def test_functions_are_as_the_variables_say(deployment: Deployment) -> None:
    """Memory, time-out, /tmp, logs and the store's URL, of each tier."""
    client = deployment.client("lambda")
    for memory_mb, name in {1769: NAME, 3538: f"{NAME}-3538"}.items():
        found = client.get_function_configuration(FunctionName=name, Qualifier="live")
        assert (found["MemorySize"], found["Timeout"], found["Version"]) == (memory_mb, 900, "1")
        assert found["EphemeralStorage"] == {"Size": 512}
        assert found["LoggingConfig"]["LogFormat"] == "JSON"
        assert found["LoggingConfig"]["LogGroup"] == f"/dask-root-lambda/{NAME}"
        variables = found["Environment"]["Variables"]
        assert variables["DASK_ROOT_LAMBDA_STORE"] == deployment.outputs["store"]
        assert variables["DASK_ROOT_LAMBDA_TOKEN_SECRET"] == deployment.outputs["token_secret_arn"]


def test_clients_find_it_by_name(deployment: Deployment) -> None:
    """One call to SSM tells all that a client needs."""
    found = deployment.client("ssm").get_parameters_by_path(Path=f"/dask-root-lambda/{NAME}")["Parameters"]
    values = {parameter["Name"].rpartition("/")[2]: parameter["Value"] for parameter in found}
    assert values["function"] == NAME
    assert values["qualifier"] == "live"
    assert values["store"] == deployment.outputs["store"]
    assert values["region"] == REGION
    assert values["image"] == deployment.outputs["image"]
    assert json.loads(values["tiers"]) == {"1769": NAME, "3538": f"{NAME}-3538"}


def test_the_bucket_is_closed(deployment: Deployment) -> None:
    """Nothing public, nothing in the clear, nothing older than a day, but for far data."""
    client, bucket = deployment.client("s3"), deployment.outputs["bucket"]
    access = client.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert all(access.values())
    policy = json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])
    assert policy["Statement"][0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    enabled = {rule["Filter"].get("Prefix"): rule for rule in rules if rule["Status"] == "Enabled"}
    days = {prefix: rule.get("Expiration", {}).get("Days") for prefix, rule in enabled.items() if prefix}
    assert days == {"partial/": 1, "far/": 30}
    assert len(rules) == 3
    (encryption,) = client.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_the_repository_scans_and_never_overwrites(deployment: Deployment) -> None:
    """A tag stands for one image."""
    (found,) = deployment.client("ecr").describe_repositories(repositoryNames=[NAME])["repositories"]
    assert found["imageTagMutability"] == "IMMUTABLE"
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}


def test_images_of_clusters_do_not_push_out_those_of_functions(deployment: Deployment) -> None:
    """They lie in the same repository, and ECR goes by the time of the push: few of them, more room for all.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html: what the tags of a rule
    match is not for a later rule to expire, but the rule over all counts it.
    """
    found = deployment.client("ecr").get_lifecycle_policy(repositoryName=NAME)["lifecyclePolicyText"]
    clusters, others = json.loads(found)["rules"]
    assert clusters["selection"]["tagPatternList"] == ["*-cluster"]
    assert others["selection"]["tagStatus"] == "any"
    assert clusters["rulePriority"] < others["rulePriority"]
    assert others["selection"]["countNumber"] - clusters["selection"]["countNumber"] >= 10


def test_the_alarm_counts_every_tier(deployment: Deployment) -> None:
    """Durations of all functions, times memory and price."""
    (alarm,) = deployment.client("cloudwatch").describe_alarms()["MetricAlarms"]
    expression = next(query["Expression"] for query in alarm["Metrics"] if query["Id"] == "usd")
    assert alarm["Threshold"] == 25
    assert {query["Id"] for query in alarm["Metrics"]} == {"usd", "d0", "i0", "d1", "i1"}
    duration_1769 = 1769 / 1024 * 0.0000166667
    assert f"{duration_1769:.8f}"[:8] in expression
    # A tier that was not invoked has no metrics; its sum is none either unless it is said to be 0.
    assert [f"FILL({name},0)" in expression for name in ("d0", "i0", "d1", "i1")] == [True] * 4


def test_in_another_account_nothing_is_done(deployment: Deployment) -> None:
    """Credentials that are not of the account that is meant: the plan ends."""
    done = deployment.terraform.run("plan", "-input=false", "-var=account=999999999999")
    assert done.returncode == 1
    assert "account ID not allowed" in done.stderr


def actions(changes: dict[str, dict[str, Any]]) -> set[str]:
    return {action for change in changes.values() for action in change["actions"]}


def test_more_memory_changes_the_functions_in_place(deployment: Deployment) -> None:
    """Nothing is deleted or made: AWS would refuse a second function of the name while the first is there."""
    changes = deployment.terraform.planned(memory_mb=3000)
    assert actions(changes) == {"update"}
    function = changes[f'module.function["{NAME}"].aws_lambda_function.function']
    assert (function["before"]["memory_size"], function["after"]["memory_size"]) == (1769, 3000)


def test_the_first_function_may_have_a_tiers_memory(deployment: Deployment) -> None:
    """The tier stays, as its name is in scripts; clients that ask for this memory are given the first."""
    changes = deployment.terraform.planned(memory_mb=3538)
    assert actions(changes) == {"update"}
    tiers = changes['module.parameters.aws_ssm_parameter.values["tiers"]']["after"]["value"]
    assert json.loads(tiers) == {"3538": NAME}


def test_a_tier_that_is_not_wanted_goes_alone(deployment: Deployment) -> None:
    """Its function, alias and configuration; /tmp of the other changes in place."""
    changes = deployment.terraform.planned(memory_tiers_mb=[], tmp_mb=1024)
    gone = {address for address, change in changes.items() if change["actions"] == ["delete"]}
    assert gone
    assert {address.rpartition(".aws_")[0] for address in gone} == {f'module.function["{NAME}-3538"]'}
    assert actions(changes) == {"update", "delete"}
    function = changes[f'module.function["{NAME}"].aws_lambda_function.function']["after"]
    assert function["ephemeral_storage"] == [{"size": 1024}]


def test_snapshots_reservations_and_tags_are_switched_on_in_place(deployment: Deployment) -> None:
    """SnapStart of published versions, with time for it; so many environments; everything has the tags."""
    changes = deployment.terraform.planned(snapstart=True, reserved_concurrency=7, tags={"group": "muons"})
    assert actions(changes) == {"update"}
    for name in (NAME, f"{NAME}-3538"):
        function = changes[f'module.function["{name}"].aws_lambda_function.function']["after"]
        assert [start["apply_on"] for start in function["snap_start"]] == ["PublishedVersions"]
        assert function["timeouts"] == {"create": "30m", "update": "30m", "delete": None}
        assert function["reserved_concurrent_executions"] == 7
        assert function["tags_all"] == {"group": "muons", "dask-root-lambda:deployment": NAME}
    tagged = {address.rpartition(".aws_")[2].partition(".")[0] for address in changes}
    assert {"s3_bucket", "iam_role", "ecr_repository", "ssm_parameter", "sns_topic"} <= tagged


def test_the_analysis_runs_in_its_functions(
    deployment: Deployment, events_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers are local ROOT's, from version 1, and the JSON log tells what was billed."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    cluster = LambdaCluster(
        execution="lambda",
        concurrency=2,
        function=f"{NAME}:live",
        region=REGION,
        endpoint_url=deployment.emulator.endpoint,
        progress=False,
    )
    with cluster, cluster.get_client():
        frame = RDataFrame("Events", events_file, npartitions=4)
        even = frame.Filter("x % 2 == 0")
        histogram, count = dask.compute(even.Histo1D(("x", "", 50, 0, EVENTS), "x"), even.Count())
        total = cluster.report().total
    local = ROOT.RDataFrame("Events", events_file).Filter("x % 2 == 0")
    expected = local.Histo1D(("x", "", 50, 0, EVENTS), "x")
    assert count == EVENTS / 2
    assert list(map(histogram.GetBinContent, range(52))) == list(map(expected.GetBinContent, range(52)))
    assert (total.ranges, total.failures) == (4, 0)
    assert total.gb_seconds == pytest.approx(total.billed_s * 1769 / 1024)
    assert 0 < total.peak_memory_mb < 1769


def test_a_changed_image_rolls_the_alias(deployment: Deployment) -> None:
    """The alias points to a new version of the new image; SSM tells the image."""
    deployment.terraform.apply(**{**VARIABLES, "image_tag": "two"})
    client = deployment.client("lambda")
    found = client.get_function(FunctionName=NAME, Qualifier="live")
    assert found["Code"]["ImageUri"].endswith("/muons:two")
    assert found["Configuration"]["Version"] == "2"
    path = f"/dask-root-lambda/{NAME}/image"
    assert deployment.client("ssm").get_parameter(Name=path)["Parameter"]["Value"].endswith(":two")


def test_destroy_leaves_nothing(deployment: Deployment) -> None:
    """The last test: no object, bucket, role, policy, function, log group, parameter, secret or alarm."""
    deployment.client("s3").put_object(Bucket=deployment.outputs["bucket"], Key="partial/left", Body=b"over")
    deployment.terraform.must("destroy", "-auto-approve", "-input=false")
    left = {
        "functions": deployment.client("lambda").list_functions()["Functions"],
        "buckets": deployment.client("s3").list_buckets()["Buckets"],
        "roles": deployment.client("iam").list_roles()["Roles"],
        "policies": deployment.client("iam").list_policies(Scope="Local")["Policies"],
        "log groups": deployment.client("logs").describe_log_groups()["logGroups"],
        "parameters": deployment.client("ssm").describe_parameters()["Parameters"],
        "secrets": deployment.client("secretsmanager").list_secrets()["SecretList"],
        "repositories": deployment.client("ecr").describe_repositories()["repositories"],
        "alarms": deployment.client("cloudwatch").describe_alarms()["MetricAlarms"],
        "topics": deployment.client("sns").list_topics()["Topics"],
    }
    # moto holds what other tests of this process made, too; what is the deployment's has its name in it.
    assert {kind: found for kind, found in left.items() if NAME in str(found)} == {}
