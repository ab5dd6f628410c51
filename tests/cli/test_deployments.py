"""status, logs and config: what they tell, as text and as JSON."""

from __future__ import annotations

import json

import boto3
import dask
import pytest

from dask_root_lambda import LambdaCluster, LambdaExecutor, RDataFrame, cli
from dask_root_lambda.config import Settings
from dask_root_lambda.deployment import logs
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.invocation.cancellation import Cancellation
from dask_root_lambda.invocation.invokers import AwsInvoker
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import ConfigurationError
from dask_root_lambda.protocol.task import Body, Request

from ..deployed import make_deployment, make_function


@pytest.fixture
def command(user, capsys):
    """Runs a command; returns what it wrote, read as JSON where that was asked for."""

    def run(*arguments, status=0):
        assert cli.main(list(arguments)) == status
        written = capsys.readouterr()
        return json.loads(written.out) if "--json" in arguments else written.out + written.err

    return run


def test_status_tells_what_is_deployed_and_what_runs_cost(command):
    """The journal's figures of this month are in it; SnapStart's idle price as well."""
    name = make_deployment(settings={"SnapStart": {"ApplyOn": "PublishedVersions"}})
    boto3.client("lambda").get_waiter("function_active_v2").wait(FunctionName=name, Qualifier="1")
    with LambdaExecutor("lambda", concurrency=1, deployment=name) as executor:
        assert executor.submit(abs, -1).result(60) == 1
    told = command("status", "--name", name, "--json")
    (function,) = told["functions"]
    assert (function["name"], function["version"], function["state"]) == (name, "1", "Active")
    assert (function["memory_mb"], function["snapstart"]) == (1769, True)
    assert told["spent"]["invocations"] == 1
    assert told["spent"]["usd"] > 0
    # infra/README.md has the same figure.
    assert told["idle_usd_per_month"] == pytest.approx(6.83, abs=0.01)
    assert "1 invocations" in command("status", "--name", name)


def test_status_has_the_runs_of_a_further_tier(command):
    """It is used by the name of its function, and costs its deployment."""
    name = make_deployment()
    logging = {"LogFormat": "JSON", "LogGroup": f"/dask-root-lambda/{name}"}
    make_function(f"{name}-3538", MemorySize=3538, LoggingConfig=logging)
    boto3.client("ssm").put_parameter(
        Name=f"/dask-root-lambda/{name}/tiers",
        Value=json.dumps({"1769": name, "3538": f"{name}-3538"}),
        Type="String",
        Overwrite=True,
    )
    settings = Settings.resolve(
        execution="lambda", function=f"{name}-3538:live", store=f"s3://{name}/partial", concurrency=1
    )
    invoker = AwsInvoker(settings)
    try:
        request = Request("call", "task", (Body.of(wire.dumps((abs, (-1,), {}))),))
        assert invoker.invoke(request, Cancellation()).error is None
    finally:
        invoker.close()
    spent = command("status", "--name", name, "--json")["spent"]
    assert spent["invocations"] == 1
    assert spent["gb_seconds"] == pytest.approx(spent["billed_s"] * 3538 / 1024)


def test_status_of_nothing_says_how_to_deploy(command):
    """One line, status 1."""
    text = command("status", "--name", "nobodys", status=1)
    assert text.startswith("error: there is no deployment 'nobodys' in us-east-1")


