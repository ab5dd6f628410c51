"""The function's image as Lambda runs it: read-only, limited, cut off, and right to the last event."""

from __future__ import annotations

import platform
import re
import socket
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
import ROOT

from dask_root_lambda import LambdaCluster, LambdaExecutor, RDataFrame
from dask_root_lambda.config import Settings
from dask_root_lambda.demo import analysis, generator
from dask_root_lambda.demo.analysis import Analysis
from dask_root_lambda.deployment import image
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import OutOfMemoryError
from dask_root_lambda.protocol.task import Body, Request, Versions
from tests.image import building, probes
from tests.image.conftest import FIGURES, FUNCTION, MEMORY_MB, TMP_MB, create

pytestmark = pytest.mark.timeout(900)

COLD_STARTS = 4
CPP = """
#include <numeric>
#include <regex>
#include <vector>
double drl_image_tripled(double x) {
   if (!std::regex_match(std::to_string(int(x)), std::regex("[0-9]+")))
      throw std::runtime_error("not a number");
   std::vector<double> three(3, x);
   return std::accumulate(three.begin(), three.end(), 0.);
}
"""


@pytest.fixture
def executor(settings: Settings) -> Iterator[LambdaExecutor]:
    """Calls functions in the image."""
    with LambdaExecutor(settings=settings) as executor:
        yield executor


@pytest.fixture
def cluster(settings: Settings) -> Iterator[LambdaCluster]:
    """Runs ranges in the image."""
    with LambdaCluster(execution="lambda", concurrency=2) as cluster, cluster.get_client():
        yield cluster


def numbers(outcome: analysis.Outcome) -> dict[str, object]:
    """What has to be the same wherever an analysis ran."""
    spectrum = outcome.spectrum
    bins = [spectrum.GetBinContent(index) for index in range(spectrum.GetNbinsX() + 2)]
    return {"cut flow": outcome.cut_flow, "mean": outcome.mean_mass_gev, "bins": bins}


def serve(path: str | Path, data_server: tuple[Path, str]) -> str:
    """Put a file on the XRootD server, and return its URL."""
    directory, url = data_server
    (directory / Path(path).name).write_bytes(Path(path).read_bytes())
    return f"{url}/{Path(path).name}"


def test_a_change_of_our_code_makes_new_layers_of_our_code_only(built, monkeypatch):
    """What takes minutes to build, and 1 GB to push, is taken over: ROOT, the compiler, users' packages."""
    files = {**image.context_files()}
    files["lambda_runtime/handler.py"] += b"# another line\n"
    monkeypatch.setattr(image, "context_files", lambda: files)
    changed = building.build(built.base)
    assert changed.name != built.name
    before, after = building.layers(built.name), building.layers(changed.name)
    kept = {layer.digest for layer in before}
    new = [layer for layer in after if layer.digest not in kept]
    own_bytes = sum(layer.size_bytes for layer in new)
    FIGURES["code changed"] = f"{changed.seconds:.1f} s, {len(new)} layers, {own_bytes / 1e6:.1f} MB"
    # Modules and what they are compiled to: at most the last two layers.
    assert new
    assert new == after[-len(new) :]
    assert len(new) <= 2
    assert own_bytes < 5e6
    assert changed.seconds < 60


def test_the_dimuon_analysis_of_cms_data_is_exact(settings, dimuon_file, data_server):
    """100,000 CMS events over root://, one range: the numbers that local ROOT gives."""
    outcome = analysis.run(Analysis((serve(dimuon_file, data_server),), execution="lambda", concurrency=2))
    assert outcome.cut_flow == analysis.CutFlow(100_000, 48_976, 37_183)
    assert outcome.mean_mass_gev == pytest.approx(33.03944122688698, rel=1e-12)
    assert outcome.spectrum.GetEntries() == 37_183
    assert outcome.spectrum.Integral() == 36_998
    assert outcome.spectrum.GetMean() == pytest.approx(32.97161395235367, rel=1e-12)


def test_ranges_in_several_containers_give_what_local_ranges_give(settings, data_server, tmp_path):
    """Generated events, eight ranges on two environments: every bin equals the one of local execution."""
    url = serve(generator.dataset(200_000, tmp_path), data_server)
    inside, here = (
        analysis.run(Analysis((url,), execution=execution, npartitions=8, concurrency=2))
        for execution in ("lambda", "local")
    )
    assert numbers(inside) == {**numbers(here), "mean": pytest.approx(here.mean_mass_gev, rel=1e-12)}
    assert inside.report.total.ranges == 8


def test_users_cpp_is_compiled_in_the_image(cluster):
    """A user's function that needs the standard library's headers runs in the environment."""
    ROOT.RDF.Distributed.DistributeCppCode(CPP)
    frame = RDataFrame(1000, npartitions=2).Define("y", "drl_image_tripled(double(rdfentry_))")
    assert frame.Sum("y").GetValue() == 3 * sum(range(1000))


