"""From nothing to a deployment and back, with the real Terraform against the emulator."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from dask_root_lambda import LambdaExecutor, aws, cli
from dask_root_lambda.config import Settings
from dask_root_lambda.deployment import image, registry, rollout
from dask_root_lambda.deployment.image import Builder, ImageSpec
from dask_root_lambda.deployment.rollout import Steps, Wanted
from dask_root_lambda.deployment.terraform import Change, Plan
from dask_root_lambda.protocol.errors import ConfigurationError, DeploymentError

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/muons"
NAME = "muons-rollout"


@pytest.fixture
def command(user, provider, capsys):
    """Runs the command; returns its JSON."""

    def run(*arguments, status=0):
        assert cli.main([*arguments, "--name", NAME, "--json"]) == status
        out = capsys.readouterr().out
        return json.loads(out) if out else {}

    return run


def left():
    """The functions and parameters of this deployment; other tests have theirs."""
    functions = boto3.client("lambda").get_paginator("list_functions").paginate()
    parameters = boto3.client("ssm").get_paginator("describe_parameters").paginate()
    names = [*functions.search("Functions[].FunctionName"), *parameters.search("Parameters[].Name")]
    return [name for name in names if NAME in name]


@pytest.mark.timeout(900)
def test_a_deployment_from_nothing_and_back(command):
    """A plan changes nothing; deploy makes all, images roll, again is no change, destroy leaves nothing."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    planned = command("deploy", "--plan", "--image", f"{IMAGE}:1")
    assert (planned["applied"], planned["outputs"]) == (False, {})
    assert not left()

    made = command("deploy", "--image", f"{IMAGE}:1", "--tiers", "3538", "--var", "log_retention_days=7")
    assert {change["action"] for change in made["changes"]} == {"create"}
    assert made["outputs"]["tiers"] == {"1769": NAME, "3538": f"{NAME}-3538"}
    with LambdaExecutor("lambda", concurrency=1, deployment=NAME) as executor:
        assert executor.submit(pow, 2, 10).result(60) == 1024

    rolled = command("deploy", "--image", f"{IMAGE}:2")
    assert {change["action"] for change in rolled["changes"]} == {"update"}
    # Without --tiers and --var, they are as they were.
    assert rolled["outputs"]["versions"] == {NAME: "2", f"{NAME}-3538": "2"}
    assert sorted(rolled["deleted_versions"]) == [f"{NAME}-3538:1", f"{NAME}:1"]
    (group,) = boto3.client("logs").describe_log_groups(logGroupNamePrefix=f"/dask-root-lambda/{NAME}")[
        "logGroups"
    ]
    assert group["retentionInDays"] == 7
    assert command("deploy", "--image", f"{IMAGE}:2")["changes"] == []

    policy = {"PolicyArn": rolled["outputs"]["user_policy_arn"]}
    iam = boto3.client("iam")
    iam.create_user(UserName="marie")
    iam.attach_user_policy(UserName="marie", **policy)
    command("destroy", "--yes", status=1)
    iam.detach_user_policy(UserName="marie", **policy)
    assert command("destroy", "--yes")["applied"]
    assert not left()
    assert not list(Path(os.environ["XDG_STATE_HOME"]).rglob("terraform"))


PUSHING = """#!{python}
import sys, boto3, json
open("{log}", "a").write(" ".join(sys.argv[1:2]) + "\\n")
if sys.argv[1] == "push":
    repository, _, tag = sys.argv[2].partition("/")[2].partition(":")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    content = {{"digest": "sha256:" + tag}}
    manifest = json.dumps({{"schemaVersion": 2, "mediaType": kind, "config": content, "layers": []}})
    boto3.client("ecr").put_image(repositoryName=repository, imageManifest=manifest, imageTag=tag)
"""


@pytest.mark.timeout(900)
def test_the_image_is_built_once_and_before_the_functions(command, tmp_path, monkeypatch):
    """The repository comes first; the same content is neither built nor pushed again."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    program, log = tmp_path / "podman", tmp_path / "podman.log"
    program.write_text(PUSHING.format(python=sys.executable, log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    # moto's ECR takes the manifest, though not the layers.
    monkeypatch.setattr(rollout, "_check_registry", lambda session: None)
    made = command("deploy", "--builder", "podman")
    assert made["pushed"]
    tag = image.tag(Wanted().spec())
    assert made["outputs"]["image"] == f"{made['outputs']['repository_url']}:{tag}"
    assert log.read_text().split() == ["--version", "build", "login", "push", "logout"]
    again = command("deploy", "--builder", "podman")
    assert (again["pushed"], again["changes"]) == (False, [])
    changed = command("deploy", "--builder", "podman", "--package", "vector")
    assert changed["pushed"]
    assert changed["outputs"]["versions"] == {NAME: "2"}
    assert log.read_text().split().count("push") == 2
    assert command("destroy", "--yes")["applied"]
    names = [
        repository["repositoryName"]
        for repository in boto3.client("ecr").describe_repositories()["repositories"]
    ]
    assert NAME not in names


def test_what_was_deployed_elsewhere_is_not_destroyed(user, capsys):
    """Without Terraform's state there is nothing that could be destroyed safely."""
    assert cli.main(["destroy", "--name", "nobodys", "--yes"]) == 1
    assert "was not deployed from this machine" in capsys.readouterr().err


