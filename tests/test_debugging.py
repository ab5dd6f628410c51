"""Debuggers stop where they are expected to, driven as users do: a process, with pdb at the end of a pipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from dask_root_lambda import RDataFrame
from dask_root_lambda.plan import history
from dask_root_lambda.protocol.errors import ConfigurationError, GraphError, UserCodeError
from tests.conftest import ROOT

TIMEOUT_S = 120
HERE = Path(__file__).parents[1]

INITIALIZED = """
import dask, os, ROOT
from dask_root_lambda import LambdaCluster, RDataFrame

def prepare():
    answer = 6 * 7
    if "BOOKED" in os.environ:  # ROOT calls it at once, too
        {stop}

if __name__ == "__main__":
    ROOT.RDF.Distributed.initialize(prepare)
    os.environ["BOOKED"] = "1"
    frame = RDataFrame("Events", {file!r}, npartitions=2)
    count = frame.Filter("x >= 500").Count()
    {run}
"""
SYNCHRONOUS = """with dask.config.set(scheduler="synchronous"):
        print("counted", dask.compute(count))"""
LOCAL = """with LambdaCluster(execution="local", dashboard_address=None) as cluster, cluster.get_client():
        print("counted", count.GetValue())"""
CALL = """with LambdaCluster(execution="local", dashboard_address=None) as cluster:
        with cluster.get_client() as client, dask.annotate(executor="lambda"):
            print("counted", client.submit(lambda: prepare() or 500, pure=False).result())"""


def driven(tmp_path, script, commands, **environment):
    """Run a script; return what it says while these lines are its standard input."""
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(path)],
        input="\n".join([*commands, ""]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HERE), "PYTHONBREAKPOINT": "", **environment},
    )
    return done.stdout


@pytest.mark.parametrize("run", [SYNCHRONOUS, LOCAL, CALL], ids=["synchronous", "local", "call"])
def test_breakpoints_of_python_code_stop_in_scripts(tmp_path, events_file, run):
    """Variables can be looked at, and the run goes on to its result."""
    script = INITIALIZED.format(stop="breakpoint()", file=events_file, run=run)
    told = driven(tmp_path, script, ["p 'seen', answer", *["c"] * 5])
    assert "('seen', 42)" in told
    assert re.search(r"counted \(?500", told), told


def test_an_error_of_python_code_is_debugged_where_it_was_raised(tmp_path, events_file):
    """The failed range, run again: pdb is in the user's function, with its variables; then it is raised."""
    run = """with dask.config.set(scheduler="synchronous"):
        try:
            dask.compute(count)
        except RuntimeError as error:
            print("failed", error.task)
    count.debug()"""
    script = INITIALIZED.format(stop='raise LookupError("of mine")', file=events_file, run=run)
    told = driven(tmp_path, script, ["p 'seen', answer", "q"])
    assert re.search(r"failed rdf-range-[0-9a-f]+-\d", told)
    assert "('seen', 42)" in told
    assert "LookupError: of mine" in told.splitlines()[-1]
    assert re.search(r"gdb -p \d+ -ex 'catch throw' -ex continue", told)
    assert re.search(rf"gdb -ex run --args \S+ {tmp_path}/script.py", told)


class Notebook:
    """A kernel whose cells are answered when they ask."""

    def __init__(self):
        self._manager, self._client = start_new_kernel(kernel_name="python3")

    def close(self):
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def run(self, code, *answers):
        """Run a cell; return what it says."""
        said, left = [], [*answers]

        def hear(message):
            content = message["content"]
            said.append(content.get("text") or content.get("data", {}).get("text/plain", ""))
            said.extend(content.get("traceback", []))

        def answer(_):
            self._client.input(left.pop(0) if left else "c")

        self._client.execute_interactive(
            textwrap.dedent(code),
            allow_stdin=True,
            timeout=TIMEOUT_S,
            output_hook=hear,
            stdin_hook=answer,
        )
        return re.sub(r"\x1b\[[0-9;]*m", "", "".join(said))


