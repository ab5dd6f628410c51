"""From nothing to a deployment and back, with the real Terraform against the emulator."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from dask_root_lambda import LambdaExecutor, cli
from dask_root_lambda.config import Settings
from dask_root_lambda.deployment import image, rollout, sources, terraform
from dask_root_lambda.deployment.options import Options
from dask_root_lambda.deployment.rollout import Asked, Dialog
from dask_root_lambda.deployment.terraform import Change, Plan
from dask_root_lambda.emulator import Emulator
from dask_root_lambda.invocation import aws
from dask_root_lambda.protocol.errors import ConfigurationError, DeploymentError

from ..deployed import make_deployment
from ..emulator.clouds import clients_of

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/muons"
NAME = "muons-rollout"


POLICY = re.compile(r"```json\n(.*?)```", re.DOTALL)


@pytest.fixture
def run(capsys):
    """Runs the command; returns its JSON."""

    def run(*arguments, status=0):
        assert cli.main([*arguments, "--name", NAME, "--json"]) == status
        out = capsys.readouterr().out
        return json.loads(out) if out else {}

    return run


@pytest.fixture
def deployer(provider, monkeypatch, tmp_path):
    """Somebody with the policy of docs/deploy.md and no other; returns clients of somebody who may do all."""
    (policy,) = POLICY.findall((Path(__file__).parents[2] / "docs" / "deploy.md").read_text())
    with Emulator(iam=True) as emulator:
        root = clients_of(
            emulator,
            aws_access_key_id=emulator.access_key_id,
            aws_secret_access_key=emulator.secret_access_key,
        )
        iam = root("iam")
        iam.create_user(UserName="deployer")
        iam.put_user_policy(UserName="deployer", PolicyName="deploy", PolicyDocument=policy)
        key = iam.create_access_key(UserName="deployer")["AccessKey"]
        for name, value in {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": emulator.endpoint,
            "XDG_STATE_HOME": str(tmp_path / "state"),
        }.items():
            monkeypatch.setenv(name, value)
        yield root
        iam.delete_access_key(UserName="deployer", AccessKeyId=key["AccessKeyId"])
        iam.delete_user_policy(UserName="deployer", PolicyName="deploy")
        iam.delete_user(UserName="deployer")


@pytest.fixture
def builds(monkeypatch, tmp_path):
    """A podman that puts an image into the repository; returns the file in which it writes its commands."""
    program, log = tmp_path / "podman", tmp_path / "podman.log"
    program.write_text(PUSHING.format(python=sys.executable, log=log, make_repository=False))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    # moto's ECR takes the manifest, though not the layers.
    monkeypatch.setattr(rollout, "_check_registry", lambda session, options: None)
    return log


PUSHING = """#!{python}
import sys, boto3, json
open("{log}", "a").write(" ".join(sys.argv[1:2]) + "\\n")
if sys.argv[1] == "push":
    client = boto3.client("ecr")
    repository, _, tag = sys.argv[2].partition("/")[2].partition(":")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    content = {{"digest": "sha256:" + tag}}
    manifest = json.dumps({{"schemaVersion": 2, "mediaType": kind, "config": content, "layers": []}})
    if {make_repository} and repository not in str(client.describe_repositories()):
        client.create_repository(repositoryName=repository)
    client.put_image(repositoryName=repository, imageManifest=manifest, imageTag=tag)
