"""Who has the secret steers as in Python; who has not changes nothing."""

from __future__ import annotations

import time

import dask
import pytest

from dask_root_lambda import LambdaCluster, RDataFrame, steering_link
from dask_root_lambda.dashboard.steering import Action
from dask_root_lambda.protocol.errors import ConfigurationError, CostLimitError, RunCancelledError

from . import dashboards
from .dashboards import SECRET_HEADER, steer, with_secret

DEADLINE_S = 90.0


@pytest.fixture(scope="module")
def cluster():
    with (
        dask.config.set({"dask-root-lambda.dashboard.allowed-origins": ["https://hub.example.org"]}),
        LambdaCluster(execution="local", concurrency=2) as cluster,
        cluster.get_client(),
    ):
        yield cluster


def settings(cluster):
    return cluster.execution, cluster.concurrency, cluster.max_cost_usd


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "value", "shares"),
    [
        ("max_usd", 6, [2.0, 2.0, 2.0]),
        ("max_usd", None, [None] * 3),
        ("concurrency", 8, [3, 3, 2]),
        ("execution", "local", ["local"] * 3),
        ("stop", "run", ["run"] * 3),
    ],
)
def test_workers_share_limits(name, value, shares):
    """What is asked for holds for all workers together: three do not spend three times the limit."""
    assert [each.value for each in Action(name, value).shared(3)] == shares
    assert Action(name, value).shared(0) == ()


class TestWhoMay:
    """Only a POST with the secret, from a page of the dashboard, under a name that nobody else can bind."""

    @pytest.mark.parametrize(
        ("headers", "said"),
        [
            ({}, "only who has the secret"),
            ({SECRET_HEADER: "guessed"}, "only who has the secret"),
            ({SECRET_HEADER: "é"}, "only who has the secret"),
            ({"Origin": "https://evil.example"}, "may not steer"),
            ({"Origin": "null"}, "may not steer"),
            ({"Host": "evil.example:8787"}, "not known as"),
            ({"Host": "evil.example:8787", "Origin": "http://evil.example:8787"}, "not known as"),
            ({"Host": "127.0.0.1.evil.example"}, "not known as"),
            ({"Host": "[oops"}, "not known as"),
        ],
    )
    def test_others_change_nothing(self, cluster, headers, said):
        """Each is refused with 403, and a sentence; a right secret does not help a wrong page."""
        before = settings(cluster)
        if "secret" not in said:
            headers = {SECRET_HEADER: dashboards.secret(cluster), **headers}
        status, answer = steer(cluster, {"concurrency": 1}, **headers)
        assert status == 403
        assert said in answer["error"]
        assert settings(cluster) == before

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
    def test_only_a_post(self, cluster, method):
        """No other method does anything: links and pictures of other pages cannot steer."""
        headers = {SECRET_HEADER: dashboards.secret(cluster)}
        assert steer(cluster, {"concurrency": 1}, method, **headers)[0] == 405
        assert cluster.concurrency == 2

    @pytest.mark.parametrize("origin", ["own", "https://hub.example.org"])
    def test_the_dashboards_own_page_and_allowed_ones(self, cluster, origin):
        """A page of the dashboard's origin may, and one of a proxy that the configuration names."""
        headers = {SECRET_HEADER: dashboards.secret(cluster)}
        origin = dashboards.base(cluster) if origin == "own" else origin
        assert steer(cluster, {"concurrency": 1}, Origin=origin, **headers) == (200, {})
        assert cluster.concurrency == 1
        cluster.concurrency = 2

    def test_the_secret_is_where_it_is_asked_for(self, cluster):
        """It is in the link, and in no page, representation, state or setting."""
        secret = dashboards.secret(cluster)
        shown = [repr(cluster), cluster._repr_html_(), cluster.dashboard_link, str(cluster.scheduler_info)]
        pages = [dashboards.get(cluster, path) for path in ("/lambda", "/lambda/state.json")]
        pages += [dashboards.get(cluster, path) for path in ("/status", "/info/main/workers.html")]
        assert not [text for text in shown + pages if secret in text]
        with cluster.get_client() as client:
            assert steering_link(client) == cluster.steering_link()

    def test_another_cluster_has_another_secret(self, cluster):
        """A link steers its own cluster."""
        with LambdaCluster(execution="local") as other:
            assert dashboards.secret(other) != dashboards.secret(cluster)


