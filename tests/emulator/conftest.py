"""A cloud for the tests: the emulator, or real AWS for those that are told to use it.

    pytest tests/emulator --real-aws --real-aws-role ARN      (credentials and region from the environment)

runs the contract suite (what is marked ``contract``) against Lambda itself; everything else is skipped then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from dask_root_lambda.emulator import Emulator

from .clouds import ROLE, Cloud, clients_of


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("emulator")
    group.addoption("--real-aws", action="store_true", help="run the Lambda contract suite against real AWS")
    group.addoption("--real-aws-role", metavar="ARN", help="execution role for the functions of --real-aws")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "contract: holds for AWS as well, and runs there with --real-aws")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--real-aws", default=False):
        return
    for item in items:
        if item.get_closest_marker("contract") is None:
            item.add_marker(pytest.mark.skip(reason="needs the emulator, and --real-aws is on"))


@pytest.fixture(scope="session")
def shared_emulator(request: pytest.FixtureRequest) -> Iterator[Emulator | None]:
    if request.config.getoption("--real-aws", default=False):
        yield None
        return
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def cloud(request: pytest.FixtureRequest, shared_emulator: Emulator | None) -> Iterator[Cloud]:
    """The emulator that all tests share, or real AWS."""
    if shared_emulator is None:
        role = request.config.getoption("--real-aws-role")
        if not role:
            pytest.fail("--real-aws needs --real-aws-role ARN")
        made = Cloud(boto3.client, role, real=True)
    else:
        made = Cloud(clients_of(shared_emulator), ROLE, real=False, emulator=shared_emulator)
    yield made
    made.clean()


@pytest.fixture
def own_cloud() -> Iterator[Callable[..., Cloud]]:
    """Makes emulators of the test's own, with the settings it wants."""
    emulators: list[Emulator] = []

    def make(**options: Any) -> Cloud:
        emulator = Emulator(**options)
        emulators.append(emulator)
        emulator.start()
        return Cloud(clients_of(emulator), ROLE, real=False, emulator=emulator)

    yield make
    for emulator in emulators:
        emulator.stop()
