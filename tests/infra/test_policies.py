"""What the functions' role and the users' policy allow, and what not: asked of evaluators, and tried.

Terraform applies ``infra/modules/access`` to an emulator that checks signatures and policies. Two evaluators,
the emulator's and moto's, have to agree; then an analysis runs with nothing but these policies.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
import ROOT
from botocore.exceptions import ClientError

from dask_root_lambda import LambdaCluster, LambdaExecutor, RDataFrame, cli
from dask_root_lambda.config import Settings
from dask_root_lambda.deployment import doctor
from dask_root_lambda.emulator import Emulator
from dask_root_lambda.emulator.policies import is_allowed
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.invocation.cancellation import Cancellation
from dask_root_lambda.invocation.invokers import AwsInvoker
from dask_root_lambda.protocol import seal, wire
from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.protocol.task import Body, Request

from ..conftest import EVENTS
from ..invokers import KEY
from ..terraform import INFRA, Terraform
from .access import PARAMETERS, ROOT_MODULE, Access, clean, look, surround
from .permissions import (
    BUCKET,
    NAME,
    REGION,
    ROLE,
    ROLE_MAY,
    ROLE_MAY_NOT,
    SECRET,
    USER_MAY,
    USER_MAY_NOT,
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    directory = tmp_path_factory.mktemp("access")
    shutil.copytree(INFRA / "modules" / "access", directory / "access")
    (directory / "main.tf").write_text(ROOT_MODULE)
    with Emulator(region=REGION, iam=True) as emulator:
        keys = (emulator.access_key_id, emulator.secret_access_key)
        services = ("iam", "secretsmanager", "sts")
        terraform = Terraform(directory, emulator.endpoint, services, keys)
        terraform.init()
        terraform.apply()
        made = look(emulator, terraform.outputs())
        surround(made)
        try:
            yield made
        finally:
            clean(made)
            terraform.must("destroy", "-auto-approve", "-input=false", "-refresh=false")


def permitted(policies: list[dict[str, Any]], action: str, resource: str) -> bool:
    """What both evaluators say."""
    from moto.iam.access_control import IAMPolicy, PermissionResult

    ours = is_allowed(policies, action, resource)
    answers = {
        IAMPolicy({"policy_document": json.dumps(policy)}).is_action_permitted(action, resource)
        for policy in policies
    }
    theirs = PermissionResult.PERMITTED in answers and PermissionResult.DENIED not in answers
    assert ours == theirs, f"the evaluators disagree on {action} of {resource}"
    return ours


@pytest.mark.parametrize(
    ("who", "action", "resource", "may"),
    [
        *(("user", *asked, True) for asked in USER_MAY),
        *(("user", *asked, False) for asked in USER_MAY_NOT),
        *(("role", *asked, True) for asked in ROLE_MAY),
        *(("role", *asked, False) for asked in ROLE_MAY_NOT),
    ],
)
def test_who_may_do_what(access: Access, who: str, action: str, resource: str, may: bool) -> None:
    """Users run analyses of this deployment, functions read input and write partial results: nothing more."""
    policies = access.user_policies if who == "user" else access.role_policies
    assert permitted(policies, action, access.secret if resource == SECRET else resource) is may


def test_policies_name_what_they_allow(access: Access) -> None:
    """No action has a wildcard; only the reading of quotas, which takes no resource, is on any."""
    for policy in (*access.role_policies, *access.user_policies):
        for statement in policy["Statement"]:
            actions, resources = listed(statement["Action"]), listed(statement["Resource"])
            assert statement["Effect"] == "Allow"
            assert not any("*" in action for action in actions)
            assert actions == ["lambda:GetAccountSettings"] or not {"*", "arn:aws:s3:::*"} & set(resources)
            # The evaluators do not know conditions, so none may decide.
            assert "Condition" not in statement


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_only_lambda_may_take_the_role(access: Access) -> None:
    """The role's trust is in Lambda, and in nobody else."""
    document = access.root("iam").get_role(RoleName=ROLE.rpartition("/")[2])["Role"][
        "AssumeRolePolicyDocument"
    ]
    (statement,) = document["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"


@pytest.fixture
def as_user(access: Access, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings with which a client is that user, from the environment as boto3 finds it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access.user_keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", access.user_keys[1])
    return {
        "execution": "lambda",
        "concurrency": 2,
        "function": f"{NAME}:live",
        "region": REGION,
        "endpoint_url": access.emulator.endpoint,
    }


def test_an_analysis_needs_no_more_than_the_policies(as_user: dict[str, Any], events_file: str) -> None:
    """With enforcement on, a user's analysis runs, in functions that have the role and nothing else."""
    with LambdaCluster(**as_user, progress=False) as cluster, cluster.get_client():
        frame = RDataFrame("Events", events_file, npartitions=3)
        assert frame.Filter("x % 2 == 0").Count().GetValue() == EVENTS / 2
        assert cluster.report().total.ranges == 3


def test_large_bodies_go_through_the_store_with_the_policies(as_user: dict[str, Any]) -> None:
    """User and function write what is too large, read what the other wrote, and the user deletes it."""
    invoker = AwsInvoker(Settings.resolve(**as_user))
    try:
        blob = wire.dumps((os.urandom, (6_000_000,), {}))
        assert invoker.store.put("calls/in", seal.sealed(KEY, "calls/in", blob))
        body = Body(key="calls/in", size=len(blob))
        request = Request("call", "task", (body,), result_key="calls/out", seal_key=KEY)
        reply = invoker.invoke(request, Cancellation()).reply
        assert reply is not None
        assert reply.body is not None
        assert len(wire.loads(seal.opened(KEY, "calls/out", invoker.store.get("calls/out")))) == 6_000_000
        invoker.store.delete(["calls/in", "calls/out"])
        assert list(invoker.store.keys()) == []
    finally:
        invoker.close()


@pytest.fixture
def reader(access: Access) -> Iterator[None]:
    """Let the user see what functions write to buckets of others."""
    for bucket in ("skims", "of-others"):
        resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        allowed = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": resources}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        access.root("iam").put_user_policy(UserName="physicist", PolicyName=bucket, PolicyDocument=policy)
    yield
    for bucket in ("skims", "of-others"):
        access.root("iam").delete_user_policy(UserName="physicist", PolicyName=bucket)


@pytest.mark.usefixtures("reader")
def test_functions_write_to_output_buckets_alone(
    access: Access, as_user: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Snapshot of parts that are sent in pieces, by functions; the user may only read what they write."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", access.emulator.endpoint)
    monkeypatch.setenv("AWS_REGION", REGION)
    options = ROOT.RDF.RSnapshotOptions()
    options.fLazy = True
    with LambdaCluster(**as_user, progress=False) as cluster, cluster.get_client():

        def write(url: str) -> None:
            frame = RDataFrame(4000, npartitions=2).Define("v", "ROOT::RVecD(1000, gRandom->Rndm())")
            # ROOT would wait for this process's emulator, and not let it answer, were the frame made.
            written = frame.Snapshot("t", url, ["v"], options)
            written.bookings.run(written)

        write("s3://skims/2012/skim.root")
        found = access.root("s3").list_objects_v2(Bucket="skims")["Contents"]
        assert [item["Key"] for item in found] == ["2012/skim_0.root", "2012/skim_1.root"]
        with pytest.raises(
            InputError, match=r"cannot write s3://of-others/a_\d\.root: .*--output-bucket of-o"
        ):
            write("s3://of-others/a.root")
        with pytest.raises(InputError, match=r"cannot write s3://skims/2012/skim_\d\.root: .* s3:PutObject"):
            write("s3://skims/2012/skim.root")


@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("lambda", "invoke", {"FunctionName": NAME}),
        ("lambda", "invoke", {"FunctionName": f"{NAME}-of-others", "Qualifier": "live"}),
        ("lambda", "list_functions", {}),
        ("lambda", "delete_function", {"FunctionName": NAME}),
        ("lambda", "update_function_configuration", {"FunctionName": NAME, "Timeout": 900}),
        ("s3", "list_buckets", {}),
        ("s3", "list_objects_v2", {"Bucket": "of-others"}),
        ("s3", "put_object", {"Bucket": BUCKET, "Key": "elsewhere", "Body": b""}),
        ("s3", "put_object", {"Bucket": "of-others", "Key": "partial/1", "Body": b""}),
        ("s3", "get_bucket_policy", {"Bucket": BUCKET}),
        ("ssm", "get_parameter", {"Name": "/of-others/password"}),
        ("ssm", "get_parameters_by_path", {"Path": "/"}),
        (
            "ssm",
            "put_parameter",
            {"Name": f"/dask-root-lambda/{NAME}/function", "Value": "x", "Overwrite": True},
        ),
        ("secretsmanager", "get_secret_value", {"SecretId": f"{NAME}/cern-token"}),
        ("sts", "assume_role", {"RoleArn": ROLE, "RoleSessionName": "me"}),
        ("iam", "list_users", {}),
        ("iam", "create_access_key", {"UserName": "physicist"}),
        ("logs", "delete_log_group", {"logGroupName": f"/dask-root-lambda/{NAME}"}),
    ],
)
def test_a_user_is_refused(access: Access, service: str, operation: str, parameters: dict[str, Any]) -> None:
    """What the policy does not allow is refused when it is tried."""
    with pytest.raises(ClientError) as caught:
        getattr(access.user(service), operation)(**parameters)
    assert caught.value.response["Error"]["Code"].startswith("AccessDenied")


