"""Where ``infra/`` is: in the installed package, or in the source tree."""

from __future__ import annotations

import re
from pathlib import Path

import dask_root_lambda
from dask_root_lambda.protocol.errors import DeploymentError

_PACKAGE = Path(dask_root_lambda.__file__).parent


def infra() -> Path:
    """Return the directory of the Terraform root module.

    Raises
    ------
    DeploymentError
        The package was installed without it.
    """
    for candidate in (_PACKAGE / "infra", _PACKAGE.parent / "infra"):
        if (candidate / "main.tf").is_file():
            return candidate
    raise DeploymentError(f"infra/ is not beside {_PACKAGE}: install dask-root-lambda again, from a wheel")


def variables() -> tuple[str, ...]:
    """Return the names of the root module's variables."""
    return tuple(re.findall(r'^variable "(\w+)"', (infra() / "variables.tf").read_text(), re.MULTILINE))
