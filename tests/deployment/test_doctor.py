"""The doctor finds each thing that can be wrong, and says what to do."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import socket
import threading
import time
from email.utils import formatdate
from types import SimpleNamespace

import boto3
import pytest
import ROOT

from dask_root_lambda import cli
from dask_root_lambda.config import Settings
from dask_root_lambda.deployment import doctor, file_check
from dask_root_lambda.invocation import aws
from dask_root_lambda.invocation.invokers import AwsInvoker
from dask_root_lambda.protocol import task
from dask_root_lambda.protocol.errors import InputError, NotReadyError

from ..deployed import make_deployment
from ..xrootd import serving


@pytest.fixture(scope="module")
def healthy(aws_endpoint):
    """A deployment that nothing is wrong with; its environment is warm for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
        return make_deployment()


def examine(name, files=(), **settings):
    """Outcome and words of each check, by its name."""
    now_s, tree = settings.pop("now_s", time.time), settings.pop("tree", "")
    resolved = Settings.resolve(execution="lambda", deployment=name, **settings)
    return {check.name: (check.outcome, check.said) for check in doctor.examine(resolved, files, tree, now_s)}


def failures(checks):
    return {name: said for name, (outcome, said) in checks.items() if outcome == "failed"}


def test_a_healthy_deployment_has_no_failure(user, healthy, events_file):
    """Everything is looked at: the function is invoked, the store written, the file read by the function."""
    checks = examine(healthy, [events_file])
    assert failures(checks) == {}
    assert list(checks) == [
        "region", "credentials", "clock", "deployment", "concurrency", f"function {healthy}", "store",
        "versions", "store, from the function", f"file {events_file}",
    ]  # fmt: skip
    assert "on both sides" in checks["versions"][1]
    said = checks[f"file {events_file}"][1]
    assert said.startswith("Events (TTree) has 1,000 entries and 2 columns, opened in ")
    assert re.search(r"read entries 0 to 100 of all columns in [\d.]+ s by [\d,]+ bytes in \d+ req", said)


def test_the_region_is_missing(user, monkeypatch, tmp_path):
    """One line, with what to set."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert "set AWS_REGION" in failures(examine("muons"))["credentials"]


def test_the_credentials_are_missing(user, monkeypatch, tmp_path):
    """With how to configure them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "aws configure" in failures(examine("muons"))["credentials"]


class Refusing(http.server.BaseHTTPRequestHandler):
    """STS as it answers wrong credentials, or right ones at another time."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body, date = self.server.answer
        self.send_response_only(status)
        self.send_header("Date", date)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def sts():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("code", "advice"),
    [("InvalidClientTokenId", "aws sts get-caller-identity"), ("ExpiredToken", "renew them")],
)
def test_the_credentials_are_refused(user, sts, code, advice):
    """Wrong ones and expired ones are told apart."""
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>said</Message></Error></ErrorResponse>"
    sts.answer = (403, body, formatdate(usegmt=True))
    found = failures(examine("muons", endpoint_url=f"http://127.0.0.1:{sts.server_port}"))
    assert list(found) == ["credentials"]
    assert advice in found["credentials"]


def test_nothing_answers_at_the_endpoint(user):
    """Within seconds, and with what to look at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = failures(examine("muons", endpoint_url=f"http://127.0.0.1:{free.getsockname()[1]}"))
    assert "check the network, the region and the endpoint" in found["credentials"]


