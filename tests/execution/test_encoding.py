"""What requests carry: parts of a run that was begun under another execution are where they are looked up."""

from __future__ import annotations

import os
from dataclasses import replace

import dask
import pytest
from distributed import Client, LocalCluster

from dask_root_lambda import LambdaPlugin, RDataFrame
from dask_root_lambda.config import Settings
from dask_root_lambda.execution import encoding
from dask_root_lambda.execution.encoding import Call, Encoder
from dask_root_lambda.execution.executor import LambdaExecutor
from dask_root_lambda.invocation.invokers import LocalInvoker
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import Merge, PackedMapper
from dask_root_lambda.protocol import seal, wire
from dask_root_lambda.protocol.errors import DamagedBlobError
from dask_root_lambda.protocol.intervals import divided
from dask_root_lambda.protocol.store import DirectoryStore, MemoryStore
from dask_root_lambda.protocol.task import Body
from dask_root_lambda.protocol.task import session as process_name
from lambda_runtime import handler
from tests.invokers import KEY, ScriptedInvoker


class Elsewhere(LocalInvoker):
    """Runs the real handler with a store of its own, in which large results stay."""

    def __init__(self, execution, directory):
        super().__init__()
        self.execution, self.store = execution, DirectoryStore(directory)
        self._environment = handler.Environment(self.store)
        self.requests, self.then = [], lambda: None

    def invoke(self, request, cancellation):
        invocation = super().invoke(request, cancellation)
        self.requests.append(request)
        self.then()
        return invocation

    def _taken_out(self, body, seal_key):
        return body.stored_in(self.store.url)


@pytest.fixture
def two_places(tmp_path, monkeypatch):
    """An executor, and the invokers of its two executions, for which partial results are large."""
    for module in (encoding, handler):
        monkeypatch.setattr(module, "MAX_ENVELOPE_BYTES", 2_000)
    invokers = {name: Elsewhere(name, tmp_path / name) for name in ("emulated", "local")}
    settings = Settings.resolve(execution="emulated", concurrency=1, local_threads=1)
    openers = {name: lambda _, invoker=invoker: invoker for name, invoker in invokers.items()}
    with LambdaExecutor(settings=settings, openers=openers) as executor:
        yield executor, invokers


