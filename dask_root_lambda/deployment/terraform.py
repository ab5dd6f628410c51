"""Terraform over a copy of ``infra/`` in the deployment's state directory."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_root_lambda.deployment import sources
from dask_root_lambda.deployment.process import read, run
from dask_root_lambda.protocol.errors import DeploymentError

_INIT_TIMEOUT_S = 900
"""The AWS provider is a download of 150 MB."""
_PLAN_TIMEOUT_S = 900
_APPLY_TIMEOUT_S = 3600
"""A version with SnapStart takes minutes."""

_VARIABLES = "planned.tfvars.json"
_PLAN = "next.tfplan"
_OVERRIDE = "endpoints_override.tf"
_BACKEND = "backend.tf"
_LOG = "terraform.log"

_SERVICES = ("cloudwatch", "ecr", "iam", "lambda", "logs", "s3", "secretsmanager", "sns", "ssm", "sts")
"""That ``infra/`` uses, as the provider calls them."""

_COPIED = ("*.tf", "*.lock.hcl")


@dataclass(frozen=True)
class Change:
    """What a plan does to one resource."""

    address: str
    """Terraform's name of the resource."""
    action: str
    """``create``, ``update``, ``replace`` or ``delete``."""


@dataclass(frozen=True)
class Plan:
    """What Terraform would do."""

    changes: tuple[Change, ...]
    """Without what stays as it is."""
    outputs_change: bool
    """Whether outputs change, with or without resources."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.changes and not self.outputs_change

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of resources by action."""
        return Counter(change.action for change in self.changes)

    def summary(self) -> str:
        """Say it in a line."""
        counts = self.counts
        said = [
            f"{counts[name]} to {name}" for name in ("create", "update", "replace", "delete") if counts[name]
        ]
        return ", ".join(said) or "nothing to change"


