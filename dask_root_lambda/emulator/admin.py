"""What can be told to a running emulator, beside the AWS API: under ``/_emulator/``, where no bucket can be.

``GET state`` tells what runs; ``POST advance {"seconds": 60}`` lets time pass on a virtual clock;
``PUT faults {"lambda": [...], "s3": [...]}`` replaces the table of faults.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dask_root_lambda.emulator.clock import Clock
from dask_root_lambda.emulator.endpoint import Exchange, Response
from dask_root_lambda.emulator.faults import FaultTable, read_faults
from dask_root_lambda.emulator.lambda_service import LambdaService

PREFIX = "/_emulator/"


class Admin:
    """Answers requests about the emulator itself.

    Parameters
    ----------
    functions
        What runs.
    clock
        What passes.
    faults
        What goes wrong.
    """

    def __init__(self, functions: LambdaService, clock: Clock, faults: FaultTable) -> None:
        self._faults = faults
        self._functions = functions
        self._clock = clock
        self._calls: dict[tuple[str, str], Callable[[Any], Any]] = {
            ("GET", "state"): lambda _: self.state(),
            ("POST", "advance"): self._advance,
            ("PUT", "faults"): self._set_faults,
        }

    def handle(self, exchange: Exchange) -> None:
        """Answer a request."""
        request = exchange.request
        call = self._calls.get((request.method, request.path.removeprefix(PREFIX)))
        if call is None:
            known = ", ".join(f"{method} {PREFIX}{name}" for method, name in self._calls)
            exchange.respond(_json(404, {"error": f"no such call; there are: {known}"}))
            return
        try:
            exchange.respond(_json(200, call(json.loads(request.body or b"{}"))))
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            exchange.respond(_json(400, {"error": f"{type(error).__name__}: {error}"}))

    def state(self) -> dict[str, Any]:
        """Tell what runs at the moment."""
        return {
            "environments": self._functions.fleet.total,
            "running": self._functions.concurrency.total,
            "time_s": self._clock.now_s(),
            "limited_tmp": self._functions.limited_tmp,
        }

    def _set_faults(self, document: dict[str, Any]) -> dict[str, Any]:
        self._faults.replace(read_faults(document))
        return self.state()

    def _advance(self, document: dict[str, Any]) -> dict[str, Any]:
        self._clock.advance(float(document["seconds"]))
        return self.state()


def _json(status: int, document: Any) -> Response:
    return Response(status, (("Content-Type", "application/json"),), json.dumps(document).encode())
