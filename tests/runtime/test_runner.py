"""Ranges, merges and what is kept between them, on real files with real ROOT."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import (
    CompilationError,
    IncompleteResultError,
    InputError,
    ProtocolError,
    UserCodeError,
)
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.rdf import inputs, packing
from lambda_runtime.diagnostics import record, user_code
from lambda_runtime.runner import Runner
from tests.conftest import ROOT, write_events


def packed(results, n_ranges):
    """Pack results of one frame as for a run."""
    return packing.pack(results[0].bookings.head, [result.node for result in results], n_ranges)


def run(runner, packed, index):
    step = packed.mapper.ranges[index]
    return runner.map(packed.mapper.digest, lambda: packed.mapper.blob, index, step.interval)[0]


def values(runner, packed, blobs):
    merged = runner.merge(blobs)
    finish = packed.finish
    return [
        wire.loads(blob).GetValue()
        for blob in runner.finish(merged, n_files=finish.n_files, entries=finish.entries)[0]
    ]


@pytest.fixture(scope="module")
def runner():
    return Runner(shared=True)


def test_ranges_add_up_to_the_whole(runner, events_file):
    """Merging all ranges gives what local RDataFrame gives."""
    frame = RDataFrame("Events", events_file)
    results = [frame.Count(), frame.Sum("x"), frame.Max("x")]
    whole = packed(results, 4)
    assert values(runner, whole, [run(runner, whole, index) for index in range(4)]) == [1000, 499500.0, 999.0]


@pytest.mark.parametrize("source", [1000, "file"])
def test_a_range_that_is_not_there(runner, events_file, source):
    """It is an error, and never another range."""
    whole = packed([RDataFrame(*(("Events", events_file) if source == "file" else (source,))).Count()], 2)
    beyond = Interval(Fraction(1, 2), Fraction(1001))
    with pytest.raises(ProtocolError, match="there is no range 1_2-1001: the dataset ends at"):
        runner.map(whole.mapper.digest, lambda: whole.mapper.blob, 1, beyond)


def test_a_merge_done_twice(runner, events_file):
    """Merging the same partial results again gives the same result: the inputs stay as they are."""
    frame = RDataFrame("Events", events_file)
    results = [frame.Histo1D(("h", "", 10, 0, 1000), "x"), frame.Count()]
    whole = packed(results, 2)
    blobs = [run(runner, whole, index) for index in range(2)]
    kept = list(blobs)
    first, second = (values(runner, whole, blobs) for _ in range(2))
    assert blobs == kept
    for histogram, count in (first, second):
        assert count == 1000
        assert [histogram.GetBinContent(bin_) for bin_ in range(1, 11)] == [100.0] * 10


def test_a_range_run_twice_counts_once(runner, events_file):
    """A range may be run again; either of its partial results is the same, and one of them is merged."""
    frame = RDataFrame("Events", events_file)
    count = frame.Count()
    whole = packed([count], 2)
    first, again, rest = (run(runner, whole, index) for index in (0, 0, 1))
    assert values(runner, whole, [first, rest]) == values(runner, whole, [again, rest]) == [1000]


def test_a_range_that_is_counted_twice_is_an_error(runner, events_file):
    """A merge is of disjoint partial results: a range cannot be in it twice."""
    frame = RDataFrame("Events", events_file)
    count = frame.Count()
    whole = packed([count], 2)
    blobs = [run(runner, whole, index) for index in (0, 0, 1)]
    with pytest.raises(IncompleteResultError, match="results of 0-1_2 and of 0-1_2 overlap"):
        values(runner, whole, blobs)


def test_a_range_that_is_missing_is_an_error(runner, tmp_path):
    """What was merged is not the whole: that of the first range is not the result."""
    files = [write_events(tmp_path / f"{index}.root", entries=100) for index in range(2)]
    frame = RDataFrame("Events", files)
    count = frame.Count()
    whole = packed([count], 2)
    with pytest.raises(IncompleteResultError, match="of the dataset, 0-2, only 0-1 was merged"):
        values(runner, whole, [run(runner, whole, 0)])


def test_a_compiled_graph_is_used_again(runner, events_file, monkeypatch):
    """After the first range of a graph, no other compiles it."""
    from lambda_runtime import event_loop

    compiled = []
    original = event_loop.EventLoop._compile
    monkeypatch.setattr(
        event_loop.EventLoop,
        "_compile",
        lambda *args, **kwargs: compiled.append(1) or original(*args, **kwargs),
    )
    frame = RDataFrame("Events", events_file)
    total = frame.Define("y", "x * 17").Sum("y")
    whole = packed([total], 5)
    blobs = [run(runner, whole, index) for index in range(5)]
    assert values(runner, whole, blobs) == [499500.0 * 17]
    assert len(compiled) == 1


def test_a_graph_reused_on_columns_of_other_types(runner, tmp_path):
    """The same graph over a column of ints and then of doubles reads both right, in one process."""
    sums = {}
    for kind, value in (("int", "int(rdfentry_)"), ("double", "double(rdfentry_) + 0.5")):
        file = write_events(tmp_path / f"{kind}.root", value=value)
        frame = RDataFrame("Events", file)
        total = frame.Define("twice", "x + x").Sum("twice")
        whole = packed([total], 2)
        sums[kind] = values(runner, whole, [run(runner, whole, index) for index in range(2)])
    assert sums == {"int": [2 * 499500.0], "double": [2 * (499500.0 + 500.0)]}


def test_a_compiled_graph_serves_other_files_of_the_same_columns(runner, tmp_path):
    """The same graph over other data of the same types is compiled once and gives the other data's result."""
    keys, sums = [], []
    for index in range(2):
        file = write_events(tmp_path / f"{index}.root", value=f"int(rdfentry_) + {index}")
        frame = RDataFrame("Events", file)
        total = frame.Define("thrice", "3 * x").Sum("thrice")
        whole = packed([total], 1)
        keys.append(wire.loads(whole.mapper.blob).compiled_key)
        sums += values(runner, whole, [run(runner, whole, 0)])
    assert keys[0] == keys[1]
    assert sums == [3 * 499500.0, 3 * (499500.0 + 1000)]