"""


def left(root):
    """The functions, parameters, repositories and policies of this deployment."""
    functions = root("lambda").get_paginator("list_functions").paginate()
    parameters = root("ssm").get_paginator("describe_parameters").paginate()
    repositories = root("ecr").get_paginator("describe_repositories").paginate()
    policies = root("iam").get_paginator("list_policies").paginate(Scope="Local")
    names = [
        *functions.search("Functions[].FunctionName"),
        *parameters.search("Parameters[].Name"),
        *repositories.search("repositories[].repositoryName"),
        *policies.search("Policies[].PolicyName"),
    ]
    return [name for name in names if NAME in name]


@pytest.mark.timeout(900)
def test_a_deployment_from_nothing_and_back(deployer, run, builds):
    """A plan changes nothing; the image comes before the functions, others roll; destroy leaves nothing.

    All of it with the policy that docs/deploy.md gives to whoever deploys: every action, and the resources
    of those services whose resources the emulator can tell.
    """
    planned = run("deploy", "--plan", "--builder", "podman")
    assert (planned["applied"], planned["outputs"]) == (False, {})
    assert not left(deployer)

    made = run("deploy", "--builder", "podman", *MORE)
    assert made["pushed"]
    assert {change["action"] for change in made["changes"]} == {"create"}
    assert made["outputs"]["image"] == f"{made['outputs']['repository_url']}:{image.tag(Options().spec())}"
    assert builds.read_text().split() == ["--version", "build", "login", "push", "logout"]
    assert made["outputs"]["tiers"] == {"1769": NAME, "3538": f"{NAME}-3538"}
    with LambdaExecutor("lambda", concurrency=1, deployment=NAME) as executor:
        assert executor.submit(pow, 2, 10).result(60) == 1024

    rolled = run("deploy", "--image", f"{IMAGE}:2")
    assert {change["action"] for change in rolled["changes"]} == {"update"}
    # Without --tiers and --var, they are as they were.
    assert rolled["outputs"]["versions"] == {NAME: "2", f"{NAME}-3538": "2"}
    assert sorted(rolled["deleted_versions"]) == [f"{NAME}-3538:1", f"{NAME}:1"]
    prefix = f"/dask-root-lambda/{NAME}"
    (group,) = deployer("logs").describe_log_groups(logGroupNamePrefix=prefix)["logGroups"]
    assert group["retentionInDays"] == 7
    assert run("deploy")["changes"] == []

    policy = {"PolicyArn": rolled["outputs"]["user_policy_arn"]}
    iam = deployer("iam")
    iam.create_user(UserName="marie")
    iam.attach_user_policy(UserName="marie", **policy)
    run("destroy", "--yes", status=1)
    iam.detach_user_policy(UserName="marie", **policy)
    assert run("destroy", "--yes")["applied"]
    assert not left(deployer)
    assert not list(Path(os.environ["XDG_STATE_HOME"]).rglob("terraform"))


MORE = (
    "--tiers", "3538", "--var", "log_retention_days=7", "--var", "cern_token_secret=true",
    "--var", "daily_cost_alarm_usd=25", "--var", "alarm_email=me@example.org",
)  # fmt: skip

STUB = """
resource "terraform_data" "repository" {}
resource "terraform_data" "function" {
  count = var.image_uri != null || var.image_tag != null ? 1 : 0
  input = [var.memory_mb, var.image_uri, var.image_tag, var.log_retention_days]
}
output "repository_url" {
  value      = "registry/${var.name}"
  depends_on = [terraform_data.repository]
}
output "image" {
  value = var.image_uri != null ? var.image_uri : "registry/${var.name}:${coalesce(var.image_tag, "none")}"
}
output "versions" {
  value = {}
}
output "options" {
  value = var.options
}
"""


@pytest.fixture
def stub(user, terraform_installed, builds, monkeypatch, tmp_path):
    """A root module that has the variables of infra/ and makes nothing, for what is decided before."""
    place = tmp_path / "infra"
    (place / "modules").mkdir(parents=True)
    shutil.copyfile(sources.infra() / "variables.tf", place / "variables.tf")
    (place / "main.tf").write_text(STUB)
    monkeypatch.setattr(sources, "infra", lambda: place)
    # Without endpoints there is no provider, whose start is most of what a plan takes.
    monkeypatch.setattr(terraform, "_override", lambda endpoint: "")
    (tmp_path / "podman").write_text(PUSHING.format(python=sys.executable, log=builds, make_repository=True))
    yield place
    client = boto3.client("ecr")
    with suppress(client.exceptions.RepositoryNotFoundException):
        client.delete_repository(repositoryName=NAME, force=True)


def test_an_image_is_built_once(stub, run, builds):
    """The same content is neither built nor pushed again, other content is."""
    assert run("deploy", "--builder", "podman")["pushed"]
    again = run("deploy", "--builder", "podman")
    assert (again["pushed"], again["changes"]) == (False, [])
    assert run("deploy", "--builder", "podman", "--package", "vector")["pushed"]
    assert builds.read_text().split().count("push") == 2


def test_options_that_are_not_given_stay_as_they_were(stub, run, monkeypatch, tmp_path):
    """Those of the image too, and on a colleague's machine that has no more than the backend."""
    backend = tmp_path / "backend.tf"
    backend.write_text(f'terraform {{\n  backend "local" {{\n    path = "{tmp_path}/shared"\n  }}\n}}\n')
    options = ("--package", "vector", "--base", "lcg:1", "--base-has-root", "--memory", "3000")
    first = run("deploy", "--backend", str(backend), *options)
    assert first["pushed"]
    longer = run("deploy", "--var", "log_retention_days=7")
    assert (longer["pushed"], longer["outputs"]["image"]) == (False, first["outputs"]["image"])
    assert [change["action"] for change in longer["changes"]] == ["update"]
    with monkeypatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "colleague"))
        assert run("deploy", "--backend", str(backend))["changes"] == []
        named = run("deploy", "--image", f"{IMAGE}:1")
    assert named["outputs"]["image"] == f"{IMAGE}:1"
    assert run("deploy")["changes"] == []
    # Building again begins with nothing of before.
    plain = run("deploy", "--plain-image")
    assert plain["outputs"]["image"].endswith(image.tag(Options().spec()))


