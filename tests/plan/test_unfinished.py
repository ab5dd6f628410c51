"""Runs that are not done: their division, and whose partial results may be taken, across real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from dask_root_lambda import state_home
from dask_root_lambda.plan import unfinished
from dask_root_lambda.plan.secret import Secret
from dask_root_lambda.protocol.intervals import divided
from dask_root_lambda.protocol.task import session as process_name

SECRET = Secret(b"s" * 32)
RUN = SECRET.run("graph and files")

OTHER = """
import sys
from dask_root_lambda.plan import unfinished
from dask_root_lambda.plan.secret import Secret
space = unfinished.begin(Secret(b"s" * 32), sys.argv[1], "client")
print(space.session, *space.adopted, flush=True)
for line in sys.stdin:
    if line.strip() == "done":
        unfinished.end(space)
        print("ended", flush=True)
"""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A state directory of this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield
    for held in unfinished._held.values():
        os.close(held.descriptor)
    unfinished._held.clear()


@contextmanager
def other_process():
    """A process that is at work on the run; its session, what it has adopted, and how to talk to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        session, *adopted = process.stdout.readline().split()
        yield session, adopted, process
    finally:
        process.kill()
        process.communicate(timeout=30)


def begin(worker="client", alive=lambda: True):
    return unfinished.begin(SECRET, RUN, worker, alive)


def end_of(process):
    process.kill()
    process.wait(30)


def test_what_somebody_is_at_work_on_is_not_taken():
    """Two processes with the same run have a session each, with different places and the same key."""
    with other_process() as (session, adopted, _):
        mine = begin()
        assert (mine.adopted, adopted) == ((), [])
        assert mine.session != session
        assert mine.place(divided(1, 1)[0]) == f"partials/{RUN}/{mine.session}/0-1"


def test_what_a_process_left_that_was_killed_is_taken_by_one():
    """The first that comes afterwards has it, and nobody else, for as long as it is at work."""
    with other_process() as (session, _, process):
        end_of(process)
        assert begin().adopted == (session,)
        with other_process() as (_, adopted, _):
            assert adopted == []
        assert session in begin().adopted


def test_what_is_done_is_left_to_nobody():
    """A run that succeeded leaves no session behind, and no directory."""
    with other_process() as (_, _, process):
        process.stdin.write("done\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ended\n"
    assert not list((state_home.home() / "runs").iterdir())
    assert begin().adopted == ()


def test_a_session_goes_on_in_its_process():
    """The next try of the same client has the same session, and what it adopted."""
    with other_process() as (session, _, process):
        end_of(process)
        first = begin()
    assert begin() == first
    unfinished.end(first)
    assert begin().adopted == ()
    assert session


def test_a_session_is_new_once():
    """Its first try has left nothing yet. What is adopted, or tried again, may be in the stores."""
    assert begin().new_in == process_name()
    assert begin().new_in == ""
    with other_process() as (_, _, process):
        end_of(process)
        assert begin("another").new_in == ""


def test_a_client_that_is_closed_leaves_its_session():
    """In one process, too: another cluster takes what the one before has left, while that is open not."""
    open_ = [True]
    first = begin("first client", lambda: open_[0])
    assert begin("second client").adopted == ()
    open_.clear()
    open_.append(False)
    assert begin("second client").adopted == (first.session,)
    assert begin("third client").adopted == ()


def test_sessions_of_closed_clients_take_no_descriptors():
    """Of a hundred runs that failed nothing stays open; what they left can still be taken."""
    runs = [SECRET.run(f"graph {number}") for number in range(100)]
    left = [unfinished.begin(SECRET, run, "client", lambda: False) for run in runs]
    begin()
    assert [path.parent.name for path in unfinished._held] == [RUN]
    assert unfinished.begin(SECRET, runs[0], "another", lambda: True).adopted == (left[0].session,)


def test_a_division_is_decided_once():
    """The next try is divided as the first one was, in any process, until the run is done."""
    space = begin()
    assert unfinished.division(SECRET, RUN, lambda: divided(7, 3)) == divided(7, 3)
    assert unfinished.division(SECRET, RUN, lambda: divided(7, 4)) == divided(7, 3)
    unfinished.end(space)
    assert unfinished.division(SECRET, RUN, lambda: divided(7, 4)) == divided(7, 4)


def test_a_division_that_cannot_be_read_is_decided_again():
    """A file that was cut short is no reason to fail."""
    unfinished.division(SECRET, RUN, lambda: divided(7, 3))
    next((state_home.home() / "runs" / RUN).glob("*.json")).write_text('["0-7_')
    assert unfinished.division(SECRET, RUN, lambda: divided(7, 4)) == divided(7, 4)


def test_without_a_secret_nothing_is_kept():
    """Nothing can be taken by another process then, and the space says why."""
    lost = Secret(b"l" * 32, "the disk is full")
    space = unfinished.begin(lost, RUN, "client")
    assert (space.not_reused, space.adopted) == ("the disk is full", ())
    assert unfinished.division(lost, RUN, lambda: divided(7, 3)) == divided(7, 3)
    assert not (state_home.home() / "runs").exists()


def test_runs_that_nobody_came_back_to_are_forgotten():
    """What is older than what stores keep goes; the state directory does not fill."""
    old = state_home.home() / "runs" / "old"
    old.mkdir(parents=True)
    (old / "dead.session").touch()
    long_ago_s = time.time() - 40 * 86_400
    os.utime(old, (long_ago_s, long_ago_s))
    begin()
    assert [path.name for path in old.parent.iterdir()] == [RUN]