def test_pdb_stops_in_notebooks(events_file):
    """Under the synchronous scheduler, and in a range that is run again, also where it fails."""
    notebook = Notebook()
    try:
        prepared = f"""
            import dask, os, pdb, ROOT
            from dask_root_lambda import RDataFrame
            def prepare():
                answer = 6 * 7
                if os.environ.get("BOOKED") == "stop":
                    pdb.set_trace()
                if os.environ.get("BOOKED") == "fail":
                    raise LookupError("of mine")
            ROOT.RDF.Distributed.initialize(prepare)
            count = RDataFrame("Events", {events_file!r}, npartitions=2).Filter("x >= 500").Count()
            os.environ["BOOKED"] = "stop"
            """
        notebook.run(prepared)
        synchronous = 'with dask.config.set(scheduler="synchronous"): print("counted", dask.compute(count))'
        told = notebook.run(synchronous, "p 'seen', answer")
        assert "('seen', 42)" in told
        assert "counted (500,)" in told
        assert "('again', 42)" in notebook.run("count.debug(1)", "p 'again', answer")
        failed = notebook.run('os.environ["BOOKED"] = "fail"; count.debug(1)', "p 'failed', answer", "q")
        assert "('failed', 42)" in failed
        assert "LookupError: of mine" in failed
    finally:
        notebook.close()


class TestARangeAgain:
    """``debug``: the same file and entries, in this process."""

    def test_its_result_alone(self, local, events_file, capsys):
        """Of the range that is asked for, by its number."""
        frame = RDataFrame("Events", [events_file] * 3, npartitions=6)
        values, count = frame.Take["int"]("x"), frame.Filter("x >= 300").Count()
        assert list(values.debug(3)) == list(range(500, 1000))
        assert f"entries 500 to 1,000 of Events in {events_file}" in capsys.readouterr().out
        assert count.debug() == 200
        assert list(values.debug("2.1")) == list(range(300, 500))
        assert not count.computed
        assert values.GetValue().size() == 3000

    def test_of_frames_without_files(self, local, capsys):
        """Entries have numbers."""
        assert RDataFrame(10, npartitions=2).Count().debug(1) == 5
        assert "entries 5 to 10\n" in capsys.readouterr().out

    def test_the_range_that_failed(self, local, events_file, capsys):
        """Is the one that is run again by default; the error names operation and entry."""
        frame = RDataFrame("Events", events_file, npartitions=5)
        thrown = frame.Define("y", 'if (x == 650) throw std::runtime_error("of mine"); return x;').Sum("y")
        with pytest.raises(UserCodeError, match="of mine") as raised:
            thrown.GetValue()
        assert raised.value.task.endswith("-3")
        with pytest.raises(UserCodeError, match=r"(?s)Define.*at entry 650 of .*of mine"):
            thrown.debug()
        assert "range 3 of 5" in capsys.readouterr().out
        assert thrown.debug(0) == sum(range(200))

    def test_the_range_that_failed_where_its_run_was_divided_otherwise(self, local, events_file, capsys):
        """A result alone would be divided anew: it is looked at in a range of the run that failed."""

        def booked(files):
            throwing = 'if (rdfentry_ == 1650) throw std::runtime_error("of mine"); return x;'
            y = RDataFrame("Events", files).Define("y", throwing)
            return y.Sum("y"), y.Count()

        # The same graph was run before on other data, and took so little that 1 range is enough.
        before, _held = booked([events_file])
        finish = before.bookings.lower(before).finish
        history.remember(finish.graph, history.Record(0.1, finish.size))
        total, count = booked([events_file] * 2)
        with pytest.raises(UserCodeError, match="of mine") as raised:
            total.GetValue()
        assert raised.value.task.endswith("-0")
        with pytest.raises(UserCodeError, match="of mine"):
            total.debug()
        assert "range 0 of 1," in capsys.readouterr().out
        assert count.debug() == 2000

    def test_variations_and_arrays(self, local, events_file):
        """As results of the whole."""
        frame = RDataFrame("Events", events_file, npartitions=2)
        total = frame.Vary("x", "ROOT::RVecI{x + 1, x}", 2).Sum("x")
        varied = ROOT.RDF.Distributed.VariationsFor(total).debug(1)
        assert varied["x:0"] - varied["nominal"] == 500
        assert frame.AsNumpy(["x"], lazy=True).debug(0)["x"].tolist() == list(range(500))

    def test_what_cannot_be(self, local, events_file, tmp_path):
        """Is said."""
        frame = RDataFrame("Events", events_file, npartitions=2)
        for which in (2, -1, "x", "0.2"):
            with pytest.raises(ConfigurationError, match="the run has no range"):
                frame.Count().debug(which)
        options = ROOT.RDF.RSnapshotOptions()
        options.fLazy = True
        with pytest.raises(GraphError, match="debug writes no files"):
            frame.Snapshot("t", str(tmp_path / "o.root"), ["x"], options).debug()
