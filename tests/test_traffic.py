"""The report's bytes and requests are those that servers saw, by source."""

from __future__ import annotations

from pathlib import Path

import dask
import pytest
import ROOT

from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.protocol.traffic import LOCAL
from lambda_runtime import traffic
from lambda_runtime.remote import objects
from tests import web, xrootd
from tests.conftest import write_events

SUM = 499500.0
LARGE = 100_000


@pytest.fixture(scope="module")
def files(events_file, tmp_path_factory):
    """What the server has: trees, and an RNTuple."""
    ntuple = str(tmp_path_factory.mktemp("ntuple") / "n.root")
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    ROOT.RDataFrame("Events", events_file).Snapshot("Ntuple", ntuple, ["x"], options)
    trees = dict.fromkeys(("/physics/a.root", "/other/b.root", "/c.root"), events_file)
    # Of a small one, the first reading brings all.
    large = write_events(tmp_path_factory.mktemp("large") / "t.root", entries=LARGE, value="gRandom->Rndm()")
    return {**trees, "/physics/n.root": ntuple, "/physics/t.root": large}


@pytest.fixture
def server(files, monkeypatch):
    """A web server, which is an S3 too; it knows what it was asked for."""
    with web.serving_apart(files) as served:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": served.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        traffic.own(forget=True)
        yield served


def told(parts):
    return {each.source: (each.gets, each.bytes_read) for each in parts}


def added(report, source):
    """What the ranges of a report, and the client, have from a source."""
    parts = [told(each).get(source, (0, 0)) for each in (report.total.traffic, report.client)]
    return tuple(map(sum, zip(*parts, strict=True)))


@pytest.fixture
def cluster(request):
    """A cluster of the execution that a test names."""
    if request.param == "emulated":
        request.getfixturevalue("server")
    with LambdaCluster(execution=request.param, concurrency=2, timeout_s=60) as made:
        yield made


@pytest.mark.parametrize("cluster", ["local", "emulated"], indirect=True)
def test_what_servers_sent(server, cluster):
    """Runs side by side, of several ranges each, from two buckets and a web server: to the byte."""
    with cluster.get_client():
        sources = {
            "s3://physics": ("s3://physics/a.root", "/physics"),
            "s3://other": ("s3://other/b.root", "/other"),
            server.url: (f"{server.url}/c.root", "/c.root"),
        }
        sums = [RDataFrame("Events", url, npartitions=3).Sum("x") for url, _ in sources.values()]
        assert dask.compute(*sums) == (SUM,) * 3
        report = cluster.report()
    for source, (_, top) in sources.items():
        assert added(report, source) == server.sent(top)
        assert told(report.total.traffic)[source][1] > 0
    # Each run has its own only, also where ranges of another read at the same time in the process.
    assert sorted(list(told(run.traffic)) for run in report.runs) == sorted([source] for source in sources)
    assert report.total.again == ()
    assert report.total.untold == 0


def test_ntuples_are_counted(server, local):
    """What ROOT's own threads read for an RNTuple belongs to its range."""
    assert RDataFrame("Ntuple", "s3://physics/n.root", npartitions=2).Sum("x").compute() == SUM
    report = local.report()
    assert added(report, "s3://physics") == server.sent("/physics/n.root")
    assert told(report.total.traffic)["s3://physics"][1] > 0


def test_what_a_failed_try_read_is_named_beside(server, local):
    """A range that fails, and is tried again, counts once; what its first try read is told."""
    total = RDataFrame("Events", "s3://physics/t.root", npartitions=1).Filter("x >= 0").Count()
    library = objects._library()
    before, library.gFirstDelayMs = library.gFirstDelayMs, 1
    try:
        # The first try's reads end here; what it looked at was answered.
        server.script(["ok", *["503 SlowDown"] * 6])
        assert total.compute() == LARGE
    finally:
        library.gFirstDelayMs = before
    report = local.report()
    assert report.total.retries == 1
    (again,) = report.total.again
    (once,) = report.total.traffic
    assert again.gets > 6
    requests, n_bytes = server.sent("/physics/t.root")
    client = told(report.client)["s3://physics"]
    assert again.gets + once.gets + client[0] == requests
    # Refusals carry no data.
    refused = n_bytes - again.bytes_read - once.bytes_read - client[1]
    assert refused >= 0


def test_files_of_this_machine(local, events_file):
    """What ROOT reads of a local file is that of no bucket, and nobody pays for it."""
    frame = RDataFrame("Events", events_file, npartitions=2)
    assert frame.Sum("x").compute() == SUM
    (read,) = local.report().total.traffic
    assert read.source == LOCAL
    assert 0 < read.bytes_read < 4 * Path(events_file).stat().st_size
    assert local.report().total.usd == 0


@pytest.mark.parametrize("execution", ["local", "emulated"])
def test_xrootd_servers(execution, request):
    """What came over root:// is told by host, as ROOT counts it."""
    cluster = request.getfixturevalue(execution)
    with xrootd.serving() as (data, url), cluster.get_client():
        file = Path(write_events(data / "events.root"))
        file.chmod(0o644)
        for column in ("x", "pt"):
            before = ROOT.TFile.GetFileBytesRead()
            frame = RDataFrame("Events", f"{url}/events.root", npartitions=1)
            here = ROOT.TFile.GetFileBytesRead()
            frame.Sum(column).compute()
            counted = ROOT.TFile.GetFileBytesRead() - here
        assert here > before
        run = cluster.report().runs[-1]
    (read,) = run.traffic
    assert read.source == url.rstrip("/")
    assert read.bytes_read > 0
    if execution == "local":
        assert read.bytes_read == counted


def test_ntuples_on_xrootd_servers(local):
    """ROOT tells nobody of these reads: they are counted here. One column of two is half of the file."""
    n_entries = 400_000
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    with xrootd.serving() as (data, url):
        file = data / "n.root"
        noise = ROOT.RDataFrame(n_entries).Define("x", "gRandom->Rndm()").Define("y", "gRandom->Rndm()")
        noise.Snapshot("Ntuple", str(file), ["x", "y"], options)
        file.chmod(0o644)
        frame = RDataFrame("Ntuple", f"{url}/n.root", npartitions=1)
        assert dask.compute(frame.Count(), frame.Filter("x >= 0").Count()) == (n_entries, n_entries)
        size = file.stat().st_size
    (read,) = local.report().total.traffic
    assert read.source == url.rstrip("/")
    assert 0.45 < read.bytes_read / size < 0.8