IDENTITY = (
    "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::1:user/u</Arn><UserId>u</UserId>"
    "<Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)


@pytest.mark.parametrize(
    ("ahead_s", "outcome", "said"),
    [
        (0, "ok", "within 60 s"),
        (200, "failed", "200 s ahead of AWS's"),
        (-4000, "failed", "4,000 s behind AWS's"),
    ],
)
def test_the_clock_is_compared_with_aws(user, sts, ahead_s, outcome, said):
    """Before it is so wrong that AWS refuses all signatures."""
    now_s = int(time.time())
    sts.answer = (200, IDENTITY, formatdate(now_s - ahead_s, usegmt=True))
    endpoint = f"http://127.0.0.1:{sts.server_port}"
    found = examine("muons", endpoint_url=endpoint, now_s=lambda: now_s)["clock"]
    assert found[0] == outcome
    assert said in found[1]


@pytest.mark.parametrize("ahead_s", [-400, 4000])
def test_a_clock_for_which_aws_refuses_all_signatures_is_named(user, sts, ahead_s):
    """AWS says that the signature is wrong, and its answer has the date: the clock, not the credentials."""
    said = "<Message>Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z</Message>"
    body = f"<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code>{said}</Error></ErrorResponse>"
    now_s = int(time.time())
    sts.answer = (403, body, formatdate(now_s - ahead_s, usegmt=True))
    endpoint = f"http://127.0.0.1:{sts.server_port}"
    checks = examine("muons", endpoint_url=endpoint, now_s=lambda: now_s)
    assert list(failures(checks)) == ["clock"]
    assert f"{abs(ahead_s):,} s {'ahead of' if ahead_s > 0 else 'behind'} AWS's" in checks["clock"][1]
    assert checks["credentials"][0] == "unknown"


def test_there_is_no_deployment(user):
    """With the command that makes it."""
    assert "dask-root-lambda deploy --name nobodys" in failures(examine("nobodys"))["deployment"]


def test_the_function_is_gone(user):
    """Parameters without a function."""
    name = make_deployment(with_function=False)
    assert "deploy it with 'dask-root-lambda deploy'" in failures(examine(name))[f"function {name}"]


def test_the_alias_is_gone(user):
    """A function of that name, which clients cannot invoke."""
    name = make_deployment()
    boto3.client("lambda").delete_alias(FunctionName=name, Name="live")
    found = failures(examine(name))
    assert list(found) == [f"function {name}"]
    assert "check its name, version and region" in found[f"function {name}"]


def test_the_function_has_another_store(user, healthy):
    """What it would put away is not where clients look."""
    name = make_deployment(function=healthy, tiers=json.dumps({"1769": healthy}), with_function=False)
    assert list(failures(examine(name))) == ["store, from the function"]


def test_a_further_tier_is_gone(user, healthy):
    """Each tier is looked at."""
    tiers = json.dumps({"3538": "gone", "1769": healthy})
    store = f"s3://{healthy}/partial"
    name = make_deployment(tiers=tiers, function=healthy, store=store, with_function=False)
    assert list(failures(examine(name))) == ["function gone"]


SNAPSTART = {"ApplyOn": "PublishedVersions"}


def test_the_function_is_still_being_made(user):
    """While its snapshot is taken it cannot be invoked: that is a matter of time."""
    name = make_deployment(settings={"SnapStart": SNAPSTART})
    assert "try again in a minute" in failures(examine(name))[f"function {name}"]


def test_the_function_failed(user):
    """Its snapshot could not be taken, as its code cannot be imported: AWS's reason is told."""
    broken = {"SnapStart": SNAPSTART, "ImageConfig": {"Command": ["no_such_module.handler"]}}
    name = make_deployment(settings=broken)
    look, deadline_s = boto3.client("lambda").get_function_configuration, time.monotonic() + 60
    while look(FunctionName=name, Qualifier="live")["State"] == "Pending":
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    found = failures(examine(name))
    assert list(found) == [f"function {name}"]
    assert found[f"function {name}"].startswith("is Failed: ")
    assert "deploy again" in found[f"function {name}"]


def test_the_quota_is_too_low(user, healthy):
    """With the number that there is, and both ways out."""
    found = failures(examine(healthy, concurrency=9999))
    assert list(found) == ["concurrency"]
    assert "Service Quotas" in found["concurrency"]
    assert "9,999 are asked for" in found["concurrency"]


@pytest.fixture
def reserving(user, healthy):
    """Reserves concurrency for the healthy function, for a while."""
    client = boto3.client("lambda")

    def reserve(count):
        client.put_function_concurrency(FunctionName=healthy, ReservedConcurrentExecutions=count)

    yield reserve
    client.delete_function_concurrency(FunctionName=healthy)


def test_what_is_reserved_for_the_function_is_enough(healthy, reserving):
    """Others have little left then, which is nothing to this function."""
    reserving(900)
    outcome, said = examine(healthy, concurrency=900)["concurrency"]
    assert outcome == "ok"
    assert "900 at once are reserved for the function" in said


def test_what_is_reserved_for_the_function_is_all_it_gets(healthy, reserving):
    """However much of the account's is free."""
    reserving(200)
    said = failures(examine(f"{healthy}", concurrency=700))["concurrency"]
    assert "200 are reserved for the function" in said
    assert "--var reserved_concurrency=700" in said


def test_the_function_is_throttled(healthy, reserving):
    """Whoever reserves none switches it off."""
    reserving(0)
    found = failures(examine(healthy))
    assert list(found) == ["concurrency", "versions"]
    assert "raise the concurrency quota" in found["versions"]


def test_the_function_does_not_start(user):
    """It is Active, and its code cannot be imported."""
    name = make_deployment(settings={"ImageConfig": {"Command": ["no_such_module.handler"]}})
    found = failures(examine(name))
    assert list(found) == ["versions"]
    assert "rebuild and deploy its image" in found["versions"]


def test_a_function_that_was_idle_for_weeks_is_woken(user, healthy, monkeypatch):
    """Deploying again would not help: AWS wants an invocation, which it refuses, and some time after it."""
    real, client, refused = AwsInvoker.invoke, aws.Session.client, []

    def inactive(session, service):
        made = client(session, service)
        look = getattr(made, "get_function_configuration", None)
        made.get_function_configuration = lambda **which: {**look(**which), "State": "Inactive"}
        return made

    def refusing(invoker, request, cancellation):
        if len(refused) == 2:
            return real(invoker, request, cancellation)
        refused.append(NotReadyError("it is not ready yet"))
        raise refused[-1]

    monkeypatch.setattr(aws.Session, "client", inactive)
    monkeypatch.setattr(AwsInvoker, "invoke", refusing)
    monkeypatch.setattr(doctor, "_WAKE_POLL_S", 0.01)
    checks = examine(healthy)
    assert failures(checks) == {}
    assert "Inactive: its next call takes minutes" in checks[f"function {healthy}"][1]
    assert len(refused) == 2


def test_a_file_is_read_over_root(user, healthy, events_file):
    """By the function, from a real XRootD server."""
    with serving() as (directory, url):
        shutil.copy(events_file, directory / "events.root")
        remote = f"{url}/events.root"
        outcome, said = examine(healthy, [remote])[f"file {remote}"]
    assert outcome == "ok"
    assert "Events (TTree) has 1,000 entries" in said
    assert " bytes in " in said


def test_a_range_of_an_object_is_read(user, healthy, events_file, tmp_path):
    """By the function, with its role; RNTuples too. What cannot be read is told."""
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    ntuple = str(tmp_path / "n.root")
    ROOT.RDataFrame(50).Define("x", "rdfentry_").Snapshot("Ntuple", ntuple, ["x"], options)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="doctored")
    s3.upload_file(events_file, "doctored", "a b.root")
    s3.upload_file(ntuple, "doctored", "n.root")
    names = [f"s3://doctored/{key}" for key in ("a b.root", "n.root", "none.root", "*.root")]
    checks = examine(healthy, names)
    assert [checks[f"file {name}"][0] for name in names] == ["ok", "ok", "failed", "failed"]
    said = [checks[f"file {name}"][1] for name in names]
    assert said[0].startswith("Events (TTree) has 1,000 entries and 2 columns")
    assert said[1].startswith("Ntuple (RNTuple) has 50 entries and 1 columns")
    assert all(re.search(r"opened in [\d.]+ s by [1-9][\d,]* bytes in [1-9]", each) for each in said[:2])
    assert "read entries 0 to 50 of all columns" in said[1]
    assert "there is no such object" in said[2]
    assert "name one file" in said[3]
    assert "it has Events (TTree)" in failures(examine(healthy, names[:1], tree="Muons"))[f"file {names[0]}"]


