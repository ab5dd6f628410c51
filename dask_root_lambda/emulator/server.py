"""The emulator as a Python object: one endpoint, served from a thread of this process."""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from dask_root_lambda.emulator import warden
from dask_root_lambda.emulator.access import Gate
from dask_root_lambda.emulator.admin import PREFIX as ADMIN_PREFIX
from dask_root_lambda.emulator.admin import Admin
from dask_root_lambda.emulator.clock import Clock
from dask_root_lambda.emulator.credentials import RoleSessions
from dask_root_lambda.emulator.endpoint import Exchange, HttpServer, Response
from dask_root_lambda.emulator.faults import Faults, FaultTable
from dask_root_lambda.emulator.host import Platform
from dask_root_lambda.emulator.images import ContainerImage, find_image
from dask_root_lambda.emulator.lambda_service import LambdaService
from dask_root_lambda.emulator.logs import LogStore
from dask_root_lambda.emulator.memory import MemoryWatch
from dask_root_lambda.emulator.options import Options
from dask_root_lambda.emulator.packages import PackageStore
from dask_root_lambda.emulator.peers import is_of_web_page, is_own
from dask_root_lambda.emulator.processes import Processes
from dask_root_lambda.emulator.routes import is_lambda
from dask_root_lambda.emulator.services import OtherServices

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 30.0

Result = TypeVar("Result")


# Every environment takes a few open files; more than this, or than the user may have, is not asked for.
FILES = 65_536


class Emulator:
    """AWS Lambda, and what moto knows of the rest of AWS, on this machine.

    Parameters
    ----------
    options
        Settings.
    **changes
        Fields of `Options` that differ from ``options``.

    Examples
    --------
    >>> with Emulator(account_concurrency=4) as emulator:  # doctest: +SKIP
    ...     client = boto3.client("lambda", endpoint_url=emulator.endpoint)
    """

    def __init__(self, options: Options | None = None, **changes: Any) -> None:
        self.options = replace(options or Options(), **changes)
        """Its settings."""
        self.endpoint = ""
        """URL of every AWS service, once started."""
        self.access_key_id = ""
        """Of credentials that may do everything, once started. This user's processes may use any
        others, unless ``iam`` is set; nobody else may."""
        self.secret_access_key = ""
        """Belongs to ``access_key_id``."""
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._parts: _Parts | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve in a thread of this process; returns when the endpoint answers.

        Lifts this process's soft limit of open files, as far as its hard limit allows.

        Raises
        ------
        RuntimeError
            If it runs already, or cannot start: the message tells why.
        """
        if self._thread is not None:
            raise RuntimeError("the emulator runs already; stop() it first, or use another one")
        _allow_files()
        self._started.clear()
        self._thread = threading.Thread(target=self._run, name="lambda-emulator", daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise RuntimeError(f"the emulator did not start within {START_TIMEOUT_S:.0f} s")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._thread.join()
            self._thread = None
            where = f"{self.options.host}, port {self.options.port}"
            raise RuntimeError(f"the emulator cannot start on {where}: {failure}") from failure

    def stop(self) -> None:
        """End everything that runs; does nothing if it was stopped before."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(STOP_TIMEOUT_S)
        if thread.is_alive():
            logger.warning("the emulator did not stop within %.0f s", STOP_TIMEOUT_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            # start() raises it, in the thread of its caller.
            self._failure = error
            self._started.set()

    def advance(self, seconds: float) -> None:
        """Let time pass at once: idle environments end, retries are made.

        Parameters
        ----------
        seconds
            How much.

        Raises
        ------
        RuntimeError
            If the emulator does not run, or was started without ``virtual_clock=True``.
        """
        self._call(lambda parts: parts.clock.advance(seconds))

    def set_faults(self, faults: Faults) -> None:
        """Replace the table of faults, and count invocations and requests from 1 again."""
        self._call(lambda parts: parts.faults.replace(faults))

    def state(self) -> dict[str, Any]:
        """Tell what runs: ``environments``, ``running`` (invocations) and ``time_s`` (its clock)."""
        return self._call(lambda parts: parts.admin.state())

    def _call(self, action: Callable[[_Parts], Result]) -> Result:
        """Do something on the event loop's thread."""
        if self._loop is None or self._parts is None:
            raise RuntimeError("the emulator does not run; start() it first")

        async def act(parts: _Parts) -> Result:
            return action(parts)

        return asyncio.run_coroutine_threadsafe(act(self._parts), self._loop).result(CALL_TIMEOUT_S)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        tls = _tls_context(self.options)
        parts = _Parts(self.options)
        try:
            await parts.server.listen(self.options.host, self.options.port, tls)
            self.access_key_id = parts.gate.root.access_key_id
            self.secret_access_key = parts.gate.root.secret_access_key
            self.endpoint = _url(self.options, parts.server.port, tls is not None)
            parts.platform.endpoint = self.endpoint
            self._parts = parts
            self._started.set()
            await self._stop.wait()
        finally:
            self._parts = None
            parts.close()


class _Parts:
    """What an emulator is made of."""

    def __init__(self, options: Options) -> None:
        self.clock = Clock(options.virtual_clock)
        logs = LogStore(self.clock.now_s)
        sessions = RoleSessions()
        self.platform = Platform(
            options, Processes(options.private_tmp), MemoryWatch(), logs, sessions, self.clock
        )
        self.faults = FaultTable(options.faults, random.Random(options.seed))  # noqa: S311 - no secret
        self.others = OtherServices(options.region, logs, self.faults, sessions)
        code = self.platform.processes.root / warden.CODE
        packages = PackageStore(code, self.others.fetch_object, partial(_container_image, options))
        self.functions = LambdaService(self.platform, packages, self.faults)
        self.admin = Admin(self.functions, self.clock, self.faults)
        self.gate = Gate(options.region, options.account_id, sessions, self.functions.statements)
        self.server = HttpServer(self._dispatch, is_own)
        self.platform.server = self.server

    def close(self) -> None:
        """End everything that runs."""
        self.server.close()
        self.functions.close()
        self.clock.close()
        self.platform.memory.close()
        self.platform.processes.close()
        self.others.close()

    def _dispatch(self, exchange: Exchange) -> None:
        """Send a request to the service that it is for."""
        request = exchange.request
        if is_of_web_page(request, (self.platform.options.host.lower(),)):
            exchange.respond(_forbidden(b"web pages are refused, and names that are not this machine's own"))
            return
        if request.path.startswith(ADMIN_PREFIX):
            if request.own:
                self.admin.handle(exchange)
            else:
                exchange.respond(_forbidden(b"only processes of the emulator's user may ask"))
            return
        # Without IAM, the user's own processes sign with any key; others have to know the root user's.
        refused = self.gate.check(request) if self.platform.options.iam or not request.own else None
        if refused is not None:
            exchange.respond(refused)
        elif is_lambda(request):
            self.functions.handle(exchange)
        else:
            self.others.handle(exchange)


def _forbidden(reason: bytes) -> Response:
    return Response(403, (("Content-Type", "text/plain"),), reason)


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _container_image(options: Options, uri: str) -> ContainerImage | None:
    """Find what is run as a container for an image's URI; None for what is a process."""
    name = options.image(uri).container
    return find_image(name) if name else None


def _tls_context(options: Options) -> ssl.SSLContext | None:
    if options.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.private_key)
    return context


def _url(options: Options, port: int, secure: bool) -> str:
    # What listens everywhere is reached, from here, at the loopback address.
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(options.host, options.host)  # noqa: S104
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'https' if secure else 'http'}://{host}:{port}"