def test_destroying_asks_or_wants_a_yes(user, capsys):
    """In a script, where nobody answers, nothing is destroyed."""
    assert cli.main(["destroy", "--name", "muons"]) == 1
    assert "add --yes" in capsys.readouterr().err


def test_an_emulator_has_no_registry(user, capsys):
    """Nothing is built for an endpoint that is not AWS's."""
    assert cli.main(["deploy", "--name", "muons"]) == 1
    assert "name one with --image URI" in capsys.readouterr().err


def test_without_terraform_the_error_says_where_to_get_it(user, monkeypatch, tmp_path, capsys):
    """Terraform or OpenTofu."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["deploy", "--name", "muons", "--image", f"{IMAGE}:1"]) == 1
    assert "developer.hashicorp.com/terraform/install" in capsys.readouterr().err


def test_what_terraform_says_is_in_the_error(user, provider):
    """A variable that infra/ refuses: its own words, and no traceback."""
    settings = Settings.resolve(deployment="muons-refused")
    steps = Steps(lambda text: None, lambda line: None, lambda plan: True)
    wanted = Wanted({"memory_mb": 64}, image=f"{IMAGE}:1", plan_only=True)
    with pytest.raises(DeploymentError, match=r"terraform plan failed[\s\S]*ROOT needs 1,024 MB"):
        rollout.deploy(aws.Session(settings), settings, wanted, steps)


FAKE = """#!/bin/sh
echo "$@" >> {log}
case "$1" in login) cat > {log}.stdin ;; push) {push} ;; esac
"""


@pytest.fixture
def fake(tmp_path):
    """A builder that writes down how it is called, and what it reads at a login."""

    def make(push=":"):
        program, log = tmp_path / "podman", tmp_path / "log"
        program.write_text(FAKE.format(log=log, push=push))
        program.chmod(0o755)
        return Builder(str(program)), log

    return make


@pytest.fixture
def session(user):
    return aws.Session(Settings.resolve())


SPEC = ImageSpec("3.11", "ROOT==0.1a12", "6.40")
REFERENCE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/muons:tag"


def test_an_image_is_built_logged_in_for_pushed_and_logged_out(fake, session):
    """ECR's password is read from standard input; it is on no command line."""
    builder, log = fake()
    registry.provide(session, builder, SPEC, REFERENCE, lambda line: None)
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["build", "login", "push", "logout"]
    password = Path(f"{log}.stdin").read_text()
    assert password == registry.password(session)
    assert password not in log.read_text()


def test_a_push_that_fails_is_told_and_logged_out(fake, session):
    """With what the program wrote."""
    builder, log = fake(push="echo denied by policy; exit 3")
    with pytest.raises(DeploymentError, match="denied by policy"):
        registry.provide(session, builder, SPEC, REFERENCE, lambda line: None)
    assert log.read_text().splitlines()[-1].startswith("logout")


def test_images_are_looked_up_in_the_repository(session):
    """A repository that is not there has none."""
    assert not registry.exists(session, "lookup")
    assert not registry.has(session, "lookup", "tag")
    client = boto3.client("ecr")
    client.create_repository(repositoryName="lookup")
    assert registry.exists(session, "lookup")
    assert not registry.has(session, "lookup", "tag")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "config": {"digest": "sha256:0"}, "layers": []}
    )
    client.put_image(repositoryName="lookup", imageManifest=manifest, imageTag="tag")
    assert registry.has(session, "lookup", "tag")


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


def test_a_base_image_with_root_gets_no_other():
    """``--base-has-root``: pip installs none."""
    assert Wanted(base="lcg", base_has_root=True).spec().root == ""
    assert Wanted(base="debian").spec().root.startswith("ROOT==")


def test_names_are_checked_before_anything_else(user):
    """A name that AWS would refuse half-way."""
    settings = Settings.resolve(deployment="Muons")
    steps = Steps(lambda text: None, lambda line: None, lambda plan: True)
    with pytest.raises(ConfigurationError, match="is no name of a deployment"):
        rollout.deploy(aws.Session(settings), settings, Wanted(image=f"{IMAGE}:1"), steps)


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
