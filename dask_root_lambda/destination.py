"""Where a graph that is made now is going to run, as far as Dask tells before it is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from distributed import Client

from dask_root_lambda.gateway import EXECUTOR


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
    return sum(client.ncores().values()) or 1


def _reports(client: Client) -> list[Mapping[str, Any]]:
    """Return what the workers of a cluster said last of their executors; see `LambdaPlugin`."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    reports = ((worker.get("metrics") or {}).get(EXECUTOR) for worker in workers)
    return [each for each in reports if each]
