"""The clock: real time passes, virtual time jumps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dask_root_lambda.emulator.clock import Clock

pytestmark = pytest.mark.timeout(30)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def test_timers_ring_in_their_order() -> None:
    """Callbacks come when they are due, and not after being cancelled."""

    async def test() -> None:
        clock, rung = Clock(), []
        clock.call_later(0.03, lambda: rung.append("second"))
        clock.call_later(0.01, lambda: rung.append("first"))
        clock.call_later(0.02, lambda: rung.append("never")).cancel()
        while len(rung) < 2:
            await asyncio.sleep(0.005)
        assert rung == ["first", "second"]

    run(test)


def test_a_real_clock_cannot_be_advanced() -> None:
    """Only a virtual clock skips time."""

    async def test() -> None:
        with pytest.raises(RuntimeError, match="virtual_clock=True"):
            Clock().advance(1)

    run(test)


def test_advancing_calls_what_is_due() -> None:
    """advance() moves both times on and calls what lies in between, at once."""

    async def test() -> None:
        clock, rung = Clock(virtual=True), []
        before_s, monotonic_s = clock.now_s(), clock.monotonic_s()
        clock.call_later(60, lambda: rung.append("minute"))
        clock.call_later(3600, lambda: rung.append("hour"))
        clock.advance(61)
        assert rung == ["minute"]
        assert clock.now_s() - before_s >= 61
        assert clock.monotonic_s() - monotonic_s >= 61
        with pytest.raises(ValueError, match="back"):
            clock.advance(-1)

    run(test)


def test_a_virtual_clock_jumps_when_nothing_runs() -> None:
    """A timer that skips rings at once while all is quiet, and not before; others wait."""

    async def test() -> None:
        clock, rung = Clock(virtual=True), []
        quiet = False
        clock.is_quiet = lambda: quiet
        clock.call_later(60, lambda: rung.append("retry"), skips=True)
        clock.call_later(90, lambda: rung.append("idle"))
        await asyncio.sleep(0.02)
        assert rung == []
        quiet = True
        clock.work_ended()
        begun_s = time.monotonic()
        while not rung:
            await asyncio.sleep(0.001)
        assert rung == ["retry"]
        assert time.monotonic() - begun_s < 5

    run(test)
