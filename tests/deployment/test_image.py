"""The image's content hash, its context, and what builds it: scripts that note what they are told."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

import lambda_runtime
from dask_root_lambda.deployment import image
from dask_root_lambda.deployment.image import Builder, ClusterSpec, ImageSpec, context_files, tag
from dask_root_lambda.protocol.errors import ConfigurationError, DeploymentError

SPEC = ImageSpec("3.11", "ROOT==0.1a12", "6.40")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put programs on a PATH of their own; each notes its arguments, and does what its script says."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setattr(image.shutil, "which", lambda name: _which(directory, name))

    def make(name, script="exit 0"):
        path = directory / name
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.said\n{script}\n')
        path.chmod(0o755)
        return tmp_path / f"{name}.said"

    return make


def _which(directory, name):
    return str(directory / name) if os.access(directory / name, os.X_OK) else None


class TestTag:
    """The tag is the content."""

    def test_is_the_same_for_the_same_content(self):
        """Two processes that deploy the same thing give it one name, which any registry takes."""
        assert tag(SPEC) == tag(replace(SPEC))
        assert re.fullmatch("[0-9a-f]{24}", tag(SPEC))

    @pytest.mark.parametrize(
        "change",
        [
            {"python": "3.12"},
            {"root": ""},
            {"root_version": "6.38"},
            {"base": "mine:1"},
            {"packages": ("uproot",)},
            {"architecture": "arm64"},
        ],
    )
    def test_changes_with_everything_that_the_build_is_told(self, change):
        """Each argument is part of it."""
        assert tag(replace(SPEC, **change)) != tag(SPEC)

    def test_changes_with_the_files(self, monkeypatch):
        """One byte of one file is enough."""
        before, files = tag(SPEC), dict(context_files())
        files["lambda_runtime/handler.py"] += b"#"
        monkeypatch.setattr(image, "context_files", lambda: files)
        assert tag(SPEC) != before


class TestContext:
    """What the build sees."""

    def test_has_what_the_dockerfile_copies(self):
        """Every source of a COPY, and no compiled files."""
        names = context_files()
        dockerfile = names["lambda_runtime/Dockerfile"].decode()
        sources = [
            word for line in re.findall(r"^COPY (.*)$", dockerfile, re.M) for word in line.split()[:-1]
        ]
        assert sources
        for source in sources:
            assert any(name == source or name.startswith(f"{source}/") for name in names), source
        assert not [name for name in names if name.endswith(".pyc")]

    def test_has_nothing_of_the_client(self):
        """A change of the client's code is no change of the image."""
        ours = {name for name in context_files() if name.startswith("dask_root_lambda/")}
        assert {name for name in ours if not name.startswith("dask_root_lambda/protocol/")} == {
            "dask_root_lambda/__init__.py", "dask_root_lambda/py.typed",
        }  # fmt: skip

    def test_of_the_cluster_has_all(self):
        """The gateway is a client."""
        files = ClusterSpec("f:1", ("dask==1",)).files()
        assert {"dask_root_lambda/gateway.py", "dask_root_lambda/dask-root-lambda.yaml"} <= set(files)


class TestClient:
    """The image fits the client."""

    def test_gets_the_clients_root(self):
        """By the version of the package, which is not ROOT's own."""
        spec = ImageSpec.of_client("6.40")
        assert spec.root == f"ROOT=={metadata.version('ROOT')}"
        assert spec.arguments()["ROOT_VERSION"] == "6.40"
        assert "BASE" not in spec.arguments()

    def test_needs_a_base_where_root_is_not_pypis(self, monkeypatch):
        """A ROOT of another origin cannot be installed: the error asks for a base that has it."""

        def version(name):
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(image.metadata, "version", version)
        with pytest.raises(ConfigurationError, match="base image"):
            ImageSpec.of_client("6.36")
        assert ImageSpec.of_client("6.36", base="lcg:1").root == ""

    def test_cluster_has_the_clients_dask(self):
        """Exactly: scheduler and client speak one protocol."""
        assert f"dask=={metadata.version('dask')}" in ClusterSpec.of_client("f:1").packages


class TestBuilder:
    """Whichever program is there."""

    def test_takes_the_first_that_answers(self, install):
        """A Docker whose engine does not run is passed over."""
        install("docker", "echo no engine >&2; exit 1")
        install("buildah")
        install("podman")
        assert Builder.find().name == "podman"

    def test_tells_why_there_is_none(self, install):
        """Which programs would do, and what those said that are there."""
        install("docker", "echo no engine >&2; exit 1")
        with pytest.raises(ConfigurationError, match=r"finch, buildah.*docker does not answer: no engine"):
            Builder.find()

    def test_builds_with_all_arguments(self, install, tmp_path):
        """The Dockerfile, platform, build arguments and name; the context is where it runs."""
        said = install("docker", f"cp -r . {tmp_path}/context")
        lines = []
        Builder.find().build(SPEC, "registry/f:1", ("--network", "host"), lines.append)
        command = said.read_text().splitlines()[-1]
        for part in (
            "--file lambda_runtime/Dockerfile",
            "--platform linux/amd64",
            "--build-arg ROOT=ROOT==0.1a12",
            "--tag registry/f:1 --network host",
        ):
            assert part in command
        copied = tmp_path / "context/lambda_runtime/handler.py"
        assert copied.read_bytes() == Path(lambda_runtime.__file__).with_name("handler.py").read_bytes()

    def test_everybody_may_read_what_is_built(self, install, tmp_path):
        """Lambda's user is another than root, and the builder keeps modes; a umask of 077 is no excuse."""
        install("docker", f'[ "$1" = info ] || find . -mindepth 1 -printf "%y%m\\n" > {tmp_path}/modes')
        before = os.umask(0o077)
        try:
            Builder.find().build(SPEC, "f:1")
        finally:
            os.umask(before)
        assert set((tmp_path / "modes").read_text().split()) == {"d755", "f644"}

    def test_keeps_layers_where_that_is_not_the_default(self, install):
        """buildah keeps none by itself, and a change of ours would build everything."""
        said = install("buildah")
        Builder.find().build(SPEC, "f:1")
        assert "--layers" in said.read_text()

    def test_tells_how_a_build_failed(self, install):
        """With the end of the output."""
        install("podman", '[ "$1" = --version ] || { echo no space left; exit 3; }')
        with pytest.raises(DeploymentError, match=r"(?s)building.*podman.*status 3.*no space left"):
            Builder.find().build(SPEC, "f:1")

    def test_logs_in_without_the_password_on_the_command_line(self, install, tmp_path):
        """It goes through standard input."""
        said = install("podman", f'[ "$1" = --version ] || cat > {tmp_path}/password')
        builder = Builder.find()
        builder.login("registry", "AWS", "secret")
        builder.push("registry/f:1")
        assert (tmp_path / "password").read_text() in ("secret", "")
        assert "secret" not in said.read_text()
        assert "push registry/f:1" in said.read_text()
