"""Dask's annotations: what runs on the executor, and what else the user says of tasks."""

from __future__ import annotations

import operator
import subprocess
import sys

import dask
import dask.array
import dask.bag
import pytest
from dask.array.optimization import optimize as optimize_array
from dask.bag.core import optimize as optimize_bag
from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import pickle

from dask_root_lambda import RDataFrame
from tests.conftest import ROOT


@pytest.fixture
def operations(local, monkeypatch):
    """What is asked of functions: each operation, in order."""
    invoker, asked = local._executor._invokers["local"], []
    invoke = invoker.invoke

    def recorded(request, cancellation):
        asked.append(request.operation)
        return invoke(request, cancellation)

    monkeypatch.setattr(invoker, "invoke", recorded)
    return asked


def total(n=1000):
    return RDataFrame(n, npartitions=3).Define("x", "double(rdfentry_)").Sum("x")


SUM = 499500.0


def values(*results):
    return [float(getattr(result, "GetValue", lambda result=result: result)()) for result in results]


WAYS = {
    "dask.compute": lambda: dask.compute(total(), total(10)),
    "one": lambda: [total().compute(), 45.0],
    "unoptimized": lambda: dask.compute(total(), total(10), optimize_graph=False),
    "persist": lambda: dask.persist(total(), total(10)),
    "client.compute": lambda: [each.result(60) for each in Client.current().compute([total(), total(10)])],
    "touched": lambda: [total().GetValue(), total(10).GetValue()],
    "delayed": lambda: dask.compute(dask.delayed(total()), dask.delayed(total(10))),
    "root": lambda: [
        ROOT.RDataFrame(n, executor=Client.current(), npartitions=3).Define("x", "double(rdfentry_)").Sum("x")
        for n in (1000, 10)
    ],
}


class TestGraphsOfFrames:
    """Whatever annotations say of where to run, functions are asked for what they know."""

    @pytest.mark.parametrize("way", WAYS)
    def test_only_ranges_are_invoked(self, local, operations, way):
        """The check and the results, whose names functions do not know, stay here."""
        with dask.annotate(executor="lambda"):
            assert values(*WAYS[way]()) == [SUM, 45.0]
        assert set(operations) == {"map"}

    @pytest.mark.parametrize("where", ["lambda", "default"])
    def test_merges_go_where_they_are_configured_to(self, local, operations, where):
        """With ``merge-on: lambda`` they are invoked, under any annotation."""
        with dask.config.set({"dask-root-lambda.merge-on": "lambda"}), dask.annotate(executor=where):
            assert total().compute() == SUM
        assert sorted(operations) == ["map"] * 3 + ["merge"]

    def test_what_the_user_makes_of_a_result(self, local, operations):
        """A function of the user's under the annotation is invoked, with the value of the result."""
        with dask.annotate(executor="lambda"):
            assert dask.delayed(operator.neg)(total()).compute() == -SUM
        assert sorted(operations) == ["call"] + ["map"] * 3


class Watch(SchedulerPlugin):
    """Remembers what the scheduler was told of the tasks of runs."""

    def __init__(self, scheduler):
        self.scheduler, self.annotations, self.retries, self.priorities = scheduler, {}, {}, {}

    def transition(self, key, start, finish, *args, **kwargs):
        name = key[0].split("-")[1] if isinstance(key, tuple) else None
        if finish == "processing" and name in ("range", "merge"):
            task = self.scheduler.tasks[key]
            self.annotations[name] = dict(task.annotations or {})
            self.retries[name], self.priorities[name] = task.retries, task.priority[0]


