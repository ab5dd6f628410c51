"""What a process does once, or first in one thread alone."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lambda_runtime import once
from lambda_runtime.once import alone_at_first

N = 6


@pytest.fixture
def what(request):
    """A block that nobody has entered."""
    yield request.node.name
    once._begun.discard(request.node.name)


def test_the_first_is_alone(what):
    """The others wait for it, also where it fails; then they enter side by side."""
    inside, most, all_in, lock = [], [], threading.Barrier(N - 1, timeout=30), threading.Lock()

    def enter(_):
        with alone_at_first(what):
            with lock:
                is_first = not most
                inside.append(1)
                most.append(len(inside))
            if is_first:
                inside.pop()
                raise ValueError("of the first")
            all_in.wait()
            with lock:
                inside.pop()

    with ThreadPoolExecutor(N) as pool:
        errors = [future.exception(60) for future in [pool.submit(enter, each) for each in range(N)]]
    assert [str(error) for error in errors if error] == ["of the first"]
    assert most[0] == 1
    assert max(most) == N - 1


def test_a_fork_does_not_wait_for_another_threads_lock(what):
    """A child goes on, although a thread that it does not have was in the block."""
    entered, leave = threading.Event(), threading.Event()

    def stay():
        with alone_at_first(what):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=stay)
    thread.start()
    assert entered.wait(30)
    child = os.fork()
    if child == 0:
        with alone_at_first(what):
            os._exit(7)
    _, status = os.waitpid(child, 0)
    leave.set()
    thread.join(30)
    assert os.waitstatus_to_exitcode(status) == 7
