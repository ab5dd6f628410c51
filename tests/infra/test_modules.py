"""infra/ as it is written: valid, typed, described, validated."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..terraform import INFRA, Terraform

_BLOCK = re.compile(r'^(variable|output) "([a-z_0-9]+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
MODULES = sorted(path.parent.relative_to(INFRA) for path in INFRA.rglob("versions.tf"))


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    """Where each variable or output is, and its body."""
    for module in MODULES:
        for found in _BLOCK.finditer((INFRA / module / f"{kind}s.tf").read_text()):
            if found[1] == kind:
                yield f"{module}:{found[2]}", found[3]


def test_every_module_has_its_four_files() -> None:
    """main, variables, outputs and versions."""
    assert len(MODULES) >= 3
    for module in MODULES:
        names = {path.name for path in (INFRA / module).glob("*.tf")}
        assert names == {"main.tf", "variables.tf", "outputs.tf", "versions.tf"}, module


@pytest.mark.parametrize(
    ("name", "body"), [pytest.param(*block, id=block[0]) for block in blocks("variable")]
)
def test_every_variable_is_typed_described_and_validated(name: str, body: str) -> None:
    """A switch has two values, which its type says."""
    assert re.search(r"^  type +=", body, re.MULTILINE)
    assert re.search(r'^  description += ".+\."$', body, re.MULTILINE)
    assert "validation {" in body or re.search(r"type += bool$", body, re.MULTILINE)


def test_every_output_is_described() -> None:
    """In a sentence."""
    for name, body in blocks("output"):
        assert re.search(r'^  description += ".+\."$', body, re.MULTILINE), name


def test_the_example_is_valid(tmp_path: Path) -> None:
    """It names variables and outputs that there are."""
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*")
    shutil.copytree(INFRA, tmp_path / "infra", ignore=ignored)
    terraform = Terraform(tmp_path / "infra" / "examples" / "complete", "http://127.0.0.1:9", ())
    terraform.init("-backend=false")
    terraform.must("validate")


def test_values_that_cannot_be_are_refused(validated: Callable[..., str]) -> None:
    """Before anything is asked of AWS, each with what is allowed."""
    said = validated(
        name="Muons!",
        region="here",
        memory_mb=100,
        memory_tiers_mb="[20480]",
        timeout_s=901,
        tmp_mb=100,
        architecture="sparc",
        log_retention_days=8,
        input_buckets='["s3://data/*"]',
        output_buckets='["skims/*"]',
        image_tag="a b",
        reserved_concurrency=0,
        daily_cost_alarm_usd=-1,
        alarm_email="nobody",
        partial_results_days=0,
        far_data_days=0,
    )
    words = " ".join(said.replace("\u2502", " ").split())
    for expected in (
        "The name has 3 to 30 characters", "look like us-east-1", "ROOT needs 1,024 MB", "Each tier has",
        "10 to 900 seconds", "512 to 10,240 MB", "x86_64 or arm64", "CloudWatch keeps logs for",
        "without patterns", "Names of output buckets", "The tag has at most 128", "At least 1 environment",
        "More than 0", "name@example.org", "At least one day",
    ):  # fmt: skip
        assert expected in words, expected
