"""Terraform and its provider, for tests that need them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

OFFLINE = Path(__file__).parents[3] / "shared" / "tools" / "terraform-offline"
NEEDED = 'terraform {\n  required_providers {\n    aws = {\n      source = "hashicorp/aws"\n    }\n  }\n}\n'


@pytest.fixture(scope="session")
def terraform_installed():
    """Terraform's program; skips, saying so, where there is neither Terraform nor OpenTofu."""
    program = shutil.which("terraform") or shutil.which("tofu")
    if program is None:
        pytest.skip("neither terraform nor tofu is installed")
    return program


@pytest.fixture(scope="session")
def mirror(terraform_installed, tmp_path_factory):
    """Configuration with a mirror of the AWS provider; None where Terraform gets it from the registry.

    Skips, saying so, where it cannot be had.
    """
    if OFFLINE.exists():
        found = subprocess.run([OFFLINE], capture_output=True, text=True, timeout=120, check=False)
        if found.returncode == 0:
            return found.stdout.strip()
    place = tmp_path_factory.mktemp("provider")
    (place / "main.tf").write_text(NEEDED)
    argv = [terraform_installed, f"-chdir={place}", "init", "-no-color", "-input=false"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode != 0:
        pytest.skip(f"no AWS provider, neither in a mirror nor from the registry: {done.stderr[-300:]}")
    return None


@pytest.fixture
def provider(mirror, monkeypatch):
    """Terraform can have its AWS provider."""
    if mirror is not None:
        monkeypatch.setenv("TF_CLI_CONFIG_FILE", mirror)