class Terraform:
    """Terraform, or OpenTofu, in the directory of one deployment.

    Parameters
    ----------
    directory
        Made if it is not there; state and Terraform's log stay in it.
    say
        Is given each line that Terraform writes.
    environment
        Environment variables besides ours, such as region and profile; those that are None are taken away.

    Raises
    ------
    DeploymentError
        Terraform is not installed.
    """

    def __init__(
        self, directory: Path, say: Callable[[str], None], environment: Mapping[str, str | None]
    ) -> None:
        program = shutil.which("terraform") or shutil.which("tofu")
        if program is None:
            raise DeploymentError(
                "Terraform is not installed: get it from https://developer.hashicorp.com/terraform/install, "
                "or OpenTofu from https://opentofu.org/docs/intro/install"
            )
        self._program = program
        self.directory = directory
        self._say = say
        wanted = {**os.environ, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1", **environment}
        self._environment = {name: value for name, value in wanted.items() if value is not None}

    def prepare(self, endpoint: str | None, backend: Path | None = None) -> bool:
        """Copy ``infra/`` anew, and install the provider.

        Parameters
        ----------
        endpoint
            Another endpoint than AWS's, for a dry run against an emulator.
        backend
            A file with a ``terraform { backend ... }`` block; it is kept for the next time.

        Returns
        -------
        bool
            Whether the state was moved, as the backend is another than before.

        Raises
        ------
        DeploymentError
            Terraform failed, or the backend has the state of something else; the backend is that of before.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory.chmod(0o700)
        self._copy()
        if endpoint is not None:
            (self.directory / _OVERRIDE).write_text(_override(endpoint))
        kept = self.directory / _BACKEND
        before = kept.read_text() if kept.exists() else None
        block = before if backend is None else _block(backend)
        self._init()
        return block is not None and block != before and self._move(block, before)

    @property
    def has_state(self) -> bool:
        """Whether anything was deployed from here, or the state is somewhere else."""
        return any((self.directory / name).exists() for name in ("terraform.tfstate", _BACKEND))

    @property
    def manages(self) -> bool:
        """Whether the state, wherever it is, knows of any resource."""
        return bool(self._state().get("resources"))

    def plan(self, variables: Mapping[str, Any], *, destroy: bool = False) -> Plan:
        """Compare what is asked for with what there is; the plan is kept for `apply`.

        Parameters
        ----------
        variables
            Of the root module.
        destroy
            Whether nothing is asked for.
        """
        text = json.dumps(dict(variables), indent=2, sort_keys=True)
        (self.directory / _VARIABLES).write_text(f"{text}\n")
        arguments = ["-input=false", "-lock-timeout=60s", f"-out={_PLAN}", f"-var-file={_VARIABLES}"]
        self._run("plan", *arguments, *(["-destroy"] if destroy else []), timeout_s=_PLAN_TIMEOUT_S)
        return _read_plan(json.loads(self._read("show", "-json", _PLAN)))

    def apply(self) -> None:
        """Do what the last plan says."""
        self._run("apply", "-input=false", "-lock-timeout=60s", _PLAN, timeout_s=_APPLY_TIMEOUT_S)
        (self.directory / _PLAN).unlink(missing_ok=True)

    def outputs(self) -> dict[str, Any]:
        """Return the outputs of the root module."""
        return {name: item["value"] for name, item in json.loads(self._read("output", "-json")).items()}

    def forget(self) -> None:
        """Remove the directory, after everything was destroyed."""
        shutil.rmtree(self.directory)

    def _init(self, *arguments: str, directory: Path | None = None) -> None:
        self._run("init", "-input=false", *arguments, timeout_s=_INIT_TIMEOUT_S, directory=directory)

    def _move(self, block: str, before: str | None) -> bool:
        """Go on in another backend; the state, if there is one, goes there."""
        state = self._state()
        full = bool(state.get("resources"))
        if full:
            self._check_backend(block, state)
        path = self.directory / _BACKEND
        path.write_text(block)
        try:
            self._init(*(("-migrate-state", "-force-copy") if full else ("-reconfigure",)))
        except BaseException:
            path.unlink()
            if before is not None:
                path.write_text(before)
            raise
        return full

    def _check_backend(self, block: str, state: Mapping[str, Any]) -> None:
        """Refuse to write over the state of something else, where Terraform would only have asked."""
        with tempfile.TemporaryDirectory(prefix="dask-root-lambda-") as name:
            directory = Path(name)
            (directory / _BACKEND).write_text(block)
            self._init(directory=directory)
            there = self._state(directory)
        if there.get("resources") and there["lineage"] != state["lineage"]:
            raise DeploymentError(
                "the backend has a state already, which is not that of this machine: to use it, move "
                f"{self.directory} away; to keep this one, name another key in the backend's file"
            )

    def _state(self, directory: Path | None = None) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._read("state pull", directory=directory) or "{}")
        return found

    def _copy(self) -> None:
        source = sources.infra()
        shutil.rmtree(self.directory / "modules", ignore_errors=True)
        for path in self.directory.glob("*.tf"):
            if path.name != _BACKEND:
                path.unlink()
        for pattern in _COPIED:
            for path in source.glob(pattern):
                shutil.copyfile(path, self.directory / path.name)
        ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "__pycache__")
        shutil.copytree(source / "modules", self.directory / "modules", ignore=ignored)

    def _run(self, command: str, *arguments: str, timeout_s: float, directory: Path | None = None) -> None:
        place = directory or self.directory
        with (self.directory / _LOG).open("a") as log:

            def tell(line: str) -> None:
                log.write(f"{line}\n")
                self._say(line)

            argv = [self._program, command, "-no-color", *arguments]
            run(argv, say=tell, timeout_s=timeout_s, environment=self._environment, directory=place)

    def _read(self, command: str, *arguments: str, directory: Path | None = None) -> str:
        argv = [self._program, *command.split(), "-no-color", *arguments]
        place = directory or self.directory
        return read(argv, timeout_s=_PLAN_TIMEOUT_S, environment=self._environment, directory=place)


def _block(backend: Path) -> str:
    try:
        return backend.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DeploymentError(f"the backend's file {backend} cannot be read: {error}") from None


def _read_plan(document: Mapping[str, Any]) -> Plan:
    changes = []
    for item in document.get("resource_changes", []):
        actions = set(item["change"]["actions"])
        if actions == {"create", "delete"}:
            changes.append(Change(item["address"], "replace"))
        elif not actions & {"no-op", "read"}:
            changes.append(Change(item["address"], actions.pop()))
    outputs = any(item["actions"] != ["no-op"] for item in document.get("output_changes", {}).values())
    return Plan(tuple(changes), outputs)


def _override(endpoint: str) -> str:
    lines = "\n".join(f'    {service} = "{endpoint}"' for service in _SERVICES)
    return (
        'provider "aws" {\n  skip_metadata_api_check = true\n  skip_region_validation = true\n'
        f"  s3_use_path_style = true\n  endpoints {{\n{lines}\n  }}\n}}\n"
    )
