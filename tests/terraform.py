"""The real Terraform with the real AWS provider, against an endpoint of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

INFRA = Path(__file__).parents[1] / "infra"
# Prints a CLI configuration where this machine has a mirror of the provider; elsewhere there is the registry.
OFFLINE = Path(__file__).parents[2] / "shared" / "tools" / "terraform-offline"
_TIMEOUT_S = 280


class Terraform:
    """Terraform in a directory, whose AWS provider is told another endpoint.

    Parameters
    ----------
    directory
        With the configuration, a copy: the endpoints are written beside it.
    endpoint
        Answers for AWS.
    services
        Names of the services that the configuration uses, as the provider writes them.
    keys
        Access key and secret key; what checks none takes any.
    """

    def __init__(
        self,
        directory: Path,
        endpoint: str,
        services: Iterable[str],
        keys: tuple[str, str] = ("test", "test"),
    ) -> None:
        self.directory = directory
        lines = "\n".join(f'    {service} = "{endpoint}"' for service in services)
        (directory / "endpoints_override.tf").write_text(
            f'provider "aws" {{\n  access_key = "{keys[0]}"\n  secret_key = "{keys[1]}"\n'
            "  skip_metadata_api_check = true\n  s3_use_path_style = true\n"
            f"  endpoints {{\n{lines}\n  }}\n}}\n"
        )
        self._environment = {**os.environ, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
        if OFFLINE.exists():
            found = subprocess.run([OFFLINE], capture_output=True, text=True, timeout=120, check=False)
            if found.returncode == 0:
                self._environment["TF_CLI_CONFIG_FILE"] = found.stdout.strip()

    def init(self, *arguments: str) -> None:
        """Install the provider; skip the test where there is none."""
        if shutil.which("terraform") is None:
            pytest.skip("terraform is not installed")
        done = self.run("init", *arguments)
        if done.returncode != 0 and "provider packages" in done.stderr:
            pytest.skip(f"no AWS provider, neither in a mirror nor from the registry: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr[-3000:]

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["terraform", f"-chdir={self.directory}", command, "-no-color", *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env=self._environment,
            check=False,
        )

    def must(self, command: str, *arguments: str) -> str:
        done = self.run(command, *arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def apply(self, **variables: Any) -> None:
        """Apply; the variables hold for later commands as well."""
        path = self.directory / "test.auto.tfvars.json"
        path.write_text(json.dumps(variables))
        self.must("apply", "-auto-approve", "-input=false")

    def changes(self) -> str:
        """What a plan would change; empty for nothing."""
        done = self.run("plan", "-detailed-exitcode", "-input=false")
        assert done.returncode in (0, 2), done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.partition("Terraform will perform")[2] if done.returncode == 2 else ""

    def planned(self, **variables: Any) -> dict[str, dict[str, Any]]:
        """What a plan with other variables would change: Terraform's ``change`` by address."""
        (self.directory / "planned.json").write_text(json.dumps(variables))
        self.must("plan", "-input=false", "-out=planned.tfplan", "-var-file=planned.json")
        found = json.loads(self.must("show", "-json", "planned.tfplan"))["resource_changes"]
        changed = (item for item in found if item["change"]["actions"] not in (["no-op"], ["read"]))
        return {item["address"]: item["change"] for item in changed}

    def outputs(self) -> dict[str, Any]:
        found = json.loads(self.must("output", "-json"))
        return {name: item["value"] for name, item in found.items()}
