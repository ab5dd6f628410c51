"""The emulator as a Python object: one endpoint, served from a thread of this process."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from dataclasses import replace
from types import TracebackType
from typing import Any

from dask_root_lambda.emulator.credentials import invent_credentials
from dask_root_lambda.emulator.endpoint import Exchange, HttpServer
from dask_root_lambda.emulator.environment import Platform
from dask_root_lambda.emulator.lambda_service import LambdaService
from dask_root_lambda.emulator.logs import LogStore
from dask_root_lambda.emulator.memory import MemoryWatch
from dask_root_lambda.emulator.options import Options
from dask_root_lambda.emulator.packages import PackageStore
from dask_root_lambda.emulator.processes import Processes
from dask_root_lambda.emulator.routes import is_lambda
from dask_root_lambda.emulator.services import OtherServices

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


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
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
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

        Raises
        ------
        RuntimeError
            If it runs already, or cannot start: the message tells why.
        """
        if self._thread is not None:
            raise RuntimeError("the emulator runs already; stop() it first, or use another one")
        self._started.clear()
        self._thread = threading.Thread(target=self._run, name="lambda-emulator", daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise RuntimeError(f"the emulator did not start within {START_TIMEOUT_S:.0f} s")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._thread.join()
            self._thread = None
            raise RuntimeError(f"the emulator cannot start: {failure}") from failure

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

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        tls = _tls_context(self.options)
        platform = Platform(self.options, Processes(), MemoryWatch(), LogStore(), invent_credentials)
        others = OtherServices(self.options.region)
        packages = PackageStore(platform.processes.root / "code", others.fetch_object)
        functions = LambdaService(platform, packages)
        server = HttpServer(_Dispatcher(functions, others))
        try:
            await server.listen(self.options.host, self.options.port, tls)
            self.endpoint = platform.endpoint = _url(self.options, server.port, tls is not None)
            self._started.set()
            await self._stop.wait()
        finally:
            server.close()
            functions.close()
            platform.memory.close()
            platform.processes.close()
            others.close()


class _Dispatcher:
    """Sends a request to the service that it is for."""

    def __init__(self, functions: LambdaService, others: OtherServices) -> None:
        self._functions = functions
        self._others = others

    def __call__(self, exchange: Exchange) -> None:
        service = self._functions if is_lambda(exchange.request) else self._others
        service.handle(exchange)


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
