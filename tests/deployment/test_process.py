"""Programs run for a deployment end, and say why they failed."""

from __future__ import annotations

import sys
import time

import pytest

from dask_root_lambda.deployment.process import read, run
from dask_root_lambda.protocol.errors import DeploymentError


def python(code):
    return [sys.executable, "-c", code]


def test_lines_are_passed_on_and_standard_input_is_given():
    """Both outputs, as they come."""
    said = []
    code = "import sys; print(sys.stdin.read()); print('err', file=sys.stderr)"
    assert run(python(code), say=said.append, timeout_s=30, stdin="in") == 0
    assert sorted(said) == ["err", "in"]


def test_a_failure_has_the_end_of_what_was_written():
    """And the program's name."""
    with pytest.raises(DeploymentError, match=r"failed with status 3[\s\S]*the reason"):
        run(python("print('the reason'); raise SystemExit(3)"), say=lambda line: None, timeout_s=30)


def test_a_deadline_interrupts_first():
    """As Ctrl-C does, so that Terraform saves its state."""
    said = []
    code = (
        "import time\ntry: print('up', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: print('saved')"
    )
    began_s = time.monotonic()
    with pytest.raises(DeploymentError, match="took longer than 2 s"):
        run(python(code), say=said.append, timeout_s=2)
    assert time.monotonic() - began_s < 30
    assert said == ["up", "saved"]


def test_what_is_read_is_standard_output_alone(tmp_path):
    """Warnings do not end up in JSON."""
    code = "import sys; print('{}'); print('warning', file=sys.stderr)"
    assert read(python(code), timeout_s=30, environment={}, directory=tmp_path) == "{}\n"
    with pytest.raises(DeploymentError, match="broken"):
        read(python("import sys; sys.exit('broken')"), timeout_s=30, environment={}, directory=tmp_path)
