"""A slow link to a server: connections are passed on, and what clients send, or are sent, waits."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

_PIECE_BYTES = 16 << 10
_FAST = float("inf")


class Link:
    """The link.

    ``passed`` counts the bytes that have passed it; ``down`` holds for connections from now on.
    """

    def __init__(self, url: str, up: float, down: float) -> None:
        parts = urlsplit(url)
        self._target, self._up, self.down = (parts.hostname, parts.port), up, down
        self._server = socket.create_server(("127.0.0.1", 0))
        # Inherited by the connections: what waits here waits unseen.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _PIECE_BYTES)
        self._sockets = [self._server]
        self.url = f"{parts.scheme}://127.0.0.1:{self._server.getsockname()[1]}"
        self.passed = 0

    def serve(self) -> None:
        """Pass connections on until the link is closed."""
        with contextlib.suppress(OSError):
            while True:
                client = self._server.accept()[0]
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for ends in ((client, server, self._up), (server, client, self.down)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, bytes_per_s: float) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                time.sleep(len(piece) / bytes_per_s)
                target.sendall(piece)
                self.passed += len(piece)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all connections."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def to(url: str, *, up: float = _FAST, down: float = _FAST) -> Iterator[Link]:
    """Open a slow link to a server, of so many bytes in a second for each connection."""
    link = Link(url, up, down)
    threading.Thread(target=link.serve, daemon=True).start()
    try:
        yield link
    finally:
        link.close()
