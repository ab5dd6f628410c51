"""The cluster on Fargate: what AWS is asked for, and what then runs.

moto answers AWS's side and runs no containers. So the command of each task that was asked for is run here,
with its environment: a real scheduler and a real worker, which invoke the emulator's function. What is not
shown: the image on Fargate, its network, and the tasks' role being enough.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import boto3
import dask
import pytest
from distributed import Client
from distributed.core import Status

from dask_root_lambda import RDataFrame
from dask_root_lambda.emulator import Emulator
from dask_root_lambda.execution import records
from dask_root_lambda.gateway import EXECUTOR, slots
from dask_root_lambda.protocol.errors import ConfigurationError

pytest.importorskip("dask_cloudprovider", reason="needs the extra fargate")

from dask_cloudprovider.aws import ecs
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.moto_api import state_manager

from dask_root_lambda.fargate import FargateLambdaCluster

from .emulator.clouds import wait_until

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:Creating your cluster is taking"),  # this machine may be busy
]

REGION = "eu-west-1"
IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dask-root-lambda:0a1b-cluster"
POLICY = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@pytest.fixture(scope="module")
def emulator():
    """An AWS in another region than the default one, with AWS's own policies in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        with Emulator(region=REGION, account_concurrency=2) as emulator:
            # Where an earlier test used IAM, moto has decided already, for the whole process.
            iam = get_backend("iam")[ACCOUNT]["aws"]
            iam.managed_policies.update({policy.arn: policy for policy in iam._init_aws_policies()})
            yield emulator


@pytest.fixture
def aws(emulator, monkeypatch):
    """Clients of it, which is also where everything else here finds AWS, with the function in it."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": emulator.endpoint,
    }.items():
        monkeypatch.setenv(name, value)

    def client(service):
        return boto3.client(service, endpoint_url=emulator.endpoint, region_name=REGION, **KEYS)

    # As in every account today; moto does not know the default.
    client("ecs").put_account_setting(name="taskLongArnFormat", value="enabled")
    client("s3").create_bucket(Bucket="muons", CreateBucketConfiguration={"LocationConstraint": REGION})
    client("lambda").create_function(
        FunctionName="muons",
        Role="arn:aws:iam::123456789012:role/muons",
        PackageType="Image",
        Code={"ImageUri": "muons:1"},
        MemorySize=2048,
        Environment={"Variables": {"DASK_ROOT_LAMBDA_STORE": "s3://muons/partial"}},
        Timeout=60,
    )
    yield client
    client("lambda").delete_function(FunctionName="muons")
    for item in client("s3").list_objects_v2(Bucket="muons").get("Contents", []):
        client("s3").delete_object(Bucket="muons", Key=item["Key"])
    client("s3").delete_bucket(Bucket="muons")


@pytest.fixture
def tasks(monkeypatch, tmp_path):
    """Run the commands of Fargate's tasks here, as they are described to AWS; end them with the test."""
    running = Tasks(tmp_path)
    start = ecs.Task.start

    async def started(task):
        await start(task)
        async with task._client("ecs") as client:
            answer = await client.describe_tasks(cluster=task.cluster_arn, tasks=[task.task_arn])
        [override] = answer["tasks"][0]["overrides"]["containerOverrides"]
        running.start(override)
        task.private_ip = "127.0.0.1"

    monkeypatch.setattr(ecs.Task, "start", started)
    # In moto, a task is on its way to its end each time that it is looked at.
    state_manager.set_transition("ecs::task", {"progression": "manual", "times": 1_000_000})
    yield running
    state_manager.unset_transition("ecs::task")
    for index in range(len(running.processes)):
        running.kill(index)


class Tasks:
    """Processes of tasks: the scheduler's, then the gateway's."""

    def __init__(self, directory):
        self.directory = directory
        self.processes = []
        self._overrides = []

    def start(self, override):
        """Start another one."""
        self._overrides.append(override)
        self.processes.append(_run(override, self.directory))

    def kill(self, index):
        """End one as the kernel would."""
        self.processes[index].kill()
        self.processes[index].wait(20)

    def start_again(self, index):
        """Start one that was killed."""
        self.processes[index] = _run(self._overrides[index], self.directory)


def _run(override, directory: Path) -> subprocess.Popen:
    """Run a task's command; ``dask-scheduler`` is ``dask scheduler``, as in the image."""
    program, *arguments = override["command"]
    variables = {item["name"]: item["value"] for item in override["environment"]}
    with (directory / f"{program}.log").open("wb") as log:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("dask")), program.removeprefix("dask-"), *arguments],
            env={
                **os.environ,
                **variables,
                "DASK_DISTRIBUTED__WORKER__USE_FILE_LOCKING": "false",
                # Its disk is not the client's.
                "XDG_STATE_HOME": str(directory / "disk-of-the-task"),
            },
            cwd=directory,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture
def options(aws, tasks):
    """What makes a cluster whose tasks run here."""
    group = aws("ec2").create_security_group(GroupName="mine", Description="only me")["GroupId"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield {
        "image": IMAGE,
        "region": REGION,
        "security_groups": [group],
        "policies": [POLICY],
        "concurrency": 7,
        "function": "muons",
        "merge_threads": 3,
        "scheduler_port": port,
        "scheduler_extra_args": ["--port", str(port), "--dashboard-address", "127.0.0.1:0"],
        "worker_extra_args": ["--no-dashboard"],
    }
    aws("ec2").delete_security_group(GroupId=group)


@pytest.fixture
def cluster(options):
    """A cluster whose tasks run here."""
    with FargateLambdaCluster(**options) as cluster:
        yield cluster


def test_the_cluster_is_asked_for_and_runs_on_lambda(cluster, aws, events_file):
    """Definitions, roles and network are as they should be; the plugin is there; a histogram is right."""
    check_definitions(aws, cluster)
    check_roles(aws, cluster)
    check_network(aws, cluster)
    with Client(cluster) as client:
        check_worker(client)
        frame = RDataFrame(1000, npartitions=5).Define("x", "double(rdfentry_)")
        histogram, total = frame.Histo1D(("x", "", 10, 0.0, 1000.0), "x"), frame.Sum("x")
        assert total.GetValue() == sum(range(1000))
        assert histogram.GetEntries() == 1000
        check_page(client, cluster)
        reports = [worker["metrics"][EXECUTOR] for worker in client.scheduler_info()["workers"].values()]
    assert [report["execution"] for report in reports] == ["lambda"]
    cluster.close()
    check_nothing_is_left(aws, cluster)


def test_what_a_gateway_got_outlives_it(cluster, aws, tasks, tmp_path):
    """It is killed in mid-run; the next one invokes the range that is missing, and nothing else."""
    gate = tmp_path / "gate"
    gate.touch()
    wait = f'while (rdfentry_ >= 700 && !gSystem->AccessPathName("{gate}")) gSystem->Sleep(20);'
    total = RDataFrame(800, npartitions=8).Define("x", wait + " return double(rdfentry_);").Sum("x")

    def kept():
        found = aws("s3").list_objects_v2(Bucket="muons").get("Contents", [])
        keys = [item["Key"] for item in found if "/kept-" in item["Key"]]
        blobs = [aws("s3").get_object(Bucket="muons", Key=key)["Body"].read() for key in keys]
        return sum(len(list(records.contents(blob))) for blob in blobs)

    with Client(cluster) as client:
        future = client.compute(total)
        wait_until(lambda: kept() == 7, 120.0)
        tasks.kill(1)
        gate.unlink()
        tasks.start_again(1)
        assert future.result(timeout=120) == sum(range(800))
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["metrics"][EXECUTOR]["invocations"] == 1
        wait_until(lambda: kept() == 0)


def check_definitions(aws, cluster):
    """Both tasks: the image, on Fargate; the worker with a slot for every invocation, and ROOT first."""
    for arn in (cluster.scheduler_task_definition_arn, cluster.worker_task_definition_arn):
        definition = aws("ecs").describe_task_definition(taskDefinition=arn)["taskDefinition"]
        assert definition["requiresCompatibilities"] == ["FARGATE"]
        [container] = definition["containerDefinitions"]
        assert container["image"] == IMAGE
    command = container["command"]
    assert command[:3] == ["dask-worker", "--nthreads", str(slots(7))]
    assert command[command.index("--preload") + 1] == "lambda_runtime.runner"


def check_page(client, cluster):
    """The scheduler has the page among its own, for dask-labextension, and tells the link to steer."""
    assert cluster.steering_link().partition("#")[0].endswith("/lambda")

    def plots(dask_scheduler):
        return sorted(dask_scheduler.http_application.applications[0].app_paths)

    assert {"/lambda", "/individual-lambda-runs"} <= set(client.run_on_scheduler(plots))


def check_roles(aws, cluster):
    """The tasks' role has the policy that was named, and no other."""
    role = cluster._task_role_arn.rpartition("/")[2]
    attached = aws("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert [policy["PolicyArn"] for policy in attached] == [POLICY]


def check_network(aws, cluster):
    """Tasks have no public address and are in the named group; they are told their region."""
    arns = aws("ecs").list_tasks(cluster=cluster.cluster_arn)["taskArns"]
    found = aws("ecs").describe_tasks(cluster=cluster.cluster_arn, tasks=arns)["tasks"]
    assert len(found) == 2
    for task in found:
        [override] = task["overrides"]["containerOverrides"]
        assert {"name": "AWS_REGION", "value": REGION} in override["environment"]
    assert cluster._fargate_use_private_ip


def check_worker(client):
    """One gateway: tasks for seven slots, of which the account lets two be used; three threads for merges."""

    def pools(dask_worker):  # here, because the worker has no module of tests to look it up in
        threads, executors = dask_worker.state.nthreads, dask_worker.executors
        return threads, executors["lambda"].executor.concurrency, executors["default"]._max_workers

    client.wait_for_workers(1, timeout=60)
    assert list(client.run(pools).values()) == [(slots(7), 2, 3)]


def check_nothing_is_left(aws, cluster):
    """Tasks, roles, task definitions and the ECS cluster go with it."""
    assert aws("ecs").list_task_definitions(status="ACTIVE")["taskDefinitionArns"] == []
    [found] = aws("ecs").describe_clusters(clusters=[cluster.cluster_arn])["clusters"]
    assert found["status"] == "INACTIVE"
    roles = [role["RoleName"] for role in aws("iam").list_roles()["Roles"]]
    assert not [role for role in roles if cluster.name in role]


def stays(aws):
    """Tasks, task definitions, clusters and roles that are there now."""
    client = aws("ecs")
    clusters = client.list_clusters()["clusterArns"]
    running = [
        arn
        for name in clusters
        for arn in client.list_tasks(cluster=name, desiredStatus="RUNNING")["taskArns"]
    ]
    return {
        "tasks": running,
        "definitions": client.list_task_definitions(status="ACTIVE")["taskDefinitionArns"],
        "clusters": [
            each["clusterArn"]
            for each in client.describe_clusters(clusters=clusters)["clusters"]
            if each["status"] == "ACTIVE"
        ],
        "roles": sorted(role["RoleName"] for role in aws("iam").list_roles()["Roles"]),
    }


@pytest.mark.parametrize("step", ["_register", "_create_worker_task_definition_arn"])
def test_a_cluster_that_does_not_start_leaves_nothing(aws, options, monkeypatch, step):
    """Nobody has an object to close; tasks would go on, and cost money."""
    before = stays(aws)

    async def fail(cluster):
        raise RuntimeError("of the test")

    monkeypatch.setattr(FargateLambdaCluster, step, fail)
    with pytest.raises(RuntimeError, match="of the test"):
        FargateLambdaCluster(**options)
    assert stays(aws) == before


def test_the_profile_makes_the_cluster_and_is_not_sent_to_it(monkeypatch, tmp_path):
    """The tasks have a role, and nobody's ~/.aws."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    credentials = tmp_path / "credentials"
    credentials.write_text("[mine]\naws_access_key_id = of-mine\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    seen = []

    async def start(cluster):
        found = await cluster.session.get_credentials()
        seen.append((found.access_key, cluster._settings.profile, cluster._settings.deployment))

    async def nothing(cluster):
        pass

    async def closed(cluster):
        cluster.status = Status.closed

    monkeypatch.setattr(ecs.ECSCluster, "_start", start)
    monkeypatch.setattr(FargateLambdaCluster, "_register", nothing)
    monkeypatch.setattr(FargateLambdaCluster, "_close", closed)

    async def make():
        options = {"security_groups": ["sg-1"], "policies": [POLICY], "deployment": "muons"}
        with dask.config.set({"dask-root-lambda.aws.profile": "mine"}):
            cluster = FargateLambdaCluster(IMAGE, REGION, **options, asynchronous=True)
        await cluster._start()
        await cluster._close()

    asyncio.run(make())
    assert seen == [("of-mine", None, "muons")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"security_groups": [], "policies": [POLICY]}, "security_groups"),
        ({"security_groups": ["sg-1"]}, "policies"),
        ({"security_groups": ["sg-1"], "policies": [POLICY], "concurrency": 0}, "concurrency"),
    ],
)
def test_what_would_be_open_or_useless_is_refused(arguments, said):
    """Before AWS is asked for anything."""
    with pytest.raises(ConfigurationError, match=said):
        FargateLambdaCluster(IMAGE, REGION, **arguments)


def test_without_the_extra_the_error_names_it():
    """All names can be imported; who asks for a cluster is told what to install."""
    code = (
        "import sys; sys.modules['dask_cloudprovider.aws'] = None; from dask_root_lambda import *\n"
        "print(RDataFrame.__name__)\nFargateLambdaCluster('image', 'eu-west-1', security_groups=['sg-1'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "RDataFrame"
    assert "pip install 'dask-root-lambda[fargate]'" in done.stderr