def test_a_bucket_in_another_region_is_told(user, healthy, events_file):
    """With what transfer from it costs."""
    far = boto3.client("s3", region_name="eu-west-1")
    far.create_bucket(Bucket="abroad", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    far.upload_file(events_file, "abroad", "a.root")
    outcome, said = examine(healthy, ["s3://abroad/a.root"])["file s3://abroad/a.root"]
    assert outcome == "ok"
    assert "the bucket is in eu-west-1, the function in us-east-1: transfer costs 0.02 USD per GB" in said


def test_emulated_functions_read_a_file(capsys, events_file, tmp_path):
    """Without an account: the command starts an emulator."""
    missing = str(tmp_path / "none.root")
    command = ["doctor", "--execution", "emulated", "--json", "--file", events_file, "--file", missing]
    assert cli.main(command) == 1
    checks = {each["name"]: each for each in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["emulator"]["outcome"] == checks[f"file {events_file}"]["outcome"] == "ok"
    assert "read entries 0 to 100 of all columns" in checks[f"file {events_file}"]["said"]
    assert checks[f"file {missing}"]["outcome"] == "failed"


def test_files_of_this_machine_are_not_in_aws(events_file):
    """The way out is named."""
    function = SimpleNamespace(remote=True, region="us-east-1")
    with pytest.raises(InputError, match="dask-root-lambda copy"):
        file_check.read_range(function, None, events_file, "")


def test_the_bucket_is_gone(user):
    """It is written to."""
    name = make_deployment(with_bucket=False)
    assert "NoSuchBucket" in failures(examine(name))["store"]


@pytest.mark.parametrize("other", [{"python": "2.7"}, {"wire": 99}])
def test_versions_differ(user, healthy, monkeypatch, other):
    """The function is asked; both sides are named."""
    real = task.Versions

    def versions(root):
        return real(root=root, **other)

    monkeypatch.setattr(doctor, "Versions", versions)
    said = failures(examine(healthy))["versions"]
    assert str(next(iter(other.values()))) in said
    assert "deploy an image made for" in said


def test_a_file_cannot_be_read(user, healthy, tmp_path):
    """By the function: missing, and no ROOT file."""
    (tmp_path / "text.root").write_text("text")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        remote = f"root://127.0.0.1:{free.getsockname()[1]}//x.root"
        files = [str(tmp_path / "missing.root"), str(tmp_path / "text.root"), remote]
        found = failures(examine(healthy, files))
    assert list(found) == [f"file {url}" for url in files]
    assert "No such file" in found[f"file {files[0]}"]
    assert "is not a ROOT file" in found[f"file {files[1]}"]
    assert "check the host and the path" in found[f"file {remote}"]


def test_the_command_tells_line_by_line(user, healthy, capsys):
    """Each line is ok or what to do; the exit status is 1 if one failed."""
    assert cli.main(["doctor", "--name", healthy]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert {line.split()[0] for line in lines} == {"ok"}
    assert cli.main(["doctor", "--name", "nobodys", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [check["name"] for check in told["checks"] if check["outcome"] == "failed"] == ["deployment"]
