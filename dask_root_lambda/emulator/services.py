"""Every AWS service but Lambda, answered by moto in this process.

moto's own server needs Flask; this asks moto's backends directly, as its proxy does: a request that came
to the one endpoint becomes one for the service's own host, and moto finds its way from there.

moto keeps its state in module globals: one process holds one AWS, whatever the number of emulators in it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from dask_root_lambda.emulator.bucket_policies import count_as_secure
from dask_root_lambda.emulator.cloudwatch import CloudWatch, take_pending
from dask_root_lambda.emulator.credentials import RoleSession, RoleSessions
from dask_root_lambda.emulator.endpoint import Exchange, Request, Response
from dask_root_lambda.emulator.errors import InvalidParameterError
from dask_root_lambda.emulator.faults import FaultTable, S3Fault
from dask_root_lambda.emulator.logs import LogStore
from dask_root_lambda.emulator.routes import credential_scope
from dask_root_lambda.emulator.signature import read_signature

logger = logging.getLogger(__name__)

# The emulators of this process, which share what moto holds.
_alive: set[int] = set()

# moto is pure Python under one lock: more threads only wait.
THREADS = 4

# Names under which services sign, where moto's host is called otherwise.
_HOSTS = {"iam": "iam.amazonaws.com", "s3": "s3.{region}.amazonaws.com"}

# Calls that come unsigned name themselves in their body.
_UNSIGNED_ACTIONS = {"AssumeRoleWithSAML": "sts", "AssumeRoleWithWebIdentity": "sts"}

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_S3_ERRORS = {
    "slow-down": (503, "SlowDown", "Please reduce your request rate."),
    "error-500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "missing": (404, "NoSuchKey", "The specified key does not exist."),
}

_BUCKET_HOST = re.compile(r"([a-z0-9.-]+)\.(?:s3\.)?(?:localhost|127\.0\.0\.1)(?::\d+)?")


class OtherServices:
    """S3, SQS, IAM and all else that moto knows.

    Parameters
    ----------
    region
        For requests that name none.
    logs
        What functions have logged.
    faults
        What happens to requests for objects.
    sessions
        Credentials of the functions' roles.
    """

    def __init__(self, region: str, logs: LogStore, faults: FaultTable, sessions: RoleSessions) -> None:
        self._faults = faults
        self._sessions = sessions
        _alive.add(id(self))
        self._region = region
        self._logs = logs
        self._cloudwatch = CloudWatch(region, self.answer, _trim_logs)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="emulator-moto")
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, exchange: Exchange) -> None:
        """Answer a request in a thread."""
        task = asyncio.get_running_loop().create_task(self._answer(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Forget everything that moto holds, unless another emulator of this process uses it."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        _alive.discard(id(self))
        if not _alive:
            reset()

    def fetch_object(self, bucket: str, key: str) -> bytes:
        """Read an object of S3.

        Raises
        ------
        InvalidParameterError
            If it is not there; worded as Lambda does for code.
        """
        response = self.answer(Request("GET", f"/{quote(bucket)}/{quote(key)}", (), {}, b"", True))
        if response.status != 200:
            raise InvalidParameterError(
                f"Error occurred while GetObject. S3 Error Code: {response.status}. s3://{bucket}/{key}"
            )
        return response.body

    async def _answer(self, exchange: Exchange) -> None:
        loop, fault = asyncio.get_running_loop(), None
        try:
            fault = self._find_fault(exchange.request)
            if fault is not None and fault.kind in _S3_ERRORS:
                exchange.respond(_s3_error(fault.kind, exchange.request))
                return
            if fault is not None and fault.kind == "slow":
                await asyncio.sleep(fault.delay_s)
            response = await loop.run_in_executor(self._threads, self._work(exchange.request))
        except Exception:
            # moto raises whatever went wrong in it; a client must get an answer.
            logger.exception("moto failed on %s %s", exchange.request.method, exchange.request.target)
            response = Response(
                500, (("Content-Type", "text/plain"),), b"moto failed; see the emulator's log"
            )
        if fault is not None and fault.kind == "truncate":
            exchange.truncate(response)
        else:
            exchange.respond(response)

    def _find_fault(self, request: Request) -> S3Fault | None:
        if (credential_scope(request)[1] or "s3") != "s3":
            return None
        _, _, path = self._address(request)[1].partition("/")
        bucket, _, key = path.partition("?")[0].partition("/")
        return self._faults.of_request(request.method, bucket, unquote(key))

    def _work(self, request: Request) -> Callable[[], Response]:
        """Decide, on the event loop's thread, what a thread has to do for a request."""
        service = credential_scope(request)[1]
        if service == "sts":
            return lambda: self._answer_as_role(request)
        if service != "logs":
            return lambda: self.answer(request)
        batches = take_pending(self._logs)

        def answer_with_logs() -> Response:
            self._cloudwatch.hand_over(batches)
            return self.answer(request)

        return answer_with_logs

    def _answer_as_role(self, request: Request) -> Response:
        """Ask STS for a function, whose session moto does not know yet."""
        signature = read_signature(request)
        session = self._sessions.find(signature.access_key_id) if signature else None
        if session is not None:
            _introduce(session, self._region)
        return self.answer(request)

    def answer(self, request: Request) -> Response:
        """Ask moto."""
        host, target = self._address(request)
        handler = _find_handler(host, target.partition("?")[0])
        if handler is None:
            text = f"moto has no service at {host} for {request.method} {request.path}"
            return Response(404, (("Content-Type", "text/plain"),), text.encode())
        return _call(handler, request, f"https://{host}{target}")

    def _address(self, request: Request) -> tuple[str, str]:
        """Host of the service that a request is for, and its target there."""
        region, service = credential_scope(request)
        if not service:
            action = parse_qs(request.body[:4096].decode("latin-1")).get("Action", [""])[0]
            service = _UNSIGNED_ACTIONS.get(action, "s3")
        region = region or self._region
        host = _HOSTS.get(service, "{service}.{region}.amazonaws.com").format(service=service, region=region)
        bucket = _BUCKET_HOST.fullmatch(request.headers.get("host", "")) if service == "s3" else None
        return host, f"/{bucket[1]}{request.target}" if bucket else request.target


