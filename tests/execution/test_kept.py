"""Partial results on disk: found by the next try, of whatever process, and by nobody else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import Mock

import pytest

from dask_root_lambda.execution.batches import Batches
from dask_root_lambda.execution.kept import Kept
from dask_root_lambda.plan import unfinished
from dask_root_lambda.plan.secret import Secret
from dask_root_lambda.protocol.errors import StoreError
from dask_root_lambda.protocol.intervals import divided
from dask_root_lambda.protocol.seal import KEY_BYTES
from dask_root_lambda.protocol.store import DirectoryStore, MemoryStore

from ..emulator.clouds import wait_until
from ..invokers import Gate, ScriptedInvoker, packed_mapper, ranges

PARTS = divided(5, 20)
STORE = MemoryStore()


@pytest.fixture
def space(tmp_path, monkeypatch):
    """The space of a run that has begun."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    begun = unfinished.begin(Secret(b"s" * 32), "a" * 32, "client")
    yield begun
    unfinished.end(begun)


def find(kept, space, part, damaged=lambda: None, *, store=STORE):
    return kept.find(space, part, store, frozenset(store.keys()), damaged)


def file_of(space):
    return unfinished.file(space.run, space.session)


def keep(space, parts=PARTS):
    kept = Kept()
    for part in parts:
        kept.add(space, part, f"of {part}".encode(), STORE)
    return kept


def test_what_is_kept_is_found(space):
    """By this process and by the next, each interval as it was, and no other."""
    for kept in (keep(space, PARTS[:7]), Kept()):
        assert [find(kept, space, part) for part in PARTS[:7]] == [
            f"of {part}".encode() for part in PARTS[:7]
        ]
        assert find(kept, space, PARTS[7]) is None


def test_what_is_kept_later_is_found_too(space):
    """Also where somebody has looked before."""
    kept = Kept()
    assert find(kept, space, PARTS[0]) is None
    kept.add(space, PARTS[0], b"here", STORE)
    assert find(kept, space, PARTS[0]) == b"here"


def test_another_session_takes_it_only_if_it_has_adopted_it(space):
    """The file of a session that is at work is not read."""
    keep(space)
    other = replace(space, session="other")
    assert find(Kept(), other, PARTS[0]) is None
    assert find(Kept(), replace(other, adopted=(space.session,)), PARTS[0]) == b"of 0-1_4"


@pytest.mark.parametrize("cut", [1, 10, 45, 60])
def test_a_file_that_was_cut_short(space, cut):
    """All whole records are good; the one that a kill interrupted is computed again."""
    keep(space)
    content = file_of(space).read_bytes()
    file_of(space).write_bytes(content[:-cut])
    kept = Kept()
    assert [find(kept, space, part) is not None for part in PARTS] == [True] * 19 + [False]
    kept.add(space, PARTS[-1], b"again", STORE)
    assert find(kept, space, PARTS[0]) == b"of 0-1_4"


def test_what_was_changed_is_not_taken(space):
    """A byte that another wrote there, and another key, make it nothing."""
    keep(space)
    content = bytearray(file_of(space).read_bytes())
    content[-1] ^= 1
    file_of(space).write_bytes(content)
    damaged = []
    assert find(Kept(), space, PARTS[-1], lambda: damaged.append(PARTS[-1])) is None
    assert damaged == [PARTS[-1]]
    assert find(Kept(), replace(space, key=b"x" * KEY_BYTES), PARTS[0]) is None


def test_many_threads_keep_at_once(space):
    """Records do not mix."""
    kept = Kept()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: kept.add(space, part, str(part).encode() * 5000, STORE), PARTS))
    for each in (kept, Kept()):
        assert all(find(each, space, part) == str(part).encode() * 5000 for part in PARTS)


def test_a_run_that_succeeded_leaves_nothing(space):
    """Its file goes, with those that it adopted."""
    kept = keep(space)
    kept.forget(space)
    assert not file_of(space).exists()
    assert find(kept, space, PARTS[0]) is None


def test_where_nothing_can_be_kept_nothing_is_written(space):
    """No file, and no error; nor where the directory has gone."""
    lost = replace(space, session="lost", not_reused="the disk is full")
    keep(lost)
    assert not file_of(lost).exists()
    keep(replace(space, run="b" * 32))