class TestPriorityAndRetries:
    """What the user says of tasks besides holds for ranges and merges."""

    @pytest.fixture
    def watch(self, local):
        plugin = Watch(local.scheduler)
        local.scheduler.add_plugin(plugin)
        return plugin

    @pytest.mark.parametrize("way", WAYS)
    def test_where_it_is_computed(self, local, watch, way):
        """Whichever way the results are computed in the block."""
        with dask.annotate(priority=7, retries=2):
            values(*WAYS[way]())
        assert watch.priorities == {"range": -7, "merge": -7}
        assert watch.retries == {"range": 2, "merge": 2}

    def test_where_it_is_booked(self, local, watch):
        """As of other collections, those of the block where a result was made hold; other blocks' do not."""
        with dask.annotate(priority=7, executor="lambda"):
            booked = total()
        with dask.annotate(priority=3):
            _ = total().dask
        assert booked.compute() == SUM
        assert watch.annotations == {"range": {"priority": 7}, "merge": {"priority": 7}}
        assert total(10).compute() == 45.0
        assert watch.annotations == {"range": {}, "merge": {}}

    def test_a_range_is_tried_again(self, local):
        """With ``retries``, Dask runs a range again that failed, and the result is whole."""
        ROOT.gInterpreter.Declare("std::atomic<int> drl_failures{0};")
        frame = RDataFrame(1000, npartitions=1)
        flaky = frame.Define("x", 'if (drl_failures++ == 0) throw std::runtime_error("once"); return 1.0;')
        with dask.annotate(retries=1):
            assert flaky.Sum("x").compute() == 1000.0


class TestOtherCollections:
    """Bags and arrays that are made under the annotation run there, wherever they are computed."""

    BAG = staticmethod(lambda: dask.bag.from_sequence(range(8), npartitions=4).map(lambda x: x + 1))
    ARRAY = staticmethod(lambda: dask.array.ones(8, chunks=2) + 1)

    @pytest.mark.parametrize(("make", "value"), [(BAG, [*range(1, 9)]), (ARRAY, [2.0] * 8)])
    def test_made_in_the_block(self, local, operations, make, value):
        """Dask's own optimisation loses the annotation; tasks that can be one invocation are one."""
        with dask.annotate(executor="lambda"):
            collection = make()
        assert list(collection.compute()) == value
        assert list(Client.current().compute(collection).result(60)) == value
        assert operations == ["call"] * 8

    @pytest.mark.parametrize(("make", "value"), [(BAG, [*range(1, 9)]), (ARRAY, [2.0] * 8)])
    def test_computed_in_the_block(self, local, operations, make, value):
        """All of it runs there."""
        collection = make()
        with dask.annotate(executor="lambda"):
            assert list(collection.compute()) == value
        assert operations == ["call"] * 5

    def test_an_argument_of_a_delayed_function(self, local, operations):
        """Its tasks are invoked as they are, not in a wrapper of Dask's."""
        with dask.annotate(executor="lambda"):
            assert dask.delayed(sum)(dask.delayed(range)(4)).compute() == 6
            assert dask.delayed(sum)(self.ARRAY()).compute() == 16
        assert operations == ["call"] * 8

    @pytest.mark.parametrize("make", [BAG, ARRAY])
    def test_others_are_optimised_as_ever(self, local, operations, make):
        """Without the annotation nothing is invoked, and Dask's optimisation is Dask's."""
        assert make().__dask_optimize__ in (optimize_array, optimize_bag)
        assert len(make().compute()) == 8
        assert operations == []

    def test_what_the_user_configured_stays(self, local):
        """Who has an optimisation of their own keeps it."""
        with dask.annotate(executor="lambda"), dask.config.set(bag_optimize=len):
            assert self.BAG().__dask_optimize__ is len
            assert self.BAG().__dask_optimize__ is not self.ARRAY().__dask_optimize__

    def test_a_scheduler_without_this_package(self, local):
        """What Dask's scheduler calls is pickled as a whole."""
        with dask.annotate(executor="lambda"):
            optimize = self.BAG().__dask_optimize__
        code = (
            "import pickle, sys; sys.modules['dask_root_lambda'] = None; "
            "from dask.highlevelgraph import HighLevelGraph; "
            "print(len(pickle.load(sys.stdin.buffer)(HighLevelGraph({}, {}), []).layers))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], input=pickle.dumps(optimize), capture_output=True, timeout=60
        )
        assert done.stdout.split() == [b"0"], done.stderr