def _s3_error(kind: str, request: Request) -> Response:
    status, code, message = _S3_ERRORS[kind]
    body = (
        f"<Error><Code>{code}</Code><Message>{message}</Message><Resource>{request.path}</Resource></Error>"
    )
    xml = b'<?xml version="1.0" encoding="UTF-8"?>\n' + body.encode()
    return Response(status, (("Content-Type", "application/xml"),), xml)


def reset() -> None:
    """Empty all of moto's backends that were loaded."""
    if "moto.core.base_backend" not in sys.modules:
        # It takes long to import: whoever needs only Lambda does not pay for it.
        return
    from moto.core.base_backend import BackendDict

    BackendDict.reset()


def _introduce(session: RoleSession, region: str) -> None:
    """Tell moto's STS of a session that it has not made."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.sts.models import sts_backends

    backend = sts_backends[DEFAULT_ACCOUNT_ID]["aws"]
    if backend.get_assumed_role_from_access_key(session.credentials.access_key_id) is not None:
        return
    role: Any = backend.assume_role(region, session.name, session.role, "", 43_200, "")
    role.access_key_id = session.credentials.access_key_id
    role.secret_access_key = session.credentials.secret_access_key
    role.session_token = session.credentials.session_token


def _trim_logs(group: str, stream: str, keep: int) -> None:
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.logs.models import logs_backends

    for backend in tuple(logs_backends[DEFAULT_ACCOUNT_ID].values()):
        if group in backend.groups and stream in backend.groups[group].streams:
            del backend.groups[group].streams[stream].events[:-keep]


def _find_handler(host: str, path: str) -> Any:
    from moto import backend_index, backends
    from moto.core.base_backend import BackendDict
    from moto.core.models import DEFAULT_ACCOUNT_ID

    get_backend: Any = backends.get_backend
    url = f"https://{host}{path}"
    for service, pattern in backend_index.backend_url_patterns:
        if not pattern.match(url):
            continue
        found = get_backend(service)
        regions = found[DEFAULT_ACCOUNT_ID] if isinstance(found, BackendDict) else {"global": found["global"]}
        backend = regions["us-east-1"] if "us-east-1" in regions else next(iter(_known(regions)))
        for url_pattern, handler in backend.urls.items():
            if re.match(url_pattern, url):
                return handler
    return None


def _known(regions: Any) -> Iterable[Any]:
    return (regions[name] for name in ("aws", "global") if name in regions)


def _call(handler: Any, request: Request, url: str) -> Response:
    from moto.core.request import Request as MotoRequest
    from werkzeug.exceptions import HTTPException

    count_as_secure()
    # moto finds the length and the host by itself; both may differ from what came over the wire.
    headers = {
        name: value for name, value in request.header_list if name.lower() not in ("host", "content-length")
    }
    moto_request = MotoRequest.from_primitives(request.method, url, headers, request.body)
    try:
        status, answer_headers, body = handler(moto_request, moto_request.raw_url, moto_request.headers)
    except HTTPException as error:
        status, answer_headers, body = error.code, dict(error.get_headers()), error.get_body()
    return _response(int(status or 500), answer_headers, body)


def _response(status: int, headers: Any, body: Any) -> Response:
    data = body.encode() if isinstance(body, str) else bytes(body or b"")
    pairs = tuple((str(name), str(value)) for name, value in headers.items())
    # HEAD tells a length without a body: keep what moto says there, and count everywhere else.
    kept = tuple((name, value) for name, value in pairs if not data or name.lower() != "content-length")
    return Response(status, kept, data)