def test_a_file_replaced_under_its_old_name(runner, tmp_path, monkeypatch):
    """A range that finds another file under the name refuses it; a new frame over it is another run."""
    monkeypatch.setattr(inputs, "_QUIET_S", 0.0)
    path = tmp_path / "events.root"
    frame = RDataFrame("Events", write_events(path))
    total = frame.Sum("x")
    before = packed([total], 1)
    write_events(path, value="2 * int(rdfentry_)")
    with pytest.raises(InputError, match="is not the file it was"):
        run(Runner(shared=True), before, 0)
    with pytest.raises(InputError, match="was replaced since the RDataFrame was made"):
        packed([total], 1)
    again = RDataFrame("Events", str(path))
    new_total = again.Sum("x")
    after = packed([new_total], 1)
    assert after.mapper.run != before.mapper.run
    assert values(runner, after, [run(runner, after, 0)]) == [2 * 499500.0]


@pytest.mark.parametrize(("where", "name"), [(wire, "WIRE_VERSION"), (packing, "__version__")])
def test_what_another_version_left_is_not_taken(events_file, monkeypatch, where, name):
    """A run is told apart by the versions too: this one may be unable to read the other's results."""
    frame = RDataFrame("Events", events_file)
    total = frame.Sum("x")
    before = packed([total], 1)
    assert packed([total], 1).mapper.run == before.mapper.run
    monkeypatch.setattr(where, name, "another")
    assert packed([total], 1).mapper.run != before.mapper.run


def test_threads_run_ranges_at_once(runner, events_file):
    """Many ranges of several new graphs in many threads are all right: compiling takes turns."""
    frames = [RDataFrame("Events", events_file) for _ in range(4)]
    totals = [frame.Define("y", f"x * {index + 100}").Sum("y") for index, frame in enumerate(frames)]
    wholes = [packed([total], 5) for total in totals]
    jobs = [(whole, index) for index in range(5) for whole in wholes]
    with ThreadPoolExecutor(4) as pool:
        blobs = dict(zip(jobs, pool.map(lambda job: run(runner, *job), jobs), strict=True))
    for index, whole in enumerate(wholes):
        found = values(runner, whole, [blobs[whole, each] for each in range(5)])
        assert found == [499500.0 * (index + 100)]


def test_an_event_loop_can_be_ended(runner):
    """A range that would take minutes ends at its next entry when told to, and the graph is not kept."""
    frame = RDataFrame(100_000)
    total = frame.Define("slow", "gSystem->Sleep(10); return 1.0;").Sum("slow")
    whole = packed([total], 1)
    (interval,) = whole.mapper.division
    begun = threading.Event()
    ends = []

    def on_stop(end):
        if end is not None:
            ends.append(end)
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(runner.map, whole.mapper.digest, lambda: whole.mapper.blob, 0, interval, on_stop)
        assert begun.wait(60)
        ends[0]()
        assert isinstance(future.exception(30), UserCodeError)


def test_an_end_that_comes_too_late_ends_nothing(runner, events_file):
    """A range that was told to end just as it was done leaves a graph that the next range can use."""
    whole = packed([RDataFrame("Events", events_file).Define("late", "x * 31").Sum("late")], 2)
    ends = []

    def blob(index):
        on_stop = lambda end: ends.append(end) if end is not None else None  # noqa: E731
        interval = whole.mapper.division[index]
        return runner.map(whole.mapper.digest, lambda: whole.mapper.blob, index, interval, on_stop)[0]

    first = blob(0)
    ends[0]()
    assert values(runner, whole, [first, blob(1)]) == [499500.0 * 31]


def test_user_code_that_throws_is_told_with_what_it_said(runner, events_file):
    """A C++ exception comes back with its type and what()."""
    frame = RDataFrame("Events", events_file)
    total = frame.Define("y", 'if (x > 500) throw std::runtime_error("too much"); return x;').Sum("y")
    whole = packed([total], 1)
    with pytest.raises(UserCodeError, match="too much") as caught:
        run(runner, whole, 0)
    assert caught.value.type_name == "runtime_error"


def test_diagnostics_show_the_users_line():
    """What Cling reports, with the line, is part of the error; warnings do not make one."""

    def declare():
        with user_code("my code"):
            if not ROOT.gInterpreter.Declare("int drl_broken() { return undeclared_thing; }"):
                raise RuntimeError

    with pytest.raises(CompilationError, match="my code does not compile") as caught:
        declare()
    assert "undeclared_thing" in caught.value.diagnostics
    assert "use of undeclared identifier" in caught.value.diagnostics


def test_diagnostics_of_threads_are_kept_apart():
    """What another thread reports is not in this thread's record."""
    with record() as own:
        thread = threading.Thread(
            target=ROOT.gInterpreter.Declare, args=("int drl_other() { return other_thing; }",)
        )
        thread.start()
        thread.join()
    assert own.text == ""


def test_the_warm_up_covers_the_usual_operations():
    """The graph that is run before a snapshot works, and reseeding draws other numbers each time."""
    from lambda_runtime import snapstart

    snapstart.warm_up()
    draws = set()
    for _ in range(3):
        snapstart.reseed()
        draws.add((ROOT.gRandom.Rndm(), __import__("random").random(), __import__("numpy").random.random()))
    assert len(draws) == 3
