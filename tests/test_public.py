"""The public names are those that are documented, and importing them is cheap where it has to be."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dask_root_lambda

PROJECT = Path(__file__).resolve().parents[1]


def test_every_public_name_exists_and_is_documented():
    """__all__ names what there is, and the README speaks of each."""
    readme = (PROJECT / "README.md").read_text()
    for name in dask_root_lambda.__all__:
        assert getattr(dask_root_lambda, name) is not None
        if not name.startswith("__"):
            assert getattr(dask_root_lambda, name).__doc__
            assert re.search(rf"\b{name}\b", readme), f"{name} is not in the README"


def test_the_names_are_listed():
    """dir() shows the public names."""
    assert set(dir(dask_root_lambda)) == set(dask_root_lambda.__all__)


def modules_after(statement):
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy():
    """The function imports the package for its protocol: it must not pay for the client's side."""
    loaded = modules_after("import dask_root_lambda")
    assert not loaded & {"dask", "distributed", "ROOT", "boto3", "numpy"}


def test_the_runtime_never_imports_dask():
    """What runs in the function needs neither dask, distributed nor the client's modules."""
    loaded = modules_after("import lambda_runtime.handler")
    assert not loaded & {"dask", "distributed", "tornado", "boto3"}
    ours = {name for name in loaded if name.startswith("dask_root_lambda.")}
    assert all(name.startswith("dask_root_lambda.protocol") for name in ours)


def test_an_unknown_name_is_an_attribute_error():
    """A typo says so."""
    with pytest.raises(AttributeError, match="no attribute 'RDataframe'"):
        dask_root_lambda.RDataframe  # noqa: B018


def test_the_version_is_the_packages():
    """One version, in the package and in its metadata."""
    assert dask_root_lambda.__version__ == version("dask-root-lambda")


def test_what_is_installed_for_tests_is_pinned():
    """constraints.txt names a version for every requirement, extras included, that the requirement allows."""
    pinned = [Requirement(line) for line in (PROJECT / "constraints.txt").read_text().splitlines()]
    for requirement in map(Requirement, requires("dask-root-lambda")):
        name = canonicalize_name(requirement.name)
        versions = [pin.specifier for pin in pinned if canonicalize_name(pin.name) == name]
        assert versions or name == "dask-root-lambda", f"{name} is not pinned: make lock"
        for pin in versions:
            allowed = requirement.specifier.contains(next(iter(pin)).version, prereleases=True)
            assert allowed, f"{requirement}, {pin}: make lock"
