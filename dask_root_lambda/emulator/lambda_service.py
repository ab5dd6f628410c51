"""The Lambda service: from a request on the endpoint to an operation, and back."""

from __future__ import annotations

import json
import logging
import random
import uuid
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from dask_root_lambda.emulator.concurrency import Concurrency
from dask_root_lambda.emulator.control import FunctionControl
from dask_root_lambda.emulator.destinations import Destinations
from dask_root_lambda.emulator.endpoint import Exchange, Response
from dask_root_lambda.emulator.errors import ApiError, NotEmulatedError
from dask_root_lambda.emulator.event_queue import EventQueue
from dask_root_lambda.emulator.faults import FaultTable
from dask_root_lambda.emulator.fleet import Fleet
from dask_root_lambda.emulator.functions import FunctionVersion, settle
from dask_root_lambda.emulator.host import Platform
from dask_root_lambda.emulator.invoke import Invoker
from dask_root_lambda.emulator.operations import Operation
from dask_root_lambda.emulator.outcomes import Ending
from dask_root_lambda.emulator.packages import PackageStore
from dask_root_lambda.emulator.registry import Registry, parse_name
from dask_root_lambda.emulator.routes import read_call
from dask_root_lambda.emulator.runner import Runner
from dask_root_lambda.emulator.settings import SettingsControl
from dask_root_lambda.emulator.settling import Settling
from dask_root_lambda.emulator.snapshots import Snapshots, reason_of_failure
from dask_root_lambda.emulator.validation import check_parameters
from dask_root_lambda.emulator.versions import VersionControl

logger = logging.getLogger(__name__)

_INVOKE_START = "/2015-03-31/functions/"
_INVOKE_END = "/invocations"


class LambdaService:
    """Functions of one account and region, and their environments.

    Parameters
    ----------
    platform
        What environments share.
    packages
        The functions' code.
    faults
        What happens to invocations.
    """

    def __init__(self, platform: Platform, packages: PackageStore, faults: FaultTable) -> None:
        self._platform = platform
        options = platform.options
        registry = Registry(options.region, options.account_id, random.Random(options.seed))  # noqa: S311 - no secret
        self._registry = registry
        self._snapshots = Snapshots(platform)
        self.fleet = Fleet(platform, self._snapshots)
        """The environments."""
        self.concurrency = Concurrency(options.account_concurrency)
        """The limits."""
        runner = Runner(self.fleet, self.concurrency, platform.clock)
        self._destinations = Destinations(platform, self._submit)
        self._events = EventQueue(
            registry, runner, self.concurrency, self._destinations, platform.clock, faults
        )
        self._invoker = Invoker(registry, runner, self._events, faults, options.stop_on_disconnect)
        platform.clock.is_quiet = self._is_quiet
        settling = Settling(platform.clock, options.settle_s)
        versions = VersionControl(registry, self._take_snapshot)
        control = FunctionControl(registry, self.fleet, self.concurrency, packages, versions, settling)
        self._operations: dict[str, Operation] = {
            **control.operations(),
            **versions.operations(),
            **SettingsControl(registry, self.concurrency).operations(),
        }

    def handle(self, exchange: Exchange) -> None:
        """Answer a request for Lambda."""
        try:
            path = exchange.request.path
            # The common case first: finding a route takes longer than all the rest.
            if (
                path.startswith(_INVOKE_START)
                and path.endswith(_INVOKE_END)
                and exchange.request.method == "POST"
            ):
                self._invoker.handle(exchange, unquote(path[len(_INVOKE_START) : -len(_INVOKE_END)]))
            else:
                exchange.respond(self._operate(exchange))
        except ApiError as error:
            exchange.respond(error.response(str(uuid.uuid4())))
        except Exception:
            logger.exception(
                "%s %s failed inside the emulator", exchange.request.method, exchange.request.target
            )
            exchange.respond(ApiError("the emulator failed; see its log").response(str(uuid.uuid4())))

    @property
    def limited_tmp(self) -> bool:
        """Whether the size of environments' temporary files is limited on this machine."""
        return self._platform.processes.limited_tmp

    def statements(self, arn: str) -> Iterable[Mapping[str, Any]]:
        """Find the statements of a function's own policy."""
        reference = parse_name(arn)
        function = self._registry.functions.get(reference.name)
        return () if function is None else function.policies.get(reference.qualifier or "", {}).values()

    def close(self) -> None:
        """End what runs."""
        self._invoker.close()
        self._events.close()
        self._destinations.close()
        self.fleet.close()
        self._snapshots.close()

    def _take_snapshot(self, version: FunctionVersion) -> None:
        """Initialise a new version that has SnapStart; it is pending until that is done."""
        if version.state == "Pending":
            self._snapshots.prepare(version, lambda ending: self._settle_version(version, ending))

    def _settle_version(self, version: FunctionVersion, ending: Ending) -> None:
        function = self._registry.functions.get(version.name)
        if function is not None and version.version in function.versions:
            function.versions[version.version] = settle(version, *reason_of_failure(ending))

    def _submit(self, arn: str, payload: bytes) -> None:
        """Take an event for the function that is another one's destination."""
        self._invoker.submit(arn, payload)

    def _is_quiet(self) -> bool:
        return not self.concurrency.total and not self._events.busy

    def _operate(self, exchange: Exchange) -> Response:
        call = read_call(exchange.request)
        operation = self._operations.get(call.route.operation)
        if operation is None:
            emulated = ", ".join(["Invoke", *self._operations])
            raise NotEmulatedError(f"{call.route.operation} is not emulated. Emulated are: {emulated}.")
        check_parameters(call.route.operation, call.parameters)
        document = operation(call.parameters)
        headers = (("Content-Type", "application/json"), ("x-amzn-RequestId", str(uuid.uuid4())))
        body = b"" if call.route.status == 204 else json.dumps(document).encode()
        return Response(call.route.status, headers, body)