def test_an_interrupted_deploy_is_not_one_from_elsewhere(stub, run):
    """What the state knows can be gone on with."""
    assert run("deploy", "--builder", "podman")["pushed"]
    (stub / "main.tf").write_text(f'{STUB}\nresource "terraform_data" "more" {{}}\n')
    assert [change["action"] for change in run("deploy")["changes"]] == ["create"]


@pytest.mark.parametrize("there", ["repository", "parameters", "half"])
def test_what_was_deployed_elsewhere_is_not_made_again(there, stub, capsys):
    """No traceback, no half of a second deployment: where to deploy it from."""
    name, client = NAME, boto3.client("ecr")
    if there == "repository":
        client.create_repository(repositoryName=name)
    elif there == "parameters":
        name = make_deployment()
    else:
        name = f"{NAME}-half"
        path = f"/dask-root-lambda/{name}/bucket"
        boto3.client("ssm").put_parameter(Name=path, Value="b", Type="String", Overwrite=True)
    assert cli.main(["deploy", "--name", name, "--image", f"{IMAGE}:1"]) == 1
    said = capsys.readouterr().err
    assert "was deployed elsewhere" in said
    assert "--backend" in said


def test_a_profile_is_terraforms_too(user, monkeypatch, tmp_path, capsys):
    """Keys in the environment, which Terraform would take first, are of another account."""
    noted = tmp_path / "noted"
    program = tmp_path / "terraform"
    program.write_text(f"#!/bin/sh\nenv > {noted}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    config = tmp_path / "config"
    config.write_text("[profile other]\naws_access_key_id = theirs\naws_secret_access_key = theirs\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SESSION_TOKEN", "mine")
    arguments = ["deploy", "--name", NAME, "--image", f"{IMAGE}:1"]
    for profile, expected in (([], True), (["--profile", "other"], False)):
        assert cli.main([*arguments, *profile]) == 1
        lines = noted.read_text().splitlines()
        keys = [
            line for line in lines if line.startswith(("AWS_ACCESS_KEY_ID=", "AWS_SECRET", "AWS_SESSION"))
        ]
        assert (len(keys) == 3) is expected
        assert bool(keys) is expected
        assert ("AWS_PROFILE=other" in lines) is not expected


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("log_retention=7", "infra/ has no variable 'log_retention': is it log_retention_days"),
        ("zzz=7", "is it alarm_email or architecture or"),
        ("name=other", "is not set by --var, but by --name"),
    ],
)
def test_variables_that_are_not_there_are_refused(variable, said, user, capsys):
    """Terraform would warn only, and a misspelt one would be without effect for ever."""
    assert cli.main(["deploy", "--name", NAME, "--image", f"{IMAGE}:1", "--var", variable]) == 1
    assert said in capsys.readouterr().err


