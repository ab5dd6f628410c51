"""The Runtime API: how a runtime inside an environment gets events and returns results.

Each environment has an address of its own, as the address is all that a runtime knows of itself, and
``awslambdaric`` wants a plain host and port.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html.
"""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from typing import Protocol

from dask_root_lambda.emulator.endpoint import Exchange, HttpServer, Response
from dask_root_lambda.emulator.peers import is_of_web_page, is_own

PREFIX = "/2018-06-01/runtime/"
ERROR_TYPE_HEADER = "lambda-runtime-function-error-type"

_RESULT = re.compile(r"invocation/([^/]+)/(response|error)")
_ACCEPTED = Response(202, (("Content-Type", "application/json"),), b'{"status":"OK"}\n')


@dataclass(frozen=True)
class Event:
    """What a runtime gets for one invocation."""

    request_id: str
    """Of the invocation."""
    payload: bytes
    """JSON."""
    arn: str
    """As the client named the function."""
    trace_id: str
    """For X-Ray."""
    client_context: str = ""
    """JSON, from mobile SDKs."""

    def response(self, deadline_ms: int) -> Response:
        """Make the event the answer to ``next``, with the end of the function's time since the epoch."""
        headers = [
            ("Content-Type", "application/json"),
            ("Lambda-Runtime-Aws-Request-Id", self.request_id),
            ("Lambda-Runtime-Deadline-Ms", str(deadline_ms)),
            ("Lambda-Runtime-Invoked-Function-Arn", self.arn),
            ("Lambda-Runtime-Trace-Id", self.trace_id),
        ]
        if self.client_context:
            headers.append(("Lambda-Runtime-Client-Context", self.client_context))
        return Response(200, tuple(headers), self.payload)


class Listener(Protocol):
    """Who is told what the runtime does: an environment."""

    def runtime_waits(self, exchange: Exchange) -> None:
        """Take a request for the next event, to be answered with one."""

    def runtime_answers(self, request_id: str, payload: bytes) -> Response | None:
        """Take what the handler returned; a response other than None refuses it."""

    def runtime_fails(self, request_id: str, payload: bytes) -> Response | None:
        """Take what the handler raised."""

    def initialisation_fails(self, payload: bytes, error_type: str) -> None:
        """Learn that the handler could not be loaded."""

    def restore_fails(self, payload: bytes, error_type: str) -> None:
        """Learn that a hook after the restore raised."""


class RuntimeApi:
    """The server of one environment.

    Parameters
    ----------
    listener
        Told of every call.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._server = HttpServer(self._handle, is_own)

    async def open(self, listener: socket.socket | None = None) -> str:
        """Listen at a free port, or serve a socket that listens already; return the address."""
        if listener is None:
            await self._server.listen("127.0.0.1", 0)
        else:
            await self._server.adopt(listener, private=True)
        return f"127.0.0.1:{self._server.port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        if not request.own or is_of_web_page(request):
            # It knows no credentials, and what it answers is the user's data.
            exchange.respond(refusal(403, "Forbidden", "only processes of the emulator's user may ask"))
            return
        call = request.path.removeprefix(PREFIX)
        if call == "invocation/next" and request.method == "GET":
            self._listener.runtime_waits(exchange)
            return
        result = _RESULT.fullmatch(call)
        if result is not None:
            post = self._listener.runtime_answers if result[2] == "response" else self._listener.runtime_fails
            exchange.respond(post(result[1], request.body) or _ACCEPTED)
        elif call in ("init/error", "restore/error"):
            error_type = request.headers.get(ERROR_TYPE_HEADER, "Runtime.Unknown")
            init = call == "init/error"
            tell = self._listener.initialisation_fails if init else self._listener.restore_fails
            tell(request.body, error_type)
            exchange.respond(_ACCEPTED)
        else:
            exchange.respond(refusal(404, "NotFound", f"no such call: {request.method} {request.path}"))


def refusal(status: int, error_type: str, message: str) -> Response:
    """Word an error of the Runtime API."""
    document = {"errorType": error_type, "errorMessage": message}
    return Response(status, (("Content-Type", "application/json"),), json.dumps(document).encode())
