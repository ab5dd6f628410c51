"""Where a graph that is made now is going to run, as far as Dask tells before it is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from distributed import Client, Scheduler, Worker

from dask_root_lambda.dashboard.feed import METRIC
from dask_root_lambda.protocol.errors import ConfigurationError


def current_client() -> Client | None:
    """Return Dask's current client, which computes where nothing else is asked for; None if there is none."""
    try:
        client: Client = Client.current()
    except ValueError:
        return None
    return client


def has_executor(client: Client) -> bool:
    """Tell whether workers of a client's cluster have the executor."""
    return bool(_reports(client))


def slots(client: Client | None) -> int:
    """Return how many ranges run at once on a client's cluster; without one, on this machine."""
    if client is None:
        return os.cpu_count() or 1
    reports = _reports(client)
    if reports:
        return sum(int(each["concurrency"]) for each in reports) or 1
    return sum(int(worker["nthreads"]) for worker in _workers(client)) or 1


def _reports(client: Client) -> list[Mapping[str, Any]]:
    """Return what the workers of a cluster say of their executors; see `LambdaPlugin`.

    Workers of this process are asked. What others said last came with a heartbeat; of a worker that has just
    begun there may be none, as compiling holds up the event loop.
    """
    ours = getattr(client.cluster, "workers", None)
    here = [worker for worker in dict(ours or {}).values() if isinstance(worker, Worker)]
    if here:
        return [worker.metrics[METRIC](worker) for worker in here if METRIC in worker.metrics]
    reports = ((worker.get("metrics") or {}).get(METRIC) for worker in _workers(client))
    return [each for each in reports if each]


def _workers(client: Client) -> list[Mapping[str, Any]]:
    """Return what the scheduler of a cluster knows of its workers, without waiting for the event loop."""
    if not client.asynchronous:
        return list(client.scheduler_info(n_workers=-1)["workers"].values())
    scheduler = getattr(client.cluster, "scheduler", None)
    if isinstance(scheduler, Scheduler):
        return list(scheduler.identity()["workers"].values())
    if client.scheduler is None:
        raise ConfigurationError("the client is asynchronous and not connected yet: `await client` first")
    # Booking cannot await: another client, which has a loop of its own, asks the scheduler in its process.
    address, security = client.scheduler.address, client.security
    with Client(address, security=security, set_as_default=False, asynchronous=False) as other:
        return list(other.scheduler_info(n_workers=-1)["workers"].values())
