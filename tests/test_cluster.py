"""The cluster as a user meets it: one switch, one report, Ctrl-C, a bar, a dashboard, and nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import dask
import pexpect
import pytest

from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.gateway import slots
from dask_root_lambda.protocol.errors import (
    ConfigurationError,
    CrashError,
    DaskRootLambdaError,
    InputError,
    UnreachableError,
)

SUM = 499500.0
DEADLINE_S = 90.0


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def slow_frame(npartitions=20, entries=2000, sleep_ms=20):
    """Ranges that take a while, and say that they have begun by a file."""
    frame = RDataFrame(entries, npartitions=npartitions)
    return frame.Define("slow", f"gSystem->Sleep({sleep_ms}); return 1.0;")


_RELEASED = threading.Event()


def _released(number):
    return _RELEASED.wait(DEADLINE_S) and number


def test_the_gateway_is_given_all_that_is_ready():
    """Ranges wait at their only worker, not at the scheduler: a slot is never empty for a round trip."""
    with LambdaCluster(execution="local", concurrency=1) as cluster, cluster.get_client() as client:
        workers = cluster.scheduler.workers.values()
        with dask.annotate(executor="lambda"):
            futures = client.compute([dask.delayed(_released)(number) for number in range(50)])
        try:
            wait_until(lambda: [len(each.processing) for each in workers] == [50], "a task was held back")
        finally:
            _RELEASED.set()
        assert sum(client.gather(futures)) == 1225


class TestTheSwitch:
    """``cluster.execution`` changes where ranges run, at any time."""

    def test_from_environments_to_this_process_and_back(self, emulated, events_file):
        """The same graph under each execution gives the same numbers, and the report tells them apart."""
        with emulated.get_client():
            frame = RDataFrame("Events", events_file, npartitions=4)
            sums = []
            try:
                for execution in ("emulated", "local", "emulated"):
                    emulated.execution = execution
                    assert emulated.execution == execution
                    sums += dask.compute(frame.Sum("x"))
            finally:
                emulated.execution = "emulated"
        assert sums == [SUM] * 3
        assert [run.executions for run in emulated.report().runs[-3:]] == [
            ("emulated",),
            ("local",),
            ("emulated",),
        ]

    def test_in_mid_run(self, emulated):
        """Ranges that have not started go the new way; the result is whole."""
        with emulated.get_client() as client:
            before = len(emulated.report().runs)
            future = client.compute(slow_frame(npartitions=12, entries=600).Sum("slow"))

            def begun():
                runs = emulated.report().runs
                return len(runs) > before and runs[-1].done >= 2

            try:
                wait_until(begun, "no range was done")
                emulated.execution = "local"
                assert future.result(DEADLINE_S) == 600.0
            finally:
                emulated.execution = "emulated"
            run = emulated.report().runs[-1]
        assert set(run.executions) == {"emulated", "local"}
        assert run.entries == 600

    def test_a_typo_changes_nothing(self, local):
        """An unknown execution is an error that lists the known ones."""
        with pytest.raises(ConfigurationError, match="use 'lambda', 'emulated', 'local'"):
            local.execution = "lamda"
        assert local.execution == "local"

    def test_to_aws_without_aws(self, local, monkeypatch, tmp_path):
        """Switching to a function that cannot be used says why, and the cluster goes on as before."""
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(ConfigurationError, match="AWS_REGION"):
            local.execution = "lambda"
        assert RDataFrame(10, npartitions=2).Count().compute() == 10


class TestMistakes:
    """Each ends in one clear error, with nothing left behind."""

    @pytest.mark.parametrize("scale", [LambdaCluster.scale, LambdaCluster.adapt])
    def test_scaling(self, local, scale):
        """The cluster has one worker: the error names what limits functions, and the worker stays."""
        with pytest.raises(ConfigurationError, match=r"Lambda starts functions.*LambdaCluster\(concurrency="):
            scale(local, 4)
        assert RDataFrame(10, npartitions=2).Count().compute() == 10
        assert len(local.scheduler.workers) == 1

    def test_the_widget_does_not_scale(self, local):
        """A notebook has nothing to press that would scale Dask's workers."""

        def inside(widget):
            return [widget, *(each for child in getattr(widget, "children", ()) for each in inside(child))]

        shown = [type(each).__name__ for each in inside(local._widget())]
        assert "Dropdown" in shown
        assert "Button" not in shown

    def test_an_unknown_execution(self):
        """The constructor names the executions."""
        with pytest.raises(ConfigurationError, match="no execution named 'cloud'"):
            LambdaCluster(execution="cloud")

    def test_an_endpoint_that_does_not_answer(self, monkeypatch):
        """A closed port is told within seconds."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        began_s = time.monotonic()
        with pytest.raises(UnreachableError, match="check the network"):
            LambdaCluster(execution="lambda", region="us-east-1", endpoint_url="http://127.0.0.1:9")
        assert time.monotonic() - began_s < 30

    def test_a_segmentation_fault_in_user_code(self, emulated):
        """A crash is one error, after one more try, and the cluster can be used further."""
        with emulated.get_client():
            frame = RDataFrame(100, npartitions=2)
            code = "volatile int *nowhere = nullptr; if (rdfentry_ == 60) *nowhere = 1; return 1.0;"
            crash = frame.Define("y", code).Sum("y")
            with pytest.raises(CrashError, match="segmentation fault") as caught:
                crash.compute()
            assert caught.value.attempt == 2
            assert RDataFrame(100, npartitions=2).Count().compute() == 100

    def test_a_file_that_goes_away_after_the_frame_was_made(self, emulated, events_file, tmp_path):
        """A file that is deleted before the run is named."""
        path = tmp_path / "fleeting.root"
        path.write_bytes(Path(events_file).read_bytes())
        with emulated.get_client():
            count = RDataFrame("Events", str(path), npartitions=2).Count()
            path.unlink()
            with pytest.raises(InputError, match=r"fleeting\.root: No such file"):
                count.compute()

    def test_local_files_on_aws(self, local, events_file, monkeypatch):
        """Under lambda, files of this machine are an error before anything is invoked."""
        invoker = local._executor._invokers["local"]
        monkeypatch.setattr(invoker, "remote", True, raising=False)
        with pytest.raises(InputError, match="cannot read files of this machine"):
            RDataFrame("Events", events_file, npartitions=2).Count().compute()
        assert local.report().total.invocations == 0

    def test_a_failure_is_logged_unless_it_is_of_a_run(self, local, caplog):
        """Those of a run are raised; other tasks may be called range as well, and Dask tells of them."""

        def fail():
            raise ValueError("of the user")

        with local.get_client() as client, caplog.at_level("WARNING", "distributed.worker"):
            with pytest.raises(ValueError, match="of the user"):
                client.submit(fail, key="range-1").result(30)
            total = RDataFrame(10, npartitions=1).Define("y", "throw 1; return 1.;").Sum("y")
            with pytest.raises(DaskRootLambdaError):
                total.compute()
        failed = [record for record in caplog.records if str(record.msg).startswith("Compute Failed")]
        assert [record.args[0] for record in failed] == ["range-1"]

    def test_errors_carry_task_and_attempt(self, local):
        """An error says which range it was."""
        frame = RDataFrame(100, npartitions=4)
        total = frame.Define("y", 'if (rdfentry_ == 80) throw std::runtime_error("here"); return 1.0;').Sum(
            "y"
        )
        with pytest.raises(DaskRootLambdaError, match=r"\[task rdf-range-\w+-3, attempt 1") as caught:
            total.compute()
        assert caught.value.task.endswith("-3")


class TestInTheTerminal:
    """What a user sees on a terminal."""

    def test_a_bar_while_ranges_run(self, tmp_path):
        """On a terminal a bar counts ranges; its last state is complete."""
        path = tmp_path / "analysis.py"
        path.write_text(
            "import warnings; warnings.simplefilter('ignore')\n"
            "from dask_root_lambda import LambdaCluster, RDataFrame\n"
            "with LambdaCluster(execution='local', concurrency=2) as cluster, cluster.get_client():\n"
            "    print('count', RDataFrame(100, npartitions=7).Count().GetValue())\n"
        )
        child = pexpect.spawn(sys.executable, [str(path)], timeout=DEADLINE_S, dimensions=(24, 160))
        try:
            child.expect(r"7/7")
            child.expect("count 100")
            child.expect(pexpect.EOF)
        finally:
            child.close(force=True)

    def test_lines_in_a_pipe(self, capfd):
        """Without a terminal there is a line for each phase and each tenth, unless that is switched off."""
        for progress in (None, False):
            with (
                LambdaCluster(execution="local", concurrency=2, progress=progress) as cluster,
                cluster.get_client(),
            ):
                assert RDataFrame(100, npartitions=20).Count().compute() == 100
            lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("run ")]
            if progress is None:
                assert "compiling, 0 of 20 ranges, 0%" in lines[0]
                assert [line.split(": ")[1].split(",")[0] for line in lines[-2:]] == ["merging", "done"]
                assert 12 <= len(lines) <= 15
            else:
                assert not lines

    @pytest.mark.parametrize(
        ("cluster", "compute"),
        [
            ("LambdaCluster(execution='local', concurrency=1)", "count.compute()"),
            ("contextlib.nullcontext()", "count.compute(scheduler='synchronous')"),
        ],
        ids=["local", "synchronous"],
    )
    def test_a_breakpoint_stops_in_the_terminal(self, tmp_path, cluster, compute):
        """breakpoint() in the function given to initialize stops where the range runs."""
        path = tmp_path / "analysis.py"
        path.write_text(
            "import contextlib, warnings; warnings.simplefilter('ignore')\n"
            "import ROOT\n"
            "from dask_root_lambda import LambdaCluster, RDataFrame\n"
            "calls = []\n"
            "def initialize():\n"
            "    calls.append(1)\n"
            "    secret = 6 * 7\n"
            "    if len(calls) > 1: breakpoint()\n"
            "ROOT.RDF.Distributed.initialize(initialize)\n"
            f"with {cluster} as cluster:\n"
            "    with cluster.get_client() if cluster else contextlib.nullcontext():\n"
            "        count = RDataFrame(100, npartitions=2).Count()\n"
            f"        print('count', {compute})\n"
        )
        child = pexpect.spawn(
            sys.executable,
            [str(path)],
            timeout=DEADLINE_S,
            env={**os.environ, "PYTHONBREAKPOINT": "pdb.set_trace"},
        )
        try:
            child.expect(r"\(Pdb\)")
            child.sendline("p secret")
            child.expect("42")
            child.sendline("c")
            child.expect("count 100")
        finally:
            child.close(force=True)


class TestAround:
    """What else a cluster offers, and keeps to itself."""

    def test_the_dashboard_answers_where_the_link_says(self):
        """The dashboard listens on this machine only, and its link leads there."""
        with LambdaCluster(execution="local") as cluster:
            assert cluster.dashboard_link.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(cluster.dashboard_link, timeout=30) as answer:
                assert answer.status == 200

    def test_the_slots_follow_the_concurrency(self, local):
        """Dask sees several threads for each invocation in flight: what they hold waits in the executor."""
        (worker,) = local.workers.values()
        assert worker.state.nthreads == slots(max(2, os.cpu_count()))

    def test_garbage_is_looked_for_a_third_as_often(self):
        """Dask's own processes do that; here once for all clusters, from what the user has set."""
        code = (
            "import gc; gc.set_threshold(600, 9, 8)\n"
            "from dask_root_lambda import LambdaCluster\n"
            "for _ in range(2):\n"
            "    LambdaCluster('local', dashboard_address=None).close()\n"
            "    print(gc.get_threshold())\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True, text=True, timeout=DEADLINE_S, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines() == ["(1800, 27, 24)"] * 2

    def test_few_messages_are_kept(self):
        """Of streams within a process, which hold on to their last messages, with all that is in them."""
        with (
            LambdaCluster(execution="local", dashboard_address=None) as cluster,
            cluster.get_client() as client,
        ):
            scheduler = cluster.scheduler
            streams = [
                *scheduler.stream_comms.values(),
                *scheduler.client_comms.values(),
                client.scheduler_comm,
            ]
            (worker,) = cluster.workers.values()
            logs = [stream.recent_message_log for stream in (*streams, worker.batched_stream)]
            assert {log.maxlen for log in logs} == {50}
            assert len(logs) >= 4
        assert dask.config.get("distributed.admin.low-level-log-length") == 1000

    def test_the_slots_are_those_of_every_execution(self):
        """A cluster that begins in this process has Lambda's concurrency when it is switched."""
        with LambdaCluster(execution="local", concurrency=50) as cluster:
            (worker,) = cluster.workers.values()
            assert worker.state.nthreads == slots(50)

    def test_merges_can_run_in_environments(self, emulated, events_file):
        """Partial results are merged where the configuration says."""
        before = emulated.report().total.invocations
        with emulated.get_client(), dask.config.set({"dask-root-lambda.merge-on": "lambda"}):
            frame = RDataFrame("Events", events_file, npartitions=10)
            assert dask.compute(frame.Sum("x"), frame.Histo1D(("h", "", 5, 0, 1000), "x"))[0] == SUM
        assert emulated.report().total.invocations - before == 10 + 3

    def test_large_partial_results_go_through_the_store_and_are_deleted(self, emulated, events_file):
        """Arrays over the envelope's limit come through S3, whole; afterwards the store is empty."""
        with emulated.get_client():
            frame = RDataFrame(2_000_000, npartitions=2)
            arrays = frame.Define("r", "gRandom->Rndm()").AsNumpy(["r"])
            assert len(arrays["r"]) == 2_000_000
            store = emulated._executor._invokers["emulated"].store
            wait_until(lambda: not list(store.keys("partials/")), "partial results were left")

    def test_the_report_is_of_this_cluster(self, local, events_file):
        """Ranges, entries and executions of what ran are in the report, as text and as data."""
        assert RDataFrame("Events", events_file, npartitions=5).Count().compute() == 1000
        report = local.report()
        assert (report.total.ranges, report.total.entries, report.total.executions) == (5, 1000, ("local",))
        assert "1,000" in str(report)
        assert report.to_dict()["total"]["ranges"] == 5


def test_environments_restored_from_a_snapshot(events_file):
    """With SnapStart environments are copies of a warmed-up one: no INIT, and random numbers of their own."""
    with (
        dask.config.set({"dask-root-lambda.emulated.snapstart": True}),
        LambdaCluster(execution="emulated", concurrency=2) as cluster,
        cluster.get_client(),
    ):
        frame = RDataFrame("Events", events_file, npartitions=2)
        assert frame.Sum("x").GetValue() == SUM
        draws = RDataFrame(2, npartitions=2).Define("r", "gRandom->Rndm()").AsNumpy(["r"])["r"]
        total = cluster.report().total
    assert len(set(draws)) == 2
    assert total.cold_starts >= 2
    assert total.init_s < 2 * total.cold_starts