def test_a_large_run_does_not_fill_the_disk(space, monkeypatch):
    """Beyond a limit, partial results are not kept."""
    monkeypatch.setattr("dask_root_lambda.execution.kept._MOST_BYTES", 1000)
    kept = keep(space)
    assert 0 < file_of(space).stat().st_size <= 1000
    assert find(kept, space, PARTS[-1]) is None


class TestElsewhere:
    """A gateway on another machine than the client's, where there is no directory of the run."""

    @pytest.fixture
    def store(self, tmp_path):
        """A store that both machines reach."""
        return DirectoryStore(tmp_path / "store")

    @pytest.fixture(autouse=True)
    def _elsewhere(self, space, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))

    def test_what_is_kept_is_found_by_the_next_gateway(self, space, store):
        """Many partial results are in one object, below what the run may delete."""
        kept = Kept()
        for part in PARTS[:7]:
            kept.add(space, part, f"of {part}".encode(), store)
        kept.close()
        (key,) = store.keys()
        assert key.startswith(space.prefix)
        found = [find(Kept(), space, part, store=store) for part in PARTS[:8]]
        assert found == [*(f"of {part}".encode() for part in PARTS[:7]), None]

    def test_it_is_there_soon_without_an_end(self, space, store):
        """A gateway that is killed has lost what it got last, and no more."""
        Kept().add(space, PARTS[0], b"here", store)
        wait_until(lambda: list(store.keys()) != [])
        assert find(Kept(), space, PARTS[0], store=store) == b"here"

    def test_large_ones_do_not_wait(self, space, store):
        """They are put before the time is over for which others are collected."""
        kept = Kept()
        kept._batches = Batches(collected_s=3600.0)
        for part in PARTS[:2]:
            kept.add(space, part, bytes(3_000_000), store)
        wait_until(lambda: list(store.keys()) != [])
        kept.add(space, PARTS[2], bytes(3_000_000), store)
        kept.put(space)
        assert len(list(store.keys())) == 2
        assert [find(kept, space, part, store=store) for part in PARTS[:3]] == [bytes(3_000_000)] * 3

    def test_ending_a_task_waits_for_no_store(self, space, store, make_executor, monkeypatch):
        """Tasks are ended on Dask's event loop; the next try puts what was collected, and takes it."""
        gate, running = Gate(), Gate()
        put = store.put
        monkeypatch.setattr(store, "put", lambda key, blob: (gate(), put(key, blob))[1])
        invoker = ScriptedInvoker("lambda", {"range-1": [running]}, store)
        executor, _ = make_executor(concurrency=1, **{"lambda": invoker})
        mapper = replace(packed_mapper("run"), space=space)
        first, _, waiting = ranges(executor, 3, mapper)
        assert first.result(30)
        running.wait_for(1)
        ending = threading.Thread(target=executor.cancel, args=[waiting], daemon=True)
        ending.start()
        ending.join(10)
        assert not ending.is_alive()
        gate.open()
        running.open()
        assert [future.result(30) for future in ranges(executor, 3, mapper)]
        assert [request.task for request in invoker.requests] == ["range-0", "range-1", "range-2"]

    def test_nothing_arrives_after_a_run_is_done(self, space, store):
        """What is still collected then is never put into the store."""
        kept = Kept()
        kept.add(space, PARTS[0], b"here", store)
        kept.forget(space)
        kept.close()
        assert list(store.keys()) == []

    def test_what_somebody_has_changed_is_no_result(self, space, store):
        """It is told, and computed again."""
        kept, damaged = Kept(), []
        kept.add(space, PARTS[0], b"here", store)
        kept.close()
        (key,) = store.keys()
        blob = store.get(key)
        store.delete([key])
        store.put(key, blob[:-1] + b"x")
        assert find(Kept(), space, PARTS[0], lambda: damaged.append(PARTS[0]), store=store) is None
        assert damaged == [PARTS[0]]

    def test_a_store_that_fails_fails_no_run(self, space, store, monkeypatch):
        """What is not kept is computed again, should it come to that."""
        kept = Kept()
        kept.add(space, PARTS[0], b"here", store)
        monkeypatch.setattr(store, "put", Mock(side_effect=StoreError("full")))
        kept.close()
        assert find(Kept(), space, PARTS[0], store=store) is None
