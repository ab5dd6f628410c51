"""infra/, applied once to an emulator for all tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from dask_root_lambda.emulator import Emulator

from ..terraform import INFRA, Terraform

REGION = "eu-central-1"
NAME = "muons"
SERVICES = (
    "cloudwatch", "ecr", "iam", "lambda", "logs", "s3", "secretsmanager", "sns", "ssm", "sts",
)  # fmt: skip
VARIABLES = {
    "name": NAME,
    "region": REGION,
    "image_tag": "one",
    "memory_tiers_mb": [3538],
    "input_buckets": ["open-data"],
    "output_buckets": ["skims"],
    "cern_token_secret": True,
    "daily_cost_alarm_usd": 25,
    "alarm_email": "physicist@example.org",
}


@dataclass(frozen=True)
class Deployment:
    """infra/ as it was applied."""

    terraform: Terraform
    emulator: Emulator
    outputs: dict[str, Any]

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.emulator.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment with everything that is optional but SnapStart."""
    directory = tmp_path_factory.mktemp("terraform") / "infra"
    shutil.copytree(INFRA, directory, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    with Emulator(region=REGION) as emulator:
        terraform = Terraform(directory, emulator.endpoint, SERVICES)
        terraform.init()
        terraform.apply(**VARIABLES)
        yield Deployment(terraform, emulator, terraform.outputs())


@pytest.fixture
def validated(tmp_path: Path) -> Callable[..., str]:
    """Plan with variables that should be refused; returns what Terraform says."""

    def plan(**variables: Any) -> str:
        shutil.copytree(INFRA, tmp_path / "infra", ignore=shutil.ignore_patterns(".terraform*"))
        terraform = Terraform(tmp_path / "infra", "http://127.0.0.1:9", SERVICES)
        terraform.init()
        arguments = [f"-var={name}={value}" for name, value in variables.items()]
        return terraform.run("plan", "-input=false", *arguments).stderr

    return plan