class TestWhatItDoes:
    """A click does what the assignment in Python does."""

    @pytest.mark.parametrize("run", ["", "no such run"])
    def test_a_run_that_there_never_was(self, cluster, run):
        """In Python a slip of the pen is an error; the page shows those that go on only."""
        with pytest.raises(ConfigurationError, match="no run begins with"):
            cluster.stop(run)

    def test_values(self, cluster):
        """Concurrency and the limit of cost are the cluster's, and the page shows them."""
        assert with_secret(cluster, {"concurrency": 1}) == (200, {})
        assert with_secret(cluster, {"max_usd": 0.5}) == (200, {})
        shown = dashboards.state(cluster)
        assert (cluster.concurrency, cluster.max_cost_usd) == (1, 0.5)
        assert (shown["concurrency"], shown["most_concurrency"], shown["max_usd"]) == (1, 2, 0.5)
        assert with_secret(cluster, {"concurrency": 2}) == (200, {})
        assert with_secret(cluster, {"max_usd": None}) == (200, {})
        assert settings(cluster) == ("local", 2, None)

    @pytest.mark.parametrize(
        ("action", "status", "said"),
        [
            ({"execution": "lamda"}, 409, "use 'lambda'"),
            ({"concurrency": 0}, 409, "from 1 to 2"),
            ({"concurrency": 3}, 409, "from 1 to 2"),
            ({"concurrency": "2"}, 400, "knows the actions"),
            ({"concurrency": True}, 400, "knows the actions"),
            ({"max_usd": -1}, 409, "from 0"),
            ({"max_usd": float("nan")}, 409, "from 0"),
            ({"execution": "local", "concurrency": 1}, 400, "knows the actions"),
            ({"shutdown": 1}, 400, "knows the actions"),
            ([], 400, "knows the actions"),
            (None, 400, "knows the actions"),
        ],
    )
    def test_mistakes_change_nothing(self, cluster, action, status, said):
        """What cannot be done says why."""
        before = settings(cluster)
        answered, answer = with_secret(cluster, action)
        assert answered == status
        assert said in answer["error"]
        assert settings(cluster) == before

    def test_fewer_at_once_in_mid_run(self, cluster):
        """Ranges that run go on; then no more than the new limit do, and none is lost."""
        with cluster.get_client() as client:
            frame = RDataFrame(120, npartitions=12).Define("x", "gSystem->Sleep(10); return 1.0;")
            future = client.compute(frame.Sum("x"))
            wait_until(lambda: dashboards.state(cluster)["in_flight"] == 2, "two did not run at once")
            with_secret(cluster, {"concurrency": 1})
            wait_until(lambda: dashboards.state(cluster)["in_flight"] <= 1, "two went on")
            seen = []
            while not future.done():
                seen.append(dashboards.state(cluster)["in_flight"])
            with_secret(cluster, {"concurrency": 2})
            assert future.result(DEADLINE_S) == 120.0
        assert set(seen) <= {0, 1}

    def test_stopping_a_run(self, cluster):
        """The run that is named ends, and tells who computes it; another one goes on to its result."""
        with cluster.get_client() as client:
            slow = RDataFrame(200, npartitions=10).Define("slow", "gSystem->Sleep(20); return 1.0;")
            quick = RDataFrame(200, npartitions=10).Define("quick", "gSystem->Sleep(1); return 2.0;")
            stopped, goes_on = client.compute(slow.Sum("slow")), client.compute(quick.Sum("quick"))

            def found():
                runs = {run["results"][0]: run for run in dashboards.state(cluster)["runs"] if run["results"]}
                return runs["Sum(slow)"]["report"]["run"] if "Sum(slow)" in runs else ""

            wait_until(found, "the run is not shown")
            run = found()
            assert with_secret(cluster, {"stop": run}) == (200, {})
            with pytest.raises(RunCancelledError, match="stopped"):
                stopped.result(DEADLINE_S)
            assert goes_on.result(DEADLINE_S) == 400.0

    def test_a_limit_of_cost_in_mid_run(self, emulated):
        """Once it is passed nothing more is started, and the error says what was spent."""
        with emulated.get_client() as client:
            frame = RDataFrame(240, npartitions=12).Define("x", "gSystem->Sleep(20); return 1.0;")
            future = client.compute(frame.Sum("x"))
            wait_until(lambda: dashboards.state(emulated)["total"]["usd"] > 0, "nothing was billed")
            try:
                assert with_secret(emulated, {"max_usd": 1e-9}) == (200, {})
                with pytest.raises(CostLimitError, match="USD allowed"):
                    future.result(DEADLINE_S)
            finally:
                emulated.max_cost_usd = None

    def test_to_where_the_files_are_not(self, cluster, events_file):
        """Lambda cannot be chosen while a run reads files of this machine: why is shown, no range is lost."""
        with cluster.get_client() as client:
            frame = RDataFrame("Events", events_file, npartitions=10)
            slow = frame.Define("slow", "gSystem->Sleep(2); return x;")
            future = client.compute(slow.Sum("slow"))
            wait_until(lambda: dashboards.state(cluster)["in_flight"], "nothing ran")
            assert events_file in dashboards.state(cluster)["executions"]["lambda"]
            status, answer = with_secret(cluster, {"execution": "lambda"})
            assert status == 409
            assert "cannot read files of this machine" in answer["error"]
            with pytest.raises(ConfigurationError, match="cannot read files of this machine"):
                cluster.execution = "lambda"
            assert future.result(DEADLINE_S) == 499500.0
        assert cluster.execution == "local"
