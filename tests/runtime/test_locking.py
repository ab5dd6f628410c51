"""The lock lets many run together, and one compile alone, first."""

from __future__ import annotations

import threading

import pytest

from lambda_runtime.locking import SharedLock

TIMEOUT_S = 20


def start(target):
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def test_many_share_it():
    """Several threads hold the lock at the same time."""
    lock, together = SharedLock(), threading.Barrier(4)

    def share():
        with lock.shared():
            together.wait(TIMEOUT_S)

    threads = [start(share) for _ in range(4)]
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert not together.broken


def test_one_has_it_alone():
    """While one holds it alone, nobody else is inside, and counts are exact."""
    lock, inside, worst = SharedLock(), [0], [0]

    def work(index):
        for _ in range(100):
            if index % 2:
                with lock.alone():
                    inside[0] += 1
                    worst[0] = max(worst[0], inside[0])
                    inside[0] -= 1
            else:
                with lock.shared():
                    assert inside[0] == 0

    threads = [start(lambda index=index: work(index)) for index in range(6)]
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
    assert worst[0] == 1


def test_who_wants_it_alone_goes_first():
    """A thread that would share waits for one that came before it and wants the lock alone."""
    lock, order = SharedLock(), []
    holding, release = threading.Event(), threading.Event()

    def hold():
        with lock.shared():
            holding.set()
            release.wait(TIMEOUT_S)

    def compile_():
        with lock.alone():
            order.append("alone")

    def run():
        with lock.shared():
            order.append("shared")

    first = start(hold)
    assert holding.wait(TIMEOUT_S)
    second = start(compile_)
    while not lock._wanting:
        pass
    third = start(run)
    release.set()
    for thread in (first, second, third):
        thread.join(TIMEOUT_S)
    assert order == ["alone", "shared"]


def test_an_exception_gives_it_back():
    """Whoever fails inside does not keep the lock."""
    lock = SharedLock()
    for hold in (lock.shared, lock.alone):
        with pytest.raises(ZeroDivisionError), hold():
            raise ZeroDivisionError
    with lock.alone():
        pass


@pytest.mark.parametrize("held", ["shared", "alone"])
def test_who_waits_too_long_gives_up(held):
    """The error is a TimeoutError, and those who come later need not wait for who gave up."""
    lock = SharedLock()
    with getattr(lock, held)():
        with pytest.raises(TimeoutError), lock.alone(0.01):
            pass
        if held == "shared":
            with lock.shared(TIMEOUT_S):
                pass
    with lock.alone(TIMEOUT_S):
        pass
