"""Invocations per second of one client, against a stub that answers at once.

Target: at least 500/s from the executor alone, and 350/s through Dask (tasks annotated with
``executor="lambda"`` on a `LambdaCluster`); of the rate of bare boto3 at least 0.95, and 0.60.

A stub server in a process of its own answers over TLS, so the client has one core of two, and its GIL is
what limits it. Three things take turns, several times: bare boto3 in as many threads (what the machine
gives at best), the executor, and Dask; the figures are medians. Noise: what else runs on the machine takes
a third easily; the CPU time per invocation and the ratio to bare boto3 move less.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import dask
from botocore.config import Config

from benchmarks.figures import Figure, run
from benchmarks.stub import StubServer, serving
from dask_root_lambda import LambdaCluster, LambdaExecutor
from dask_root_lambda.config import Settings

_PAYLOAD = b'{"as long as":"%s"}' % (b"a call of the executor " * 11)


@dataclass(frozen=True)
class _Timing:
    """One repetition of one client."""

    per_s: float
    cpu_ms: float
    """CPU time of this process per invocation."""


def measure(*, invocations: int = 2000, concurrency: int = 16, repetitions: int = 5) -> list[Figure]:
    """Measure all three, in turns.

    Parameters
    ----------
    invocations
        Of each client in each repetition.
    concurrency
        In flight at most.
    repetitions
        Of which the median counts.
    """
    with serving() as server, ExitStack() as stack:
        clients = {
            "bare boto3": stack.enter_context(_boto3(server, concurrency)),
            "executor": stack.enter_context(_executor(server, concurrency)),
            "Dask": stack.enter_context(_dask(server, concurrency)),
        }
        for invoke in clients.values():
            invoke(10 * concurrency)
        before = server.statistics().invocations
        timings = [
            {name: _timed(invoke, invocations) for name, invoke in clients.items()}
            for _ in range(repetitions)
        ]
        assert server.statistics().invocations - before == len(clients) * invocations * repetitions
    return _figures(timings)


def _figures(timings: list[dict[str, _Timing]]) -> list[Figure]:
    targets = {"executor": (500.0, 0.95), "Dask": (350.0, 0.60), "bare boto3": (None, None)}
    figures = []
    for name, (target, target_ratio) in targets.items():
        rates = [each[name].per_s for each in timings]
        ratio = statistics.median(each[name].per_s / each["bare boto3"].per_s for each in timings)
        cpu_ms = statistics.median(each[name].cpu_ms for each in timings)
        figures += [
            Figure(
                "rate", f"invocations per second, {name}", statistics.median(rates), "/s", at_least=target
            ),
            Figure("rate", f"the same, best of {len(timings)}", max(rates), "/s"),
            Figure("rate", f"CPU of the client per invocation, {name}", cpu_ms, "ms"),
        ]
        if target_ratio:
            figures.append(Figure("rate", f"rate, {name} / bare boto3", ratio, at_least=target_ratio))
    return figures


def _timed(invoke: Callable[[int], None], invocations: int) -> _Timing:
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    invoke(invocations)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return _Timing(invocations / wall_s, 1e3 * cpu_s / invocations)


@contextmanager
def _boto3(server: StubServer, concurrency: int) -> Iterator[Callable[[int], None]]:
    config = Config(
        max_pool_connections=concurrency, retries={"total_max_attempts": 1}, parameter_validation=False
    )
    region = os.environ["AWS_REGION"]
    client = boto3.client("lambda", region_name=region, endpoint_url=server.endpoint, config=config)

    def invoke(_: int) -> None:
        client.invoke(FunctionName="stub", Payload=_PAYLOAD, LogType="Tail")["Payload"].read()

    with ThreadPoolExecutor(concurrency) as pool:
        yield lambda n: list(pool.map(invoke, range(n))).clear()
    client.close()


@contextmanager
def _executor(server: StubServer, concurrency: int) -> Iterator[Callable[[int], None]]:
    settings = Settings.resolve(
        execution="lambda", concurrency=concurrency, function="f", endpoint_url=server.endpoint
    )
    with LambdaExecutor(settings=settings) as executor:
        yield lambda n: list(executor.map(abs, range(n))).clear()


@contextmanager
def _dask(server: StubServer, concurrency: int) -> Iterator[Callable[[int], None]]:
    options: dict[str, Any] = {"concurrency": concurrency, "function": "f", "endpoint_url": server.endpoint}
    cluster = LambdaCluster(execution="lambda", progress=False, dashboard_address=None, **options)
    with cluster, cluster.get_client() as client:

        def invoke(n: int) -> None:
            with dask.annotate(executor="lambda"):
                tasks = [dask.delayed(abs, pure=False)(index) for index in range(n)]
            client.gather(client.compute(tasks, optimize_graph=False))

        yield invoke


if __name__ == "__main__":
    run(measure, __doc__)
