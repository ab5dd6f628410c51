"""A far XRootD server: what stands before a near one, delays what passes, and counts requests.

It is a process of its own: ROOT holds the interpreter's lock while it waits for some of the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

_HANDSHAKE_BYTES = 20
_HEADER = struct.Struct(">2sH16sI")
"""Stream, request, its parameters, length of its data:
https://xrootd.slac.stanford.edu/doc/dev56/XRdv520.htm"""
_NAMES = {3003: "close", 3010: "open", 3013: "read", 3017: "stat", 3025: "readv"}


class Far:
    """A server that is far away."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self.url = url

    def requests(self) -> Counter[str]:
        """Return how many requests there were since the last call, by their names in the protocol."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Counter(json.loads(self._process.stdout.readline()))


@contextlib.contextmanager
def before(url: str, *, delay_s: float = 0.0) -> Iterator[Far]:
    """Serve what a server serves, with round trips of ``delay_s`` seconds, while in this context."""
    command = [sys.executable, str(Path(__file__)), url, str(delay_s)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        port = process.stdout.readline().strip()
        try:
            yield Far(process, f"root://127.0.0.2:{port}/")
        finally:
            process.kill()


class Proxy:
    """Passes connections on to a server."""

    def __init__(self, url: str, delay_s: float) -> None:
        parts = urlsplit(url)
        self._target, self._delay_s = (parts.hostname, parts.port), delay_s
        self.requests: Counter[str] = Counter()

    async def pass_on(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        await asyncio.gather(
            self._pipe(reader, far_writer, self._counter()), self._pipe(far_reader, writer, lambda _: None)
        )

    async def _pipe(self, reader, writer, look):
        """Pass on what comes, each piece as much later: those behind it do not wait for it."""
        loop, due = asyncio.get_running_loop(), asyncio.Queue()

        async def send():
            while (piece := await due.get()) is not None:
                await asyncio.sleep(piece[0] - loop.time())
                writer.write(piece[1])
            writer.close()

        sending = asyncio.create_task(send())
        while data := await reader.read(1 << 20):
            look(data)
            due.put_nowait((loop.time() + self._delay_s / 2, data))
        due.put_nowait(None)
        await sending

    def _counter(self):
        waiting, skip = bytearray(), _HANDSHAKE_BYTES

        def count(data):
            nonlocal skip
            waiting.extend(data)
            while True:
                passed = min(skip, len(waiting))
                del waiting[:passed]
                skip -= passed
                if skip or len(waiting) < _HEADER.size:
                    return
                _, request, _, length = _HEADER.unpack_from(waiting)
                self.requests[_NAMES.get(request, str(request))] += 1
                skip = _HEADER.size + length

        return count

    def tell(self):
        sys.stdin.readline()
        sys.stdout.write(f"{json.dumps(self.requests)}\n")
        sys.stdout.flush()
        self.requests.clear()


async def main(url, delay_s):
    proxy = Proxy(url, delay_s)
    server = await asyncio.start_server(proxy.pass_on, "127.0.0.2", 0)
    asyncio.get_running_loop().add_reader(sys.stdin, proxy.tell)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