def test_a_user_finds_the_deployment_and_its_logs(access: Access) -> None:
    """Parameters by their path, quotas and logs can be read."""
    found = access.user("ssm").get_parameters_by_path(Path=f"/dask-root-lambda/{NAME}")["Parameters"]
    assert {parameter["Value"] for parameter in found} == set(PARAMETERS.values())
    assert access.user("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 1000
    assert "events" in access.user("logs").filter_log_events(logGroupName=f"/dask-root-lambda/{NAME}")


@pytest.fixture
def configured(as_user: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That user's environment: nothing but keys, region and endpoint."""
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", as_user["endpoint_url"])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    """Run a command as that user; return its JSON."""
    assert cli.main([*arguments, "--name", NAME, "--json"]) == status
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


@pytest.mark.usefixtures("configured")
def test_the_commands_need_no_more_than_the_users_policy(
    access: Access, events_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name: an analysis and a task, doctor, status, and logs with what the task printed."""
    with dask.config.set({"dask-root-lambda.aws.deployment": NAME}):
        with LambdaCluster("lambda", concurrency=2, progress=False) as cluster, cluster.get_client():
            assert RDataFrame("Events", events_file, npartitions=2).Count().GetValue() == EVENTS
        with LambdaExecutor("lambda", concurrency=1) as executor:
            executor.submit_call(Call("one-task", print, ["printed by the task"])).result(60)
    with dask.config.set({"dask-root-lambda.concurrency": 100}):
        checks = told(capsys, "doctor", "--files", events_file)["checks"]
    assert {check["outcome"] for check in checks} == {"ok"}
    assert told(capsys, "status")["spent"]["invocations"] >= 3
    messages = [line["message"] for line in told(capsys, "logs", "--task", "one-task")["lines"]]
    assert any("printed by the task" in message for message in messages)


STATEMENTS = {
    "FindTheDeployment": {"deployment": "failed", "concurrency": "ok"},
    "Invoke": {"versions": "failed", "store": "ok"},
    "PartialResults": {"store": "failed", "versions": "ok"},
    "Quotas": {"concurrency": "unknown", "versions": "ok"},
    "Look": {f"function {NAME}": "failed", "concurrency": "unknown"},
}
"""A part of the users' policy -> what the doctor says of some checks without it."""


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("without", STATEMENTS)
def test_the_doctor_names_the_permission_that_is_missing(
    access: Access, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    """Refused is not the same as wrong, and never ok."""
    iam, (policy,) = access.root("iam"), access.user_policies
    rest = {**policy, "Statement": [each for each in policy["Statement"] if each["Sid"] != without]}
    assert len(rest["Statement"]) == len(policy["Statement"]) - 1
    iam.create_user(UserName=without)
    iam.put_user_policy(UserName=without, PolicyName="rest", PolicyDocument=json.dumps(rest))
    key = iam.create_access_key(UserName=without)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    try:
        settings = Settings.resolve(execution="lambda", deployment=NAME, concurrency=100)
        checks = {check.name: check for check in doctor.examine(settings)}
    finally:
        iam.delete_access_key(UserName=without, AccessKeyId=key["AccessKeyId"])
        iam.delete_user_policy(UserName=without, PolicyName="rest")
        iam.delete_user(UserName=without)
    outcomes = {name: checks[name].outcome for name in STATEMENTS[without]}
    assert outcomes == STATEMENTS[without]
    for name, outcome in outcomes.items():
        assert outcome == "ok" or "AccessDenied" in checks[name].said


@pytest.mark.usefixtures("configured")
def test_the_doctor_finds_a_role_that_cannot_use_the_store(access: Access) -> None:
    """The user can, and the function answers; what is large would be lost."""
    iam, role = access.root("iam"), ROLE.rpartition("/")[2]
    (document,) = access.role_policies
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    less = {**document, "Statement": [each for each in document["Statement"] if each["Sid"] == "Logs"]}
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(less))
    try:
        settings = Settings.resolve(execution="lambda", deployment=NAME, concurrency=100)
        failed = {check.name: check.said for check in doctor.examine(settings) if check.outcome != "ok"}
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))
    assert list(failed) == ["store, from the function"]
    assert "AccessDenied" in failed["store, from the function"]
