"""A network for each container in which there is nothing but the Runtime API and the emulator's endpoint.

It is a network namespace with a loopback interface and no other. The emulator does not enter it: a socket
belongs to the namespace in which it was made, so those that listen there are made by a thread that was in it
for a moment, and served from here like all others. No address outside can be reached, as there is no route.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from dask_root_lambda.emulator.endpoint import HttpServer
from dask_root_lambda.emulator.forwarding import Address, Forwarder

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
BACKLOG = 128

_libc = ctypes.CDLL(None, use_errno=True)


class PrivateNetwork:
    """A network namespace with sockets of this process in it.

    Parameters
    ----------
    addresses
        Where to listen, on its loopback network; port 0 takes a free one.

    Raises
    ------
    OSError
        The kernel refuses: making networks needs root.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._namespace = -1
        self._failure: OSError | None = None
        self.listeners: list[socket.socket] = []
        """One for each address."""
        thread = threading.Thread(target=self._make, args=(addresses,), name="private-network")
        thread.start()
        thread.join()
        if self._failure is not None:
            self.close()
            raise self._failure

    @property
    def path(self) -> str:
        """Where another process finds the namespace, as long as it is not closed."""
        return f"/proc/{os.getpid()}/fd/{self._namespace}"

    def close(self) -> None:
        """Let go of it; it ends with the last process in it."""
        for listener in self.listeners:
            listener.close()
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    def _make(self, addresses: Sequence[Address]) -> None:
        try:
            _leave_network()
            _raise_loopback()
            self._namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            for address in addresses:
                self.listeners.append(socket.create_server(address, backlog=BACKLOG))
        except OSError as error:
            self._failure = error


@dataclass
class ContainerNetwork:
    """The network of one container."""

    network: PrivateNetwork
    """Its namespace."""
    endpoint: HttpServer
    """The emulator's own server, which serves it too."""
    adopted: asyncio.Server
    """As the endpoint knows it."""
    forwarders: tuple[Forwarder, ...]
    """Ways out."""

    @classmethod
    async def open(cls, endpoint: HttpServer, reachable: Sequence[Address]) -> ContainerNetwork:
        """Make a network in which the endpoint, and what is to be reached, are where they are outside."""
        network = PrivateNetwork((("127.0.0.1", 0), ("127.0.0.1", endpoint.port), *reachable))
        forwarders = tuple(map(Forwarder, reachable))
        for forwarder, listener in zip(forwarders, network.listeners[2:], strict=True):
            await forwarder.listen(listener)
        return cls(network, endpoint, await endpoint.adopt(network.listeners[1], private=True), forwarders)

    @property
    def path(self) -> str:
        """Where the container's runtime finds it."""
        return self.network.path

    @property
    def runtime_api(self) -> socket.socket:
        """For the Runtime API."""
        return self.network.listeners[0]

    def close(self) -> None:
        """End it."""
        for forwarder in self.forwarders:
            forwarder.close()
        self.endpoint.release(self.adopted)
        self.network.close()


def _leave_network() -> None:
    if _libc.unshare(CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"no network namespace: {os.strerror(error)}; containers need root")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
