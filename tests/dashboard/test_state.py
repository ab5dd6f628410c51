"""What the page shows is bounded, travels as it is, and adds up over workers."""

from __future__ import annotations

import argparse
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda.cli import logs
from dask_root_lambda.cost.report import RunReport
from dask_root_lambda.dashboard import state
from dask_root_lambda.dashboard.numbers import numbers
from dask_root_lambda.dashboard.plots import histogram
from dask_root_lambda.dashboard.state import MOST_RANGES, RangeTable, RunState, State
from dask_root_lambda.dashboard.tables import log_command
from dask_root_lambda.execution.account import Account
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.execution.tracks import RangeTrack, RunTrack
from dask_root_lambda.protocol.traffic import Traffic, summed

from ..invokers import packed_mapper


def tracks(states, seconds=1.0):
    return {
        index: RangeTrack(index, each, seconds=seconds, environment="e" * 32, request_id="r" * 36)
        for index, each in enumerate(states)
    }


def test_it_travels_as_it_is(make_executor):
    """JSON and back is the same state; its report is the executor's."""
    executor, _ = make_executor()
    mapper = packed_mapper("run", results=("mass", "n"))
    for step in mapper.ranges:
        executor.submit_call(Call(f"run-{step.index}", step, (mapper,))).result(30)
    here = state.of(executor)
    there = State.from_json(here.to_json())
    assert there.to_json() == here.to_json()
    assert there.total == json.loads(json.dumps(executor.report().total.to_dict()))
    assert there.runs[0].results == ["mass", "n"]
    assert there.runs[0].over
    assert list(there.ranges.index) == [0, 1, 2]


def test_the_cost_of_a_run_is_foreseen(make_executor):
    """As long as ranges are left, they cost what those did that are done; at the end nothing is foreseen."""
    executor, _ = make_executor()
    mapper = packed_mapper("run")
    foreseen = []
    for step in mapper.ranges:
        executor.submit_call(Call(f"run-{step.index}", step, (mapper,))).result(30)
        foreseen.append((executor.report().total.usd, state.of(executor).runs[0].usd_foreseen))
    (first, after_first), (second, after_second), (_, after_all) = foreseen
    assert (after_first, after_second) == pytest.approx((first * 3, second * 1.5))
    assert first > 0
    assert after_all is None


def test_of_many_ranges_those_that_matter_are_shown():
    """50,000 ranges make a state of bounded size: what is not done, then what took longest, in order."""
    states = ["done"] * 50_000
    states[17], states[40_000], states[49_999] = "failed", "running", "waiting"
    run = RunTrack(Account("run"), ranges=tracks(states))
    run.ranges[123].seconds = 99.0
    table = state.table(run, now_s=0.0)
    assert (len(table.index), table.begun) == (MOST_RANGES, 50_000)
    assert {17, 123, 40_000, 49_999} <= set(table.index)
    assert list(table.index) == sorted(table.index)
    assert len(State({}, ranges=table).to_json()) < 400_000


def test_stragglers_are_marked_by_the_rule_of_second_tries():
    """Once half are done, three times the median is a straggler, and so is what got a second try."""
    run = RunTrack(Account("run"), ranges=tracks(["done"] * 7 + ["running"]))
    run.account.count(ranges=8)
    run.ranges[3].seconds, run.ranges[5].doubled = 3.5, True
    table = state.table(run, now_s=2.5)
    assert table.slow_after_s == 3.0
    assert slow(table) == [3, 5]
    assert slow(state.table(run, now_s=9.0)) == [3, 5, 7]


def slow(table):
    return [index for index, each in zip(table.index, table.slow, strict=True) if each]


reports = st.builds(
    RunReport,
    run=st.sampled_from(["a", "b"]),
    ranges=st.just(10),
    done=st.integers(0, 5),
    invocations=st.integers(0, 9),
    usd=st.integers(0, 9).map(float),
    wall_s=st.integers(0, 9).map(float),
    executions=st.sampled_from([("local",), ("lambda", "local")]),
    traffic=st.lists(st.builds(Traffic, st.sampled_from(["s3://a", "s3://b"]), gets=st.integers(0, 9))).map(
        summed
    ),
)
states = st.builds(
    State,
    total=reports.map(RunReport.to_dict),
    runs=st.lists(
        st.builds(RunState, reports.map(RunReport.to_dict)),
        max_size=3,
        unique_by=lambda run: run.report["run"],
    ),
    ranges=st.builds(RangeTable, run=st.sampled_from(["a", "b"])),
    execution=st.sampled_from(["local", "lambda"]),
    executions=st.just({"lambda": "no", "emulated": "", "local": ""}),
    concurrency=st.integers(1, 9),
    in_flight=st.integers(0, 9),
)


@given(st.lists(states, min_size=1, max_size=4))
def test_workers_add_up(every):
    """Sums of several workers are the sums of theirs; a run on two of them is one run of as many ranges."""
    whole = state.together(every)
    for name in ("done", "invocations", "usd"):
        assert whole.total[name] == sum(each.total[name] for each in every)
    gets = [{each["source"]: each["gets"] for each in state.total["traffic"]} for state in every]
    for each in whole.total["traffic"]:
        assert each["gets"] == sum(one.get(each["source"], 0) for one in gets)
    assert (whole.concurrency, whole.in_flight) == (
        sum(each.concurrency for each in every),
        sum(each.in_flight for each in every),
    )
    names = [run.report["run"] for run in whole.runs]
    assert len(names) == len(set(names))
    assert all(run.report["ranges"] == 10 for run in whole.runs)
    shown = {name: value for name, _, value in numbers(whole)}
    assert shown["in-flight"] == f"{whole.in_flight} / {whole.concurrency}"


def test_the_command_shows_the_log(make_executor):
    """It names the request, or the range as long as nothing was answered, and the deployment."""
    executor, _ = make_executor()
    options = state.of(executor).log_options
    assert options == "--name dask-root-lambda"
    assert log_command("0a-1b", "run", 3, options) == f"dask-root-lambda logs --request 0a-1b {options}"
    assert log_command("", "run", 3, options) == f"dask-root-lambda logs --run run --range 3 {options}"
    for words in (log_command("0a-1b", "run", 3, options), log_command("", "run", 3, options)):
        assert logs_parser().parse_args(words.split()[2:])


def logs_parser():
    parser = argparse.ArgumentParser()
    logs.add_arguments(parser)
    return parser


@given(st.lists(st.floats(1, 10_240), max_size=50))
def test_each_environment_is_in_one_bin(values):
    """The histogram of memory counts each environment once."""
    counted = histogram(values, 24)
    assert sum(counted["top"]) == len(values)
