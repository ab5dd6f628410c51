"""The token for CERN's storage is where XRootD looks for it, and nowhere else."""

from __future__ import annotations

import json
import logging
import os
import stat
import uuid
from pathlib import Path

import boto3
import pytest

from dask_root_lambda import LambdaExecutor
from dask_root_lambda.invocation.function import STORE_VARIABLE
from dask_root_lambda.protocol.errors import InputError
from lambda_runtime import storage, storage_token
from lambda_runtime.storage_token import FILE_VARIABLE, SECRET_VARIABLE, StorageToken

from .. import xrootd_tls
from ..deployed import make_deployment

SECRET = "eyJ0eXAi.of-cern.signature"


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """Time that the test sets, in a process with a secret and a /tmp of its own."""
    monkeypatch.setenv(SECRET_VARIABLE, "arn:of:the:secret")
    monkeypatch.setenv(FILE_VARIABLE, "of somebody else")
    monkeypatch.setattr(storage_token.tempfile, "gettempdir", lambda: str(tmp_path))
    return Clock()


def test_a_renewed_secret_reaches_an_old_environment(clock):
    """Ten minutes later it is read again; until then it is not."""
    read, values = [], iter(["first\n", "second"])
    token = StorageToken(lambda arn: (read.append(arn), next(values))[1], clock)
    for now_s, expected in [(1000, "first"), (1599, "first"), (1601, "second")]:
        clock.now_s = float(now_s)
        token.keep_fresh()
        path = Path(os.environ[FILE_VARIABLE])
        assert path.read_text() == expected
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read == ["arn:of:the:secret"] * 2
    assert list(path.parent.iterdir()) == [path]


def test_a_token_that_expires_is_looked_for_again_then(clock):
    """A token that is good for less than ten minutes is renewed when it ends, and then now and then."""
    read = []
    token = StorageToken(lambda arn: read.append(clock.now_s) or xrootd_tls.token(1300), clock)
    for now_s in range(1000, 1500, 10):
        clock.now_s = float(now_s)
        token.keep_fresh()
    assert read == [1000.0, 1300.0, 1360.0, 1420.0, 1480.0]


def test_a_clock_that_was_set_back_does_not_keep_a_token_for_ever(clock):
    """What is due in more than ten minutes is due now."""
    read = []
    token = StorageToken(lambda arn: read.append(arn) or "token", clock)
    token.keep_fresh()
    clock.now_s = -1e6
    token.keep_fresh()
    assert len(read) == 2


@pytest.mark.parametrize("value", ["", "  \n", RuntimeError(f"cannot parse {SECRET}")])
def test_a_secret_that_cannot_be_read_is_noted_without_a_word_of_it(clock, caplog, value):
    """The old token stays, the next try is a minute later, and errors of remote files tell."""
    read = []

    def fetch(arn):
        read.append(arn)
        if isinstance(value, Exception):
            raise value
        return value

    token = StorageToken(fetch, clock)
    for now_s in (1000, 1059, 1061):
        clock.now_s = float(now_s)
        token.keep_fresh()
    assert len(read) == 2
    assert "cannot be read from the function's secret" in token.problem
    assert SECRET not in token.problem + caplog.text
    assert os.environ[FILE_VARIABLE] == "of somebody else"


def test_an_error_of_a_remote_file_tells_that_there_is_no_token(monkeypatch):
    """Whoever reads it is to know why storage refused."""
    monkeypatch.setattr(storage_token.token, "problem", "the token for storage cannot be read: AccessDenied")
    with pytest.raises(InputError, match="the token for storage cannot be read: AccessDenied"):
        storage.identify("root://127.0.0.2:1//x.root")


def test_without_a_secret_nothing_is_asked_for(clock, monkeypatch):
    """Most deployments have none."""
    monkeypatch.delenv(SECRET_VARIABLE)
    StorageToken(lambda arn: pytest.fail("asked"), clock).keep_fresh()
    assert os.environ[FILE_VARIABLE] == "of somebody else"


@pytest.mark.parametrize("snapstart", [False, True])
def test_the_secret_is_in_the_environments_file_and_in_no_log(user, snapstart):
    """Real environments, from a snapshot too, with everything logged that anybody logs."""

    def look():  # here, because environments have no module of tests to look it up in
        logging.getLogger("of-the-user").debug("the log has everything")
        path = Path(os.environ[FILE_VARIABLE])
        return path.read_text(), stat.S_IMODE(path.stat().st_mode), os.environ.get("BEARER_TOKEN")

    name = f"token-{uuid.uuid4().hex[:8]}"
    arn = boto3.client("secretsmanager").create_secret(Name=name, SecretString="too early")["ARN"]
    group = f"/aws/lambda/{name}"
    deployed = make_deployment(
        settings={
            "Environment": {"Variables": {SECRET_VARIABLE: arn, STORE_VARIABLE: f"s3://{name}/partial"}},
            "LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "LogGroup": group},
            **({"SnapStart": {"ApplyOn": "PublishedVersions"}} if snapstart else {}),
        }
    )
    boto3.client("s3").create_bucket(Bucket=name)
    boto3.client("lambda").get_waiter("function_active_v2").wait(FunctionName=deployed, Qualifier="1")
    boto3.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=SECRET)
    with LambdaExecutor("lambda", concurrency=1, deployment=deployed) as executor:
        assert executor.submit(look).result(120) == (SECRET, 0o600, None)
    pages = boto3.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
    lines = [event["message"] for page in pages for event in page["events"]]
    assert any("the log has everything" in line for line in lines)
    assert SECRET not in json.dumps(lines)