def test_what_was_deployed_elsewhere_is_not_destroyed(user, terraform_installed, capsys):
    """Without Terraform's state there is nothing that could be destroyed safely."""
    assert cli.main(["destroy", "--name", "nobodys", "--yes"]) == 1
    assert "was not deployed from this machine" in capsys.readouterr().err


def test_destroying_asks_or_wants_a_yes(user, capsys):
    """In a script, where nobody answers, nothing is destroyed."""
    assert cli.main(["destroy", "--name", "muons"]) == 1
    assert "add --yes" in capsys.readouterr().err


def test_an_emulator_has_no_registry(user, terraform_installed, capsys):
    """Nothing is built for an endpoint that is not AWS's."""
    assert cli.main(["deploy", "--name", "muons"]) == 1
    assert "name one with --image URI" in capsys.readouterr().err


def test_without_terraform_the_error_says_where_to_get_it(user, monkeypatch, tmp_path, capsys):
    """Terraform or OpenTofu."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["deploy", "--name", "muons", "--image", f"{IMAGE}:1"]) == 1
    assert "developer.hashicorp.com/terraform/install" in capsys.readouterr().err


def test_what_terraform_says_is_in_the_error(stub):
    """A variable that infra/ refuses: its own words, and no traceback."""
    settings = Settings.resolve(deployment="muons-refused")
    steps = Dialog(lambda text: None, lambda line: None, lambda plan: True)
    wanted = Asked({"memory_mb": 64}, image=f"{IMAGE}:1", plan_only=True)
    with pytest.raises(DeploymentError, match=r"terraform plan failed[\s\S]*ROOT needs 1,024 MB"):
        rollout.deploy(aws.Session(settings), settings, wanted, steps)


def test_a_plan_is_summed_up_in_a_line():
    """Counts by action, in the order of their weight."""
    plan = Plan((Change("a", "update"), Change("b", "create"), Change("c", "create")), outputs_change=True)
    assert plan.summary() == "2 to create, 1 to update"
    assert Plan((), outputs_change=False).summary() == "nothing to change"


@pytest.mark.parametrize("text", ["memory", "=5", "a-b=1"])
def test_variables_are_names_and_values(text, user, capsys):
    """A mistake is one line."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["deploy", "--var", text])
    assert ended.value.code == 2
    assert "is not NAME=VALUE" in capsys.readouterr().err


def test_names_are_checked_before_anything_else(user):
    """A name that AWS would refuse half-way."""
    settings = Settings.resolve(deployment="Muons")
    steps = Dialog(lambda text: None, lambda line: None, lambda plan: True)
    with pytest.raises(ConfigurationError, match="is no name of a deployment"):
        rollout.deploy(aws.Session(settings), settings, Asked(image=f"{IMAGE}:1"), steps)


class Asleep:
    """Lambda with a function that was not invoked for weeks: the invocation that it refuses wakes it."""

    def __init__(self, *states):
        self.states = list(states)
        self.invoked = []

    def client(self, service):
        return self

    def get_function_configuration(self, **which):
        return {"State": self.states[0], "StateReason": "idle"}

    def invoke(self, **call):
        self.invoked.append(call)
        self.states.pop(0)
        error = {"Code": "CodeArtifactUserPendingException", "Message": "is initializing"}
        raise ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": 409}}, "Invoke")


def test_a_function_that_was_idle_for_weeks_is_woken():
    """It would stay Inactive for as long as it is only looked at."""
    session = Asleep("Inactive", "Active")
    rollout.wait_until_active(session, "muons", "7")
    assert [(call["FunctionName"], call["Qualifier"]) for call in session.invoked] == [("muons", "7")]


def test_a_function_that_failed_is_not_waited_for():
    """AWS's reason is told at once."""
    with pytest.raises(DeploymentError, match="version 7 of 'muons' cannot be used: idle"):
        rollout.wait_until_active(Asleep("Failed"), "muons", "7")