def test_a_run_that_is_switched_while_lambda_merges(two_places, events_file):
    """Merges of one execution take the large parts that ranges left in the store of the other."""
    executor, invokers = two_places
    before, after = invokers.values()

    def switch():
        if len(before.requests) == 3:
            executor.execution = "local"

    before.then = switch
    with (
        dask.config.set({"dask-root-lambda.merge-on": "lambda", "dask-root-lambda.fan-in": 2}),
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        (worker,) = cluster.workers.values()
        client.sync(worker.plugin_add, plugin=LambdaPlugin(executor=executor))
        frame = RDataFrame("Events", events_file, npartitions=5).Define("r", "std::sin(x * 12345.678)")
        histogram = dask.compute(frame.Histo1D(("h", "", 5000, -1, 1), "r", "r"))[0]
        assert histogram.GetEntries() == 1000
    assert len(before.requests) == 3
    assert {request.operation for request in after.requests} == {"map", "merge"}
    parts = [body for each in after.requests if each.operation == "merge" for body in each.bodies]
    assert any(body.key is not None for body in parts)
    assert {body.store for body in parts if body.key is not None} == {after.store.url}


def test_parts_of_another_store_are_brought_along(tmp_path):
    """Inline where they fit, else by a key of the store that the function looks into."""
    there, here = DirectoryStore(tmp_path / "there"), DirectoryStore(tmp_path / "here")
    invoker = ScriptedInvoker(store=here)
    small, large = b"small", os.urandom(6_000_000)
    here.put("partials/run/2", b"at home")
    for key, blob in (("partials/run/0", small), ("partials/run/1", large)):
        there.put(key, seal.sealed(KEY, key, blob))
    bodies = [Body(key=f"partials/run/{index}", size=1, store=there.url) for index in range(2)]
    at_home = replace(bodies[0], key="partials/run/2", store=here.url)
    merge = Merge(RunSpace("run", KEY, "session"), divided(3, 1)[0])
    request = Encoder().request(Call("merge", merge, [[*bodies, at_home]]), invoker, 1)
    first, second, third = request.bodies
    assert (first.inline, third) == (small, at_home)
    assert second.inline is None
    assert seal.opened(KEY, second.key, here.get(second.key)) == large


class Bomb:
    """What a pickle can do: it runs code where it is read."""

    def __reduce__(self):
        return os.putenv, ("DRL_BOMB", "exploded")


def forged(_, __):
    """What anybody who may write into the bucket can put there."""
    return wire.dumps(Bomb())


def swapped(store, key):
    """The partial result of another range of the same run."""
    return next(store.get(other) for other in store.keys("results/") if other != key)


def of_another_user(store, key):
    """A partial result that is right, but for the key of its seal."""
    return seal.sealed(KEY, key, store.get(key)[32:])


@pytest.mark.parametrize("attack", [forged, swapped, of_another_user])
@pytest.mark.parametrize("merge_on", ["lambda", "cluster"])
def test_who_writes_into_the_bucket_changes_no_count(two_places, events_file, attack, merge_on, monkeypatch):
    """What was put in the place of a partial result is an error, and no code, wherever it is merged."""
    executor, (invoker, _) = two_places[0], two_places[1].values()
    loaded, original = [], wire.loads
    monkeypatch.setattr(wire, "loads", lambda blob: loaded.append(bytes(blob)) or original(blob))

    def replace_the_first():
        keys = list(invoker.store.keys("results/"))
        if len(keys) == 2 and len(invoker.requests) == 2:
            content = attack(invoker.store, keys[0])
            invoker.store.delete([keys[0]])
            invoker.store.put(keys[0], content)

    invoker.then = replace_the_first
    settings = {"dask-root-lambda.merge-on": merge_on, "dask-root-lambda.fan-in": 2}
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        (worker,) = cluster.workers.values()
        client.sync(worker.plugin_add, plugin=LambdaPlugin(executor=executor))
        frame = RDataFrame("Events", events_file, npartitions=2).Define("r", "std::sin(x * 12345.678)")
        histogram = frame.Histo1D(("h", "", 5000, -1, 1), "r", "r")
        with pytest.raises(DamagedBlobError, match="is not what this run put there"):
            histogram.compute()
        assert len(list(invoker.store.keys("results/"))) == 2
        # The next try computes anew what was damaged.
        assert histogram.compute().GetEntries() == 1000
    assert wire.dumps(Bomb()) not in loaded


def test_what_is_gone_from_the_store_is_computed_again(two_places, events_file):
    """Somebody has deleted a partial result: the user gets the histogram all the same."""
    executor, (invoker, _) = two_places[0], two_places[1].values()

    def delete_the_first():
        if len(invoker.requests) == 4:
            invoker.store.delete([next(iter(invoker.store.keys("results/")))])

    invoker.then = delete_the_first
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        (worker,) = cluster.workers.values()
        client.sync(worker.plugin_add, plugin=LambdaPlugin(executor=executor))
        frame = RDataFrame("Events", events_file, npartitions=4).Define("r", "std::sin(x * 2345.678)")
        histogram = frame.Histo1D(("h", "", 5000, -1, 1), "r", "r")
        assert histogram.GetValue().GetEntries() == 1000
    assert len(invoker.requests) <= 8


class _Unlisted(MemoryStore):
    """A store that nobody is to ask what it has."""

    def keys(self, prefix=""):
        raise AssertionError(f"asked for {prefix}")


class TestSessions:
    """Who may take what of the partial results of one run, and who deletes it."""

    @pytest.fixture
    def invoker(self):
        return ScriptedInvoker()

    def call(self, session, *adopted, run="run"):
        mapper = PackedMapper(RunSpace(run, KEY, session, adopted), b"blob", "digest", divided(1, 1))
        return Call("range-0", mapper.ranges[0], [mapper])

    def put(self, invoker, key):
        invoker.store.put(key, seal.sealed(KEY, key, b"a partial result"))

    def test_nobody_takes_what_another_may_still_use(self, invoker):
        """Two clients with the same analysis compute it twice; one does not lose what the other deletes."""
        mine, others = self.call("mine"), self.call("others")
        self.put(invoker, "partials/run/others/0-1")
        assert Encoder().left_over(mine, invoker) is None
        assert Encoder().left_over(others, invoker).key == "partials/run/others/0-1"

    def test_a_session_that_has_ended_can_be_adopted(self, invoker):
        """Who has adopted it takes what it left."""
        self.put(invoker, "partials/run/dead/0-1")
        assert Encoder().left_over(self.call("mine", "dead"), invoker).key == "partials/run/dead/0-1"

    def test_each_deletes_its_own(self, invoker):
        """What is done with deletes what it wrote and what it adopted, and nothing else of the run."""
        for session in ("mine", "dead", "others"):
            self.put(invoker, f"partials/run/{session}/0-1")
        encoder, space = Encoder(), self.call("mine", "dead").space
        encoder.begin_forgetting(space)
        encoder.forget(space, [invoker.store])
        assert list(invoker.store.keys()) == ["partials/run/others/0-1"]

    def test_a_new_session_asks_no_store_in_vain(self, invoker):
        """Neither before its first range nor at its end, where all its results came with the answers."""
        call = self.new_call()
        encoder, store = Encoder(), _Unlisted()
        invoker.store = store
        assert encoder.left_over(call, invoker) is None
        encoder.request(call, invoker, 1)
        encoder.answered(call, Body.of(b"a result"))
        encoder.begin_forgetting(call.space)
        encoder.forget(call.space, [store])

    @pytest.mark.parametrize("answer", [None, Body(key="partials/run/mine/0-1")])
    def test_what_may_lie_in_the_store_is_deleted_and_taken(self, invoker, answer):
        """A function that was not heard of may have put its result there, as one with a large one has."""
        call, encoder = self.new_call(), Encoder()
        assert encoder.left_over(call, invoker) is None
        encoder.request(call, invoker, 1)
        if answer is not None:
            encoder.answered(call, answer)
        self.put(invoker, "partials/run/mine/0-1")
        encoder.look_again(call.space)
        assert encoder.left_over(call, invoker).key == "partials/run/mine/0-1"
        encoder.begin_forgetting(call.space)
        encoder.forget(call.space, [invoker.store])
        assert not list(invoker.store.keys())

    def test_another_process_asks_the_store(self, invoker):
        """A gateway of its own, or one that was restarted, does not know what came before it."""
        call = self.new_call(process="another")
        self.put(invoker, "partials/run/mine/0-1")
        assert Encoder().left_over(call, invoker).key == "partials/run/mine/0-1"

    def new_call(self, process=None):
        space = RunSpace("run", KEY, "mine", new_in=process or process_name())
        mapper = PackedMapper(space, b"blob", "digest", divided(1, 1))
        return Call("range-0", mapper.ranges[0], [mapper])

    def test_a_request_says_where_its_result_goes(self, invoker):
        """Into the client's own session, under the interval; the key of the seal is in the request alone."""
        request = Encoder().request(self.call("mine", "dead"), invoker, 1)
        assert request.result_key == "partials/run/mine/0-1"
        assert request.seal_key == KEY
        assert KEY not in b"".join(map(invoker.store.get, invoker.store.keys()))
