"""Connections out of a container's network, to the few addresses that it may reach."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket

CHUNK_BYTES = 1 << 16

Address = tuple[str, int]


def read_address(text: str) -> Address:
    """Read ``HOST:PORT``.

    Raises
    ------
    ValueError
        It is none, or not on this machine's loopback network: a container's network has no other.
    """
    host, _, port = text.rpartition(":")
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host, int(port)
    except ValueError:
        pass
    raise ValueError(f"containers can be let to 127.x.y.z:PORT of this machine, not to {text!r}")


class Forwarder:
    """Passes connections to a listening socket on to the same address of this machine."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, listener: socket.socket) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._connect, sock=listener)

    def close(self) -> None:
        """Take no more, and end those that there are."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
            far_reader, far_writer = await asyncio.open_connection(*self._address)
            with contextlib.closing(far_writer):
                await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()