def test_python_callables_are_compiled_by_numba(cluster):
    """numba is part of the image, and needs no place to write."""
    frame = RDataFrame(1000, npartitions=2).Define("x", "double(rdfentry_)")
    assert frame.Define("y", lambda x: 2.0 * x, ["x"]).Sum("y").GetValue() == 2 * sum(range(1000))


def test_only_tmp_can_be_written(executor):
    """Every directory of the image refuses, as itself or for want of rights; the user is not root."""
    written, user = executor.submit(probes.writable_directories).result(120)
    assert written == ["/tmp"]
    assert user != 0


def test_tmp_has_the_configured_size(executor):
    """A file of that size, and no larger one."""
    assert executor.submit(probes.fill_tmp, TMP_MB - 1).result(120) == "written"
    assert executor.submit(probes.fill_tmp, TMP_MB + 1).result(120) == "ENOSPC"


@pytest.mark.parametrize("step_mb", [20, 4000], ids=["slowly", "at-once"])
def test_too_much_memory_ends_the_environment_with_awss_error(cloud, executor, step_mb):
    """Whether it grows under the emulator's eyes or faster than it looks."""
    with pytest.raises(OutOfMemoryError):
        executor.submit(probes.take_memory, 4000, step_mb).result(120)
    answer = cloud.invoke(FUNCTION, request(probes.take_memory, 4000, step_mb).to_json())
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Runtime.ExitError"
    assert answer.payload["errorMessage"].endswith("Runtime exited with error: signal: killed")
    assert "Error Type: Runtime.OutOfMemory" in answer.log


def test_nothing_but_runtime_api_and_endpoint_is_reached(executor, emulator, data_server):
    """Not this machine's other ports, not its address, not the world; there is one interface."""
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("0.0.0.0", 0)) as anywhere:
        addresses = [
            ("127.0.0.1", int(emulator.endpoint.rpartition(":")[2])),
            ("127.0.0.2", int(data_server[1].rstrip("/").rpartition(":")[2])),
            ("127.0.0.1", other.getsockname()[1]),
            (own_address(), anywhere.getsockname()[1]),
            ("192.0.2.1", 443),
            ("169.254.169.254", 80),
        ]
        reached, interfaces = executor.submit(probes.connect, addresses).result(120)
    refused, unreachable = "Connection refused", "Network is unreachable"
    assert reached == ["connected", "connected", refused, unreachable, unreachable, unreachable]
    assert interfaces == ["lo"]


def test_the_store_is_reached(executor):
    """A result too large for an answer goes through S3, written with the role's credentials."""
    assert executor.submit(probes.random_bytes, 8_000_000).result(120)[:4] == probes.random_bytes(4)


def test_versions_are_those_of_the_client_and_others_are_refused(cloud):
    """The image answers with the client's Python and ROOT; a client of another Python is told both."""
    reply = cloud.invoke(FUNCTION, request(abs, -1).to_json()).payload
    assert reply["python"] == ".".join(platform.python_version_tuple()[:2])
    assert reply["root"] == ".".join(str(ROOT.__version__).split(".")[:2])
    refused = cloud.invoke(FUNCTION, request(abs, -1, versions=Versions(python="3.8")).to_json()).payload
    assert refused["failure"]["error"] == "VersionMismatchError"


def test_a_crash_in_users_code_is_told_by_its_signal(cloud):
    """A segmentation fault ends the container, and the next event gets another one."""
    answer = cloud.invoke(FUNCTION, request(probes.crash).to_json())
    assert answer.payload["errorMessage"].endswith("signal: segmentation fault")
    assert "Fatal Python error" in answer.log
    assert cloud.invoke(FUNCTION, request(abs, -1).to_json()).error is None


def test_init_is_within_lambdas_limit(cloud, built):
    """INIT of several cold starts is far below the 10 s after which Lambda starts anew."""
    times_ms = []
    for index in range(COLD_STARTS):
        name = f"cold-{index}"
        create(cloud, name)
        log = cloud.invoke(name, request(abs, -1).to_json()).log
        times_ms.append(float(re.search(r"Init Duration: ([\d.]+) ms", log)[1]))
        cloud.lambda_.delete_function(FunctionName=name)
    FIGURES["INIT"] = f"{', '.join(f'{each / 1000:.2f}' for each in times_ms)} s, at {MEMORY_MB} MB"
    assert statistics.median(times_ms) < 10_000


def own_address() -> str:
    """An address of this machine that is not loopback, or one that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "192.0.2.2"
        return probe.getsockname()[0]


def request(function, *args, **options) -> Request:
    """A call, as the executor sends it."""
    return Request("call", "probe", (Body.of(wire.dumps((function, args, {}))),), **options)
