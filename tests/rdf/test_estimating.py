"""What results take and cost is told before they are computed, by ranges that are not run twice."""

from __future__ import annotations

import dask
import pytest
from distributed import Client, LocalCluster

from dask_root_lambda import LambdaCluster, LambdaPlugin, RDataFrame, estimate
from dask_root_lambda.plan import sampling
from dask_root_lambda.protocol.errors import ConfigurationError, GraphError
from dask_root_lambda.rdf import estimating
from tests.conftest import EVENTS, ROOT, write_events


@pytest.fixture
def files(tmp_path):
    """Three files of 1,000 entries in 10 clusters each; new ones, of which nothing is remembered."""
    return [write_events(tmp_path / f"{name}.root", value=f"int(rdfentry_) + {name}") for name in (1, 2, 3)]


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize("npartitions", [None, 12])
def test_samples_are_part_of_the_run(local, files, npartitions):
    """The run takes their results, invokes only the rest, and gives local ROOT's value."""
    frame = RDataFrame("Events", files, npartitions=npartitions)
    total, count = frame.Sum("x"), frame.Filter("x % 2 == 0").Count()
    told = estimate(total)
    sampled = local.report().total
    assert told.sampled == sampled.invocations > 0
    assert f" {told.npartitions} ranges" in str(told)
    assert 0 < sampled.entries < 3 * EVENTS
    oracle = ROOT.RDataFrame("Events", files)
    assert dask.compute(total, count) == (
        oracle.Sum("x").GetValue(),
        oracle.Filter("x % 2 == 0").Count().GetValue(),
    )
    report = local.report()
    assert report.total.entries == 3 * EVENTS
    assert report.total.invocations == told.npartitions
    if npartitions is not None:
        assert told.npartitions == npartitions


def test_twice(local, files):
    """A second estimate runs samples anew, as the first has left nothing that tells how long they take."""
    total = RDataFrame("Events", files).Sum("x")
    first, second = estimate(total), estimate(total)
    assert second.npartitions == first.npartitions
    assert total.GetValue() == ROOT.RDataFrame("Events", files).Sum("x").GetValue()


def test_on_several_workers(files, monkeypatch):
    """Each sample counts once, and is of the first wave or not, whichever worker's executor ran it."""
    told = []
    monkeypatch.setattr(estimating, "extrapolate", lambda samples, *_, **__: told.extend(samples))
    workers = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with LocalCluster(**workers, dashboard_address=None) as cluster, cluster.get_client() as client:
        client.register_plugin(LambdaPlugin(execution="local", concurrency=1))
        estimate(RDataFrame("Events", files).Sum("x"))
    assert len({id(sample.billing) for sample in told}) == len(told) == 8
    assert sum(sample.first for sample in told) == sampling.WAVE


def test_entries_without_files(local):
    """A frame of entries is sampled as well."""
    drawn = RDataFrame(10_000).Define("x", "double(rdfentry_)").Sum("x")
    told = estimate(drawn)
    assert told.sampled > 0
    assert drawn.GetValue() == 49_995_000.0
    assert local.report().total.entries == 10_000


def test_what_it_costs(files):
    """Under emulated execution the cost is the report's: samples and rest, within the interval or near it."""
    with (
        LambdaCluster(execution="emulated", concurrency=2, dashboard_address=None) as cluster,
        cluster.get_client(),
    ):
        total = RDataFrame("Events", files, npartitions=12).Sum("x")
        told = estimate(total)
        assert told.spent_usd == pytest.approx(cluster.report().total.usd, rel=1e-6)
        assert total.GetValue() == ROOT.RDataFrame("Events", files).Sum("x").GetValue()
        assert cluster.report().total.invocations == 12
        assert told.spent_usd < told.usd
        assert "USD" in str(told)


def test_the_next_run_is_divided_by_what_the_last_took(local, files):
    """Short work is not divided into as many ranges as run at once; the report says why."""
    for expected in (2, 1):
        total = RDataFrame("Events", files).Sum("x")
        assert total.GetValue() == ROOT.RDataFrame("Events", files).Sum("x").GetValue()
        run = local.report().runs[-1]
        assert run.ranges == expected
    assert "the last run of this graph took" in run.why
    assert run.why in str(local.report())


class TestRefusals:
    """What cannot be estimated is told."""

    def test_a_result_that_an_earlier_session_kept(self, local, files):
        """It costs nothing, and no sample is run for it."""
        with dask.config.set({"dask-root-lambda.results.keep-days": 1}):
            RDataFrame("Events", files).Sum("x").GetValue()
            invoked = local.report().total.invocations
            total = RDataFrame("Events", files).Sum("x")
            with pytest.raises(GraphError, match="kept by an earlier session"):
                estimate(total)
            assert total.GetValue() == ROOT.RDataFrame("Events", files).Sum("x").GetValue()
        assert local.report().total.invocations == invoked

    def test_a_result_that_is_there(self, local, files):
        total = RDataFrame("Events", files).Sum("x")
        total.GetValue()
        with pytest.raises(GraphError, match="nothing left to estimate"):
            estimate(total)

    def test_a_snapshot(self, local, files, tmp_path):
        options = ROOT.RDF.RSnapshotOptions()
        options.fLazy = True
        written = RDataFrame("Events", files).Snapshot("T", str(tmp_path / "out.root"), ["x"], options)
        with pytest.raises(GraphError, match="Snapshot"):
            estimate(written)

    def test_without_our_cluster(self, files):
        with (
            LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
            Client(cluster),
            pytest.raises(ConfigurationError, match="LambdaCluster"),
        ):
            estimate(RDataFrame("Events", files).Sum("x"))
