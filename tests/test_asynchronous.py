"""Asynchronous clusters and clients: results are awaited, and what blocks says what to await."""

from __future__ import annotations

import asyncio

import pytest
from distributed import Client, LocalCluster

from dask_root_lambda import LambdaCluster, LambdaPlugin, RDataFrame
from dask_root_lambda.config import Settings
from dask_root_lambda.destination import has_executor, slots
from dask_root_lambda.protocol.errors import ConfigurationError, GraphError, UserCodeError
from tests.conftest import ROOT

SUM = 499500.0


def awaited(analysis, execution="local"):
    """Run an analysis with the client of an asynchronous cluster; return what it returns."""

    async def main():
        options = {"concurrency": 2, "timeout_s": 60, "dashboard_address": None}
        async with (
            LambdaCluster(execution, asynchronous=True, **options) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            return await asyncio.wait_for(analysis(client), 120)

    return asyncio.run(main())


def frame(n=1000, **options):
    return RDataFrame(n, **options).Define("x", "double(rdfentry_)")


@pytest.mark.parametrize("execution", ["local", "emulated"])
def test_results_are_awaited(execution):
    """One, several, persisted; the number of ranges is what runs at once; values are here afterwards."""

    async def analysis(client):
        booked = frame()
        total, count, mean = booked.Sum("x"), booked.Count(), booked.Mean("x")
        assert await client.compute(total) == SUM
        assert client.cluster.report().total.ranges == 2
        assert (total.GetValue(), count.GetValue()) == (SUM, 1000)
        assert await client.gather(client.compute([count, mean])) == [1000, SUM / 1000]
        assert client.cluster.report().total.ranges == 2
        return await client.compute(client.persist(booked.Max("x")))

    assert awaited(analysis, execution) == 999.0


def test_roots_own_door():
    """``executor=client`` takes a client that is asynchronous."""

    async def analysis(client):
        count = ROOT.RDataFrame(1000, executor=client).Filter("rdfentry_ < 10").Count()
        value = await client.compute(count)
        return value, client.cluster.report().total.ranges

    assert awaited(analysis) == (10, 2)


def test_actions_that_run_at_once(tmp_path):
    """Snapshot and AsNumpy can be awaited where they are lazy."""

    async def analysis(client):
        options = ROOT.RDF.RSnapshotOptions()
        options.fLazy = True
        written = await client.compute(
            frame(npartitions=3).Snapshot("Events", str(tmp_path / "few.root"), ["x"], options)
        )
        arrays = await client.compute(frame(npartitions=3).AsNumpy(["x"], lazy=True))
        return await client.compute(written.Sum("x")), arrays["x"].sum()

    assert awaited(analysis) == (SUM, SUM)


def test_what_would_block():
    """To touch a result is an error that says what to await; nothing has run."""

    async def analysis(client):
        with pytest.raises(GraphError, match="await client"):
            frame().Sum("x").GetValue()
        with pytest.raises(GraphError, match="where they are lazy"):
            frame().AsNumpy(["x"])
        with pytest.raises(GraphError, match="await client"):
            ROOT.RDataFrame(1000, executor=client).Count().GetValue()
        return client.cluster.report().total.ranges

    assert awaited(analysis) == 0


def test_errors():
    """What user code raises is raised where the result is awaited."""

    async def analysis(client):
        total = frame().Define("y", 'throw std::runtime_error("of the user"); return 1.;').Sum("y")
        with pytest.raises(UserCodeError, match="of the user"):
            await client.compute(total)
        return await client.compute(frame().Count())

    assert awaited(analysis) == 1000


def test_the_switch():
    """``cluster.execution`` can be set, and what runs at once follows."""

    async def analysis(client):
        client.cluster.execution = "emulated"
        count = await client.compute(frame(npartitions=2).Count())
        return count, client.cluster.report().total.executions

    assert awaited(analysis) == (1000, ("emulated",))


def test_a_client_from_the_cluster():
    """``get_client`` of an asynchronous cluster is to be awaited, too."""

    async def main():
        async with (
            LambdaCluster(execution="local", asynchronous=True, dashboard_address=None) as cluster,
            cluster.get_client() as client,
        ):
            return await client.submit(abs, -3)

    assert asyncio.run(main()) == 3


def test_a_scheduler_elsewhere():
    """Of a cluster that is known by its address only, the workers are looked up just the same."""

    settings = Settings.resolve(execution="local", local_threads=3)

    async def main(address):
        unconnected = Client(address, asynchronous=True)
        with pytest.raises(ConfigurationError, match="`await client` first"):
            has_executor(unconnected)
        async with unconnected as client:
            before = has_executor(client), slots(client)
            await client.register_plugin(LambdaPlugin(settings=settings))
            total = await client.compute(frame(npartitions=3).Sum("x"))
            return before, (has_executor(client), slots(client)), total, Client.current() is client

    with LocalCluster(
        n_workers=1, threads_per_worker=4, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        found = asyncio.run(main(cluster.scheduler_address))
    assert found == ((False, 4), (True, 3), SUM, True)
