"""Terraform's state and surroundings, with a root module that needs no provider."""

from __future__ import annotations

import pytest

from dask_root_lambda.deployment import sources
from dask_root_lambda.deployment.terraform import Terraform
from dask_root_lambda.protocol.errors import DeploymentError

MODULE = """
variable "word" {
  type    = string
  default = "first"
}
resource "terraform_data" "thing" {
  input = var.word
}
output "word" {
  value = terraform_data.thing.output
}
"""


@pytest.fixture
def terraform(terraform_installed, monkeypatch, tmp_path):
    """Makes Terraform in a directory, over that module."""
    infra = tmp_path / "infra"
    (infra / "modules").mkdir(parents=True)
    (infra / "main.tf").write_text(MODULE)
    monkeypatch.setattr(sources, "infra", lambda: infra)

    def make(name="here", environment=None):
        return Terraform(tmp_path / name, lambda line: None, environment or {})

    return make


@pytest.fixture
def backend(tmp_path):
    """Writes a file with a backend: a state in a directory of its own, which has to be there."""

    def make(name, *, exists=True):
        path = tmp_path / f"{name}.tf"
        place = tmp_path / name / "shared.tfstate"
        if exists:
            place.parent.mkdir(exist_ok=True)
        else:
            place.parent.write_text("in the way")
        path.write_text(f'terraform {{\n  backend "local" {{\n    path = "{place}"\n  }}\n}}\n')
        return path

    return make


def apply(terraform, word):
    plan = terraform.plan({"word": word})
    terraform.apply()
    return [change.action for change in plan.changes]


def test_a_backend_is_used_from_the_first_deploy_on(terraform, backend):
    """The second machine finds what the first made, and without --backend the next time too."""
    one, other = terraform("one"), terraform("other")
    assert not one.prepare(None, backend("team"))
    assert not one.manages
    assert apply(one, "made") == ["create"]
    assert not other.prepare(None, backend("team"))
    assert other.manages
    assert other.outputs() == {"word": "made"}
    assert not other.prepare(None)
    assert apply(other, "changed") == ["update"]
    assert one.outputs() == {"word": "changed"}


def test_a_state_moves_to_the_backend_that_is_named_later(terraform, backend):
    """From the disk to one backend, to another, and back: always the same resource."""
    one = terraform()
    one.prepare(None)
    apply(one, "made")
    for name in ("team", "other", "team"):
        assert one.prepare(None, backend(name))
        assert apply(one, f"in {name}") == ["update"]
        assert not one.prepare(None, backend(name))
    assert terraform().outputs() == {"word": "in team"}


def test_a_backend_that_cannot_be_used_leaves_the_state_where_it_was(terraform, backend):
    """Later commands work as before."""
    one = terraform()
    one.prepare(None)
    apply(one, "made")
    with pytest.raises(DeploymentError, match=r"terraform .* failed"):
        one.prepare(None, backend("blocked", exists=False))
    assert not one.prepare(None)
    assert one.outputs() == {"word": "made"}
    one.prepare(None, backend("team"))
    with pytest.raises(DeploymentError, match="cannot be read"):
        one.prepare(None, backend("team").parent / "no-such.tf")
    assert not one.prepare(None)
    assert one.outputs() == {"word": "made"}


def test_a_state_never_goes_over_that_of_something_else(terraform, backend):
    """A colleague's deployment of the same name stays known."""
    one, colleague = terraform("one"), terraform("colleague")
    colleague.prepare(None, backend("team"))
    apply(colleague, "theirs")
    one.prepare(None)
    apply(one, "mine")
    with pytest.raises(DeploymentError, match="has a state already"):
        one.prepare(None, backend("team"))
    assert one.outputs() == {"word": "mine"}
    assert colleague.outputs() == {"word": "theirs"}


def test_variables_of_the_environment_can_be_taken_away(terraform, monkeypatch):
    """What is None is not in Terraform's environment, whoever set it."""
    monkeypatch.setenv("TF_VAR_word", "from outside")
    for environment, expected in (({}, "from outside"), ({"TF_VAR_word": None}, "first")):
        one = terraform(expected, environment)
        one.prepare(None)
        one.plan({})
        one.apply()
        assert one.outputs() == {"word": expected}
