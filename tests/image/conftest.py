"""The image, built once, and an emulator whose environments are containers of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import dask
import pytest

from dask_root_lambda import config
from dask_root_lambda.emulator import Emulator, Image
from tests import xrootd
from tests.emulator.clouds import ROLE, Cloud, clients_of
from tests.image import building, probes
from tests.image.building import Built

# The image does not have the tests: what is called in it travels by value.
cloudpickle.register_pickle_by_value(probes)

FIGURES: dict[str, str] = {}
"""What was measured, for the end of the run."""
FUNCTION = "muons"
MEMORY_MB = 1769
TMP_MB = 512


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("image")
    group.addoption("--base", default="", help="base image; default: the Dockerfile's, or a Debian made here")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("the image")
    for name, value in FIGURES.items():
        terminalreporter.write_line(f"{name:<16}{value}")


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest) -> Built:
    """The image of this client's Python and ROOT."""
    for tool in ("buildah", "podman", "runc"):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is not installed: .ci/container-tools installs it on Debian, as root")
    base = request.config.getoption("--base") or building.find_base()
    image, again = building.build(base), building.build(base)
    FIGURES["base"] = image.base
    FIGURES["built in"] = f"{image.seconds:.1f} s, unchanged again in {again.seconds:.1f} s"
    FIGURES["size"] = f"{image.size_bytes / 1e6:,.0f} MB"
    return image


@pytest.fixture(scope="session")
def data_server() -> Iterator[tuple[Path, str]]:
    """An XRootD server, which the containers reach: its directory and its URL."""
    with xrootd.serving() as served:
        yield served


@pytest.fixture(scope="session")
def emulator(built: Built, data_server: tuple[Path, str]) -> Iterator[Emulator]:
    """Lambda with containers for environments."""
    server = data_server[1].removeprefix("root://").rstrip("/")
    with Emulator(images=(("*", Image(container=built.name)),), reachable=(server,)) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def cloud(emulator: Emulator) -> Cloud:
    """Clients of it, with the function and its bucket."""
    cloud = Cloud(clients_of(emulator), ROLE, real=False, emulator=emulator)
    cloud.clients("s3").create_bucket(Bucket=FUNCTION)
    create(cloud, FUNCTION)
    return cloud


@pytest.fixture
def settings(cloud: Cloud, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[config.Settings]:
    """How a client reaches the function, as one in AWS."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    aws = {"function": FUNCTION, "region": emulator.options.region, "endpoint-url": emulator.endpoint}
    with dask.config.set({f"dask-root-lambda.aws.{name}": value for name, value in aws.items()}):
        yield config.Settings.resolve(execution="lambda", concurrency=2, max_crashes=1)


def create(cloud: Cloud, name: str, memory_mb: int = MEMORY_MB) -> None:
    """Make a function of the image, as Terraform does."""
    cloud.lambda_.create_function(
        FunctionName=name,
        Role=cloud.role,
        PackageType="Image",
        Code={"ImageUri": f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{FUNCTION}:1"},
        MemorySize=memory_mb,
        EphemeralStorage={"Size": TMP_MB},
        Timeout=120,
        Environment={"Variables": {"DASK_ROOT_LAMBDA_STORE": f"s3://{FUNCTION}/partial"}},
    )
