"""Data, clusters and stand-ins that the tests share."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import dask
import pytest
from xdist.scheduler import LoadScopeScheduling

# Here and in what tests start: ROOT does not optimise what it compiles, which takes a third less
# CPU until a first graph runs; and Terraform's programs, in Go, collect their garbage less often.
os.environ.setdefault("EXTRA_CLING_ARGS", "-O0")
os.environ.setdefault("GOGC", "400")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ROOT

from dask_root_lambda import LambdaCluster, LambdaExecutor, state_home
from dask_root_lambda.config import Settings
from dask_root_lambda.destination import current_client

from .invokers import ScriptedInvoker

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared"
EVENTS = 1000
CLUSTER_ENTRIES = 100


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz-events", type=int, default=200, metavar="N", help="mutated events of test_malformed"
    )
    parser.addoption("--smoke-aws", action="store_true", help="run the dimuon analysis on a real AWS account")


_LONG = (
    "infra",
    "deployment/test_rollout.py",
    "test_notebooks.py",
    "emulator/test_terraform.py",
    "test_benchmarks.py",
    "cli/test_command.py",
    "runtime/test_children.py",
    "test_kernels.py",
    "test_stopping.py",
    "test_limits.py",
    "test_cluster.py",
    "test_demo.py",
    "test_fuzz.py",
)
"""What takes longest, first: so that no process of xdist's is left with it at the end."""


class _ByModule(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps a module's tests in one process of xdist's, and those of ``infra/``, which share a deployment."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Ours: xdist 3.8 writes the names of its own groups where pytest 9.2 reads no more."""
    return _ByModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest, first."""
    rank = {group: i for i, group in enumerate(_LONG)}
    items.sort(key=lambda item: rank.get(_group(item.nodeid), len(rank)))


def _group(nodeid: str) -> str:
    module = nodeid.split("::")[0].removeprefix("tests/")
    return "infra" if module.startswith("infra/") else module


@pytest.fixture(scope="session")
def cms_data() -> Path:
    """The folder of real CMS data beside the project; tests that need it skip where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("needs the CMS data of ../shared/data, which is not here")
    return folder


@pytest.fixture(scope="session")
def dimuon_file(cms_data: Path) -> str:
    """100,000 real CMS events, in one cluster."""
    return str(cms_data / "cms2012_doublemuon_100k.root")


def write_events(
    path: Path, *, entries: int = EVENTS, value: str = "int(rdfentry_)", tree: str = "Events"
) -> str:
    """Write a TTree with a column ``x`` (by default the entry's number), 100 entries in each cluster."""
    options = ROOT.RDF.RSnapshotOptions()
    options.fAutoFlush = CLUSTER_ENTRIES
    frame = ROOT.RDataFrame(entries).Define("x", value).Define("pt", "float(rdfentry_ % 50)")
    frame.Snapshot(tree, str(path), ["x", "pt"], options)
    return str(path)


@pytest.fixture(scope="session")
def events_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """1,000 entries in 10 clusters, whose ``x`` counts from 0."""
    return write_events(tmp_path_factory.mktemp("events") / "events.root")


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    """An endpoint of this machine that answers for AWS."""
    from dask_root_lambda.emulator import Emulator

    with Emulator() as emulator:
        yield emulator.endpoint


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, aws_endpoint: str) -> str:
    """A user of an emulated account: what ``emulate`` exports, and a state directory; the endpoint."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": aws_endpoint,
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }.items():
        monkeypatch.setenv(name, value)
    return aws_endpoint


@pytest.fixture(autouse=True, scope="session")
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A state directory of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _no_history() -> None:
    """Divide datasets as for graphs that have never run: other tests may have run the same."""
    shutil.rmtree(state_home.home() / "history", ignore_errors=True)


@pytest.fixture(autouse=True)
def _configuration() -> Iterator[None]:
    """Leave Dask's configuration as it was; AWS, where it is asked for by mistake, fails at once."""
    settings = {"dask-root-lambda.execution": "local", "dask-root-lambda.aws.connect-timeout-s": 2}
    if current_client() is None:
        # Clients that are not closed in the reverse order of their opening leave theirs behind.
        settings["scheduler"] = None
    with dask.config.set(settings):
        yield


@pytest.fixture(scope="session")
def emulated() -> Iterator[LambdaCluster]:
    """A cluster with two environments, shared by the tests that need real ones."""
    with LambdaCluster(execution="emulated", concurrency=2, timeout_s=60) as cluster:
        yield cluster


@pytest.fixture
def s3(emulated: LambdaCluster, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the S3 of that cluster's emulator, for whose user the SDK is configured."""
    endpoint = emulated._executor._open("emulated")._process.endpoint
    for name, value in {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3")


@pytest.fixture
def local() -> Iterator[LambdaCluster]:
    """A cluster whose ranges run in this process, in two threads, with a current client."""
    with LambdaCluster(execution="local", concurrency=2) as cluster, cluster.get_client():
        yield cluster


@pytest.fixture
def make_executor() -> Iterator[Callable[..., tuple[LambdaExecutor, ScriptedInvoker]]]:
    """Makes executors over scripted invokers, and shuts them down."""
    executors = []

    def build(*, script=None, concurrency=4, **others):
        invokers = {"lambda": ScriptedInvoker("lambda", script), **others}
        executor = LambdaExecutor(
            settings=Settings.resolve(execution="lambda", concurrency=concurrency, local_threads=2),
            openers={name: lambda _, invoker=invoker: invoker for name, invoker in invokers.items()},
        )
        executors.append(executor)
        return executor, invokers["lambda"]

    yield build
    for executor in executors:
        executor.shutdown(wait=False)
