"""The page in a real run: it is there, and its numbers are the report's."""

from __future__ import annotations

import json
import time

import dask
import pytest
from bokeh.models import VAreaStep
from distributed import LocalCluster

from dask_root_lambda import LambdaCluster, LambdaPlugin, RDataFrame, steering_link
from dask_root_lambda.dashboard import plots
from dask_root_lambda.protocol.errors import ConfigurationError

from . import dashboards

DEADLINE_S = 120.0


def slow_frame(npartitions, entries, sleep_ms):
    frame = RDataFrame(entries, npartitions=npartitions)
    return frame.Define("slow", f"gSystem->Sleep({sleep_ms}); return 1.0;")


def plain(report):
    return json.loads(json.dumps(report.to_dict()))


def test_numbers_are_those_of_the_report(emulated):
    """In mid-run the page tells what is in flight; at the end all its sums are the report's, exactly."""
    with emulated.get_client() as client:
        before = len(emulated.report().runs)
        frame = slow_frame(npartitions=6, entries=300, sleep_ms=10)
        results = [frame.Histo1D(("mass", "", 10, 0.0, 2.0), "slow"), frame.Count()]
        future = client.compute(results[1])
        seen = []
        deadline = time.monotonic() + DEADLINE_S
        while not future.done():
            assert time.monotonic() < deadline
            seen.append(dashboards.state(emulated))
            time.sleep(0.1)
        assert future.result() == 300
        while dashboards.state(emulated)["in_flight"]:  # a second try, of a range that seemed slow
            assert time.monotonic() < deadline
            time.sleep(0.1)
        shown, report = dashboards.state(emulated), emulated.report()
    runs = [state["runs"][before:] for state in seen]
    assert any(1 <= state["in_flight"] <= state["concurrency"] == 2 for state in seen)
    assert any(run and 0 < run[0]["ranges_done"] < 6 for run in runs), "the page did not see the run get on"
    assert any(run and run[0]["usd_foreseen"] for run in runs)
    assert shown["total"] == plain(report.total)
    assert [run["report"] for run in shown["runs"]] == [plain(run) for run in report.runs][-20:]
    last = shown["runs"][-1]
    assert (last["results"], last["ranges_done"]) == (["mass", "Count"], 6)
    ranges = shown["ranges"]
    assert ranges["index"] == list(range(6))
    assert ranges["state"] == ["done"] * 6
    assert sum(ranges["entries"]) == last["report"]["entries"] >= 300
    unanswered = sum(ranges["attempts"]) - last["report"]["invocations"]
    assert 0 <= unanswered <= last["report"]["second_tries"]
    assert len(set(ranges["request_id"])) == 6
    assert 1 <= len(set(ranges["environment"])) <= 2


def test_a_page_among_dasks(emulated):
    """The page is in Dask's list of pages, and its plots are in that which dask-labextension reads."""
    assert 'href="lambda"' in dashboards.get(emulated, "/status")
    page = dashboards.get(emulated, "/lambda")
    assert 'id="steering"' in page
    assert 'href="workers"' in page
    plots = json.loads(dashboards.get(emulated, "/individual-plots.json"))
    ours = {name: path for name, path in plots.items() if "Lambda" in name}
    assert set(ours.values()) >= {"/individual-lambda-durations", "/individual-lambda-runs"}
    for path in ours.values():
        assert "Dask: Lambda" in dashboards.get(emulated, path)


def test_without_a_dashboard():
    """A cluster without one has no page, no link to steer, and works."""
    with LambdaCluster(execution="local", dashboard_address=None) as cluster, cluster.get_client():
        assert RDataFrame(10, npartitions=2).Count().compute() == 10
        with pytest.raises(ConfigurationError, match="no page to steer from"):
            cluster.steering_link()


def test_dasks_cluster_without_a_dashboard():
    """A scheduler that serves no pages of Bokeh gets none of ours: the link to steer says so."""
    options = {"n_workers": 1, "processes": False, "dashboard_address": None}
    with LocalCluster(**options) as cluster, cluster.get_client() as client:
        with pytest.raises(ConfigurationError, match="no page to steer from"):
            steering_link(client)
        client.register_plugin(LambdaPlugin(execution="local"))
        with pytest.raises(ConfigurationError, match="no page to steer from"):
            steering_link(client)


def test_a_cluster_that_has_the_plugin():
    """Any Dask cluster whose workers get the executor gets the page as well, from other processes too."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        cluster.get_client() as client,
    ):
        client.register_plugin(LambdaPlugin(execution="local"))
        with dask.annotate(executor="lambda"):
            futures = client.compute([dask.delayed(abs)(-number) for number in range(8)])
        assert client.gather(futures) == list(range(8))
        shown = dashboards.state(cluster)
        assert (shown["total"]["done"], shown["total"]["failures"]) == (8, 0)
        assert (shown["execution"], shown["in_flight"]) == ("local", 0)
        assert 'href="lambda"' in dashboards.get(cluster, "/status")
        assert 'id="steering"' in dashboards.get(cluster, "/lambda")
        secret = steering_link(client).partition("#secret=")[2]
        for action, said in (
            ({"max_usd": 6.0}, (200, {})),
            ({"max_usd": None}, (200, {})),
            ({"concurrency": 2}, (200, {})),
            (
                {"concurrency": 1},
                (400, {"error": "concurrency is 1: each of the 2 workers needs at least 1"}),
            ),
            ({"max_usd": 5}, (200, {})),
        ):
            assert dashboards.steer(cluster, action, **{dashboards.SECRET_HEADER: secret}) == said
        shown = dashboards.state(cluster)
        # What is shown and taken are the limits of all together.
        assert (shown["max_usd"], shown["concurrency"]) == (5.0, 2)


def test_an_area_of_steps_is_never_without_points():
    """Not before the first state either, which may come after the page is drawn: the browser would hang."""
    made = plots.InFlight()
    assert len(made._source.data["at"]) == 1
    (area,) = [each for each in made.root.renderers if isinstance(each.glyph, VAreaStep)]
    assert area.data_source is made._source
