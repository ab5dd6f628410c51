"""Images are built, pushed under their tag and found again; no password is on a command line."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest

from dask_root_lambda.config import Settings
from dask_root_lambda.deployment import registry
from dask_root_lambda.deployment.image import Builder, ImageSpec
from dask_root_lambda.invocation import aws
from dask_root_lambda.protocol.errors import DeploymentError

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
