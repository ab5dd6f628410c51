"""Connections to AWS that live through NAT, and whose requests can be ended from another thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.httpsession import URLLib3Session, get_cert_path

from dask_root_lambda.invocation.cancellation import Cancellation

_KEEPALIVE_IDLE_S = 60
"""NAT gateways forget a silent connection after 350 s; Linux would probe first after 7,200 s.
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html"""
_KEEPALIVE_INTERVAL_S = 30

_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S), ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_S))
        if hasattr(socket, name)
    ),
]


_waiting = threading.local()
"""The `Cancellation` of the request that this thread sends."""


class _Abortable:
    """A connection whose request can be ended from another thread, and is sent in one piece.

    botocore means to send head and body together, and urllib3 2 takes them apart: a packet more, and a
    system call more for which the interpreter's lock is let go.
    """

    sock: socket.socket | None
    _pieces: list[bytes] | None = None
    """Pieces of the request that is being put together; None while none is."""

    _whose: Cancellation | None = None
    """Ends the request that the connection serves: one of many, one after the other."""
    _is_shut_down = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        """Held to shut the connection down, and to give it to another request."""

    def request(self, *args: Any, **kwargs: Any) -> None:
        cancellation: Cancellation | None = getattr(_waiting, "cancellation", None)
        with self._lock:
            self._whose = cancellation
            if self._is_shut_down:
                # The next thing that is sent opens it again.
                self.close()  # type: ignore[attr-defined]
        if cancellation is not None:
            cancellation.on_cancel(partial(self._end, cancellation))
        self._pieces = []
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
        finally:
            pieces, self._pieces = self._pieces, None
        self.send(b"".join(pieces))

    def send(self, data: bytes) -> None:
        if self._pieces is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._pieces.append(data)

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._is_shut_down = False
        cancellation: Cancellation | None = getattr(_waiting, "cancellation", None)
        if cancellation is not None and cancellation.cancelled:
            self._shut_down()

    def _end(self, cancellation: Cancellation) -> None:
        with self._lock:
            # Its answer may have been read, and the connection be another's by now.
            if self._whose is cancellation:
                self._shut_down()

    def _shut_down(self) -> None:
        if self.sock is not None:
            self._is_shut_down = True
            # Of the plain socket: an SSLSocket's own would take its TLS state from under the reader.
            with suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class _HTTPConnection(_Abortable, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _HTTPSConnection(_Abortable, AWSHTTPSConnection):  # type: ignore[misc]
    def connect(self) -> None:
        # The pool's context has them; urllib3 would read and parse the bundle for every connection.
        self.ca_certs = None
        super().connect()


class _HTTPPool(AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPConnection


class _HTTPSPool(AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPSConnection


class AbortableSession(URLLib3Session):  # type: ignore[misc]
    """botocore's HTTP session with connections that keep alive through NAT and can be aborted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(socket_options=_SOCKET_OPTIONS, **options)
        self._pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        self._manager.pool_classes_by_scheme = self._pool_classes_by_scheme

    def _get_ssl_context(self) -> Any:
        context = super()._get_ssl_context()
        if self._verify:
            context.load_verify_locations(get_cert_path(self._verify))
        return context


@contextmanager
def abortable(cancellation: Cancellation) -> Iterator[None]:
    """Let ``cancellation`` end the request that this thread sends in the block."""
    _waiting.cancellation = cancellation
    try:
        yield
    finally:
        _waiting.cancellation = None
        cancellation.on_cancel(None)
