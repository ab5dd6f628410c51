"""A user of an emulated account, with a state directory of their own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

OFFLINE = Path(__file__).parents[3] / "shared" / "tools" / "terraform-offline"


@pytest.fixture
def user(monkeypatch, tmp_path, aws_endpoint):
    """Environment variables as ``dask-root-lambda emulate`` exports them."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": aws_endpoint,
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }.items():
        monkeypatch.setenv(name, value)
    return aws_endpoint


@pytest.fixture
def provider(terraform_installed, monkeypatch):
    """Terraform's AWS provider from a mirror, where this machine has one; elsewhere there is the registry."""
    if not OFFLINE.exists():
        return
    found = subprocess.run([OFFLINE], capture_output=True, text=True, timeout=120, check=False)
    if found.returncode == 0:
        monkeypatch.setenv("TF_CLI_CONFIG_FILE", found.stdout.strip())


@pytest.fixture
def terraform_installed():
    """Skips, saying so, where there is neither Terraform nor OpenTofu."""
    if shutil.which("terraform") is None and shutil.which("tofu") is None:
        pytest.skip("neither terraform nor tofu is installed")
