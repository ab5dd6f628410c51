"""infra/ as it is written: valid, typed, described, validated."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
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
