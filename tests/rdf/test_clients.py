"""Several clients in one process: each frame is computed by its own, else by Dask's current one."""

from __future__ import annotations

from contextlib import contextmanager

import dask
import pytest
from distributed import Client, LocalCluster

from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.protocol.errors import GraphError
from tests.conftest import ROOT


@contextmanager
def our_client():
    with LambdaCluster(execution="local", dashboard_address=None) as cluster, cluster.get_client() as client:
        yield client


@pytest.fixture
def clients():
    """Clients of two clusters of ours; the second is Dask's current one."""
    with our_client() as first, our_client() as second:
        yield first, second


def below(frame, n):
    """Count the first ``n`` entries."""
    return frame.Filter(f"rdfentry_ < {n}").Count()


def ranges(*clients):
    """How many ranges each has run."""
    return [client.cluster.report().total.ranges for client in clients]


@pytest.mark.parametrize("processes", [False, True])
def test_a_cluster_without_the_executor_beside_ours(processes):
    """Its workers compute its frames, by ROOT's own backend, though our client is the current one."""
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "processes": processes}
    with LocalCluster(**options) as cluster, Client(cluster) as other, our_client() as ours:
        assert below(ROOT.RDataFrame(1000, executor=other, npartitions=3), 10).GetValue() == 10
        assert "dask_mapper" in cluster.scheduler.task_prefixes
        assert "dask_mapper" not in ours.cluster.scheduler.task_prefixes
        assert Client.current() is ours
        assert below(ROOT.RDataFrame(1000, executor=ours, npartitions=3), 20).GetValue() == 20
        assert ranges(ours) == [3]


def test_each_frame_on_the_cluster_of_its_client(clients):
    """Results that are touched are computed there, whichever client is the current one."""
    counts = [below(ROOT.RDataFrame(1000, executor=each, npartitions=3), 10) for each in clients]
    assert [count.GetValue() for count in counts] == [10, 10]
    assert ranges(*clients) == [3, 3]
    again = [below(ROOT.RDataFrame(1000, executor=each, npartitions=3), 20) for each in clients]
    assert ROOT.RDF.RunGraphs(again) == 2
    assert ranges(*clients) == [6, 6]


def test_a_snapshot_is_read_by_the_client_that_wrote_it(clients, tmp_path):
    """The frame over the files of a Snapshot belongs to the client of the frame it was taken of."""
    frame = ROOT.RDataFrame(1000, executor=clients[0], npartitions=3).Define("x", "rdfentry_")
    written = frame.Snapshot("Events", str(tmp_path / "written.root"), ["x"])
    assert written.Sum("x").GetValue() == 499500
    assert ranges(*clients)[1] == 0


class TestTheCurrentClient:
    """Frames without a client follow Dask's current one, as it is where they are computed."""

    def test_computing(self, clients):
        """``with client.as_current()`` holds for all ways to compute, and for the number of ranges."""
        with clients[0].as_current():
            frame = RDataFrame(1000)
            assert dask.compute(below(frame, 10)) == (10,)
            assert below(frame, 20).GetValue() == 20
            assert below(frame, 30).persist().GetValue() == 30
            counts = [below(RDataFrame(1000), n) for n in (40, 50)]
            assert ROOT.RDF.RunGraphs(counts) == 2
            assert [count.GetValue() for count in counts] == [40, 50]
        assert ranges(*clients) == [5 * _slots(clients[0]), 0]

    def test_another_one_later(self, clients):
        """A result that is booked under one client and computed under another goes to the latter."""
        with clients[0].as_current():
            count = below(RDataFrame(1000, npartitions=3), 10)
        assert count.compute() == 10
        assert ranges(*clients) == [0, 3]

    def test_the_client_that_is_asked(self, clients):
        """``client.compute`` computes there, a frame of another client's as well."""
        count = below(ROOT.RDataFrame(1000, executor=clients[1], npartitions=3), 10)
        assert clients[0].compute(count).result(60) == 10
        assert ranges(*clients) == [3, 0]

    def test_none_is_left(self):
        """Closed in the order of their opening, they leave a setting of Dask's, which the error names."""
        with LambdaCluster(execution="local", dashboard_address=None) as cluster:
            for client in [cluster.get_client(), cluster.get_client()]:
                client.close()
        count = below(RDataFrame(1000), 10)
        with pytest.raises(GraphError, match=r"none is open.*dask\.config\.set\(scheduler=None\)"):
            count.GetValue()
        with dask.config.set(scheduler=None):
            assert count.GetValue() == 10


def _slots(client):
    return client.cluster._executor.concurrency