def test_logs_of_a_task_are_those_of_its_request(command):
    """What the task's own code printed is found by the task's key; another task's lines are not."""
    # As infra/ sets it.
    structured = {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
    name = make_deployment(settings={"LoggingConfig": structured})
    with LambdaExecutor("lambda", concurrency=1, deployment=name) as executor:
        executor.submit_call(Call("one-task", print, ["printed by one"])).result(60)
        executor.submit_call(Call("other-task", print, ["printed by two"])).result(60)
    told = command("logs", "--name", name, "--task", "one-task", "--json")
    messages = "\n".join(line["message"] for line in told["lines"])
    assert "one-task, attempt 1" in messages
    assert "printed by one" in messages
    assert "other-task" not in messages
    assert "printed by two" not in messages
    (request,) = {line["request_id"] for line in told["lines"] if line["request_id"]}
    shown = command("logs", "--name", name, "--request", request)
    assert "one-task" in shown
    assert "printed by one" in shown
    assert "nothing in the last 5m" in command("logs", "--name", name, "--task", "no-such", "--since", "5m")
    cut = command("logs", "--name", name, "--limit", "2", "--json")
    assert len(cut["lines"]) == 2
    assert cut["left_out"] == "only the first 2 lines are shown: --limit shows more"
    assert "--limit shows more" in command("logs", "--name", name, "--limit", "2")


def test_logs_of_a_run_and_of_a_range_have_what_the_code_printed(command, monkeypatch):
    """C++ prints without saying for which request; the range's own lines are found, and no other's."""
    name = make_deployment(settings={"LoggingConfig": {"LogFormat": "JSON"}})
    printing = '(rdfentry_ % 10 == 0 ? printf("at entry %llu of all\\n", rdfentry_) : 0) >= 0'
    with LambdaCluster("lambda", concurrency=1, deployment=name, progress=False) as cluster:
        with cluster.get_client():
            assert RDataFrame(30, npartitions=3).Filter(printing).Count().GetValue() == 30
        run = cluster.report().runs[0].run
    lines = command("logs", "--name", name, "--run", run, "--json")["lines"]
    printed = {line["message"] for line in lines if "at entry" in line["message"]}
    assert printed == {f"at entry {entry} of all" for entry in (0, 10, 20)}
    assert len({line["request_id"] for line in lines}) == 3
    text = command("logs", "--name", name, "--run", run, "--range", "1")
    assert "at entry 10 of all" in text
    assert "at entry 0 of all" not in text
    assert "at entry 20 of all" not in text
    for place in (["--range", "1"], ["--run", run[:8], "--range", "1"]):
        assert command("logs", "--name", name, *place) == text
    assert "nothing in the last" in command("logs", "--name", name, "--run", "ffffffff", "--range", "1")
    monkeypatch.setattr(logs, "_MAX_REQUESTS", 2)
    assert "1 more invocations are not shown" in command("logs", "--name", name, "--run", run)


LINES = {
    "plain": ("START RequestId: 8f5b1a52-0000-4000-8000-000000000000 Version: 1", "", "8f5b1a52"),
    "ours": ('{"level": "INFO", "message": "m", "requestId": "r-1"}', "INFO", "r-1"),
    "platform": ('{"type": "platform.report", "record": {"requestId": "r-2"}}', "report", "r-2"),
}  # fmt: skip


TEXT = """\
START RequestId: 8f5b1a52-0000-4000-8000-000000000001 Version: 1
of the first
END RequestId: 8f5b1a52-0000-4000-8000-000000000001
REPORT RequestId: 8f5b1a52-0000-4000-8000-000000000001 Duration: 1 ms
START RequestId: 8f5b1a52-0000-4000-8000-000000000002 Version: 1
of the second
REPORT RequestId: 8f5b1a52-0000-4000-8000-000000000002 Duration: 1 ms"""


def test_lines_of_a_request_in_a_log_of_text():
    """From START to REPORT; what comes between has the request's name."""
    lines = list(logs._read({"timestamp": 0, "message": line} for line in TEXT.splitlines()))
    request = "8f5b1a52-0000-4000-8000-000000000002"
    found = list(logs._between(lines, request))
    assert [line.message.split()[0] for line in found] == ["START", "of", "REPORT"]
    assert {line.request_id for line in found} == {request}


@pytest.mark.parametrize("kind", LINES)
def test_lines_are_read_as_text_and_as_records(kind):
    """Lambda logs both ways, and its own records differ from the function's."""
    message, level, request = LINES[kind]
    (line,) = logs._read([{"timestamp": 0, "message": message}])
    assert line.level == level
    assert line.request_id.startswith(request)
    assert line.time == "1970-01-01T00:00:00.000+00:00"


def test_spans_of_time():
    """A number and a unit; anything else names the form."""
    assert [logs.seconds(text) for text in ("90s", "15m", "3h", "2d")] == [90, 900, 10_800, 172_800]
    with pytest.raises(ConfigurationError, match="'soon' is no span of time: use 90s, 15m, 3h or 2d"):
        logs.seconds("soon")


@pytest.mark.parametrize("arguments", [["--range", "1"], ["--limit", "0"], ["--since", "soon"]])
def test_mistakes_in_asking_for_logs(command, arguments):
    """One line, status 1."""
    text = command("logs", *arguments, status=1)
    assert text.startswith("error: ")
    assert text.count("\n") == 1


def test_config_tells_where_each_setting_comes_from(command, monkeypatch):
    """Option, environment variable or package; no credential is shown."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("DASK_DASK_ROOT_LAMBDA__RETRY__MAX_ATTEMPTS", "4")
    told = command("config", "--region", "eu-west-1", "--json")
    assert told["aws.region"] == {"value": "eu-west-1", "source": "--region"}
    assert told["retry.max-attempts"]["source"] == "DASK_DASK_ROOT_LAMBDA__RETRY__MAX_ATTEMPTS"
    assert told["fan-in"] == {"value": 8, "source": "packaged"}
    assert told["AWS credentials"] == {"value": "not shown", "source": "env"}
    assert "very-secret" not in command("config")


def test_config_hides_passwords_in_urls_and_needs_no_aws(command, monkeypatch, tmp_path):
    """Also where nothing of AWS is configured."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with dask.config.set({"dask-root-lambda.aws.endpoint-url": "http://me:hidden@127.0.0.1:1"}):
        text = command("config")
    assert "hidden" not in text
    assert "http://***@127.0.0.1:1" in text
    assert "set AWS_REGION" in text
