"""Thousands of invocations in flight at once from one client, over TLS.

Target: 3,000 at once against a function that takes 20 s, with less than 500 MB of client memory.

One `LambdaExecutor` invokes a stub server that answers after the time given; the server counts what is in
flight, and that peak has to be all of them: each connection is open, and each request received, before the
first answer is sent. The memory is the peak of this process's resident set (``VmHWM`` of Linux), without
ROOT, which the executor does not need. Noise: little in memory; the time to start them all depends on
what else runs, and has to stay below the time that the function takes: else the peak is missed.
"""

from __future__ import annotations

import time
from concurrent.futures import wait

from benchmarks import memory
from benchmarks.figures import Figure, run
from benchmarks.stub import serving
from dask_root_lambda import LambdaExecutor
from dask_root_lambda.config import Settings

_MARGIN_S = 60.0
"""Longer than the function takes, an invocation that is not answered is an error."""


def measure(*, invocations: int = 3000, seconds: float = 20.0) -> list[Figure]:
    """Have ``invocations`` of a function in flight that takes ``seconds``."""
    with serving(delay_s=seconds) as server:
        settings = Settings.resolve(
            execution="lambda", concurrency=invocations, function="f", endpoint_url=server.endpoint
        )
        with LambdaExecutor(settings=settings) as executor:
            idle_mb = memory.peak_mb()
            began_s = time.monotonic()
            futures = [executor.submit(abs, index) for index in range(invocations)]
            done, late = wait(futures, seconds + _MARGIN_S)
            wall_s = time.monotonic() - began_s
            assert not late, f"{len(late)} invocations were not answered"
            # Raises what one of them raised.
            assert {future.result() for future in done} == {None}
        seen = server.statistics()
    assert seen.invocations == invocations, seen
    memory_mb = memory.peak_mb()
    return [
        Figure("fleet", "peak of invocations in flight at once", seen.peak, at_least=invocations),
        Figure("fleet", "peak memory of the client", memory_mb, "MB", at_most=500),
        Figure("fleet", "memory per invocation in flight", 1e3 * (memory_mb - idle_mb) / invocations, "kB"),
        Figure("fleet", "time until all were in flight", seen.peak_after_s, "s"),
        Figure("fleet", "wall time beyond the function's own", wall_s - seconds, "s"),
    ]


if __name__ == "__main__":
    run(measure, __doc__)
