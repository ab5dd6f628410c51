"""A web server on loopback with the speed of a link, and the time of a round trip.

``python -m benchmarks.slow_web DIRECTORY`` writes its port, and serves ranges until its standard input ends.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
import time
from datetime import datetime, timezone
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

_CHUNK = 1 << 18
_PAGE = 1000
"""Objects of a list that S3 tells in one answer."""


def _written(time_s: float) -> str:
    return datetime.fromtimestamp(int(time_s), timezone.utc).isoformat()


class Link:
    """Lets so many bytes pass in a second, for all who send."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._rate = bytes_per_s
        self._free_s = 0.0
        self._lock = threading.Lock()

    def wait(self, size: int) -> None:
        """Wait until as many bytes may pass."""
        if self._rate is None:
            return
        with self._lock:
            begin_s = max(self._free_s, time.monotonic())
            self._free_s = begin_s + size / self._rate
        time.sleep(max(0.0, self._free_s - time.monotonic()))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as of web servers: else the end of an answer waits 40 ms for an ACK
    directory: Path
    link: Link
    round_trip_s: float

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        time.sleep(self.round_trip_s)
        asked = parse_qs(self.path.partition("?")[2])
        if "list-type" in asked:
            self._list(asked)
        else:
            self._send()

    def _list(self, asked: dict[str, list[str]]) -> None:
        """Answer S3's ListObjectsV2: 1,000 files of the directory, behind the one that the token names."""
        behind, prefix = (asked.get(name, [""])[0] for name in ("continuation-token", "prefix"))
        files = {each.name: each.stat() for each in self.directory.iterdir() if each.name.startswith(prefix)}
        names = sorted(name for name in files if name > behind)
        page = names[:_PAGE]
        items = "".join(
            f"<Contents><Key>{name}</Key><Size>{files[name].st_size}</Size>"
            f"<ETag>&quot;{files[name].st_size}&quot;</ETag>"
            f"<LastModified>{_written(files[name].st_mtime)}</LastModified>"
            "</Contents>"
            for name in page
        )
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if len(names) > _PAGE else ""
        truncated = f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated>"
        answer = f"<ListBucketResult>{truncated}{token}{items}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.link.wait(len(answer))
        self.wfile.write(answer)

    def _send(self) -> None:
        with (self.directory / self.path.partition("?")[0].rpartition("/")[2]).open("rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
            assert found is not None
            first, behind = int(found[1]), min(int(found[2]) + 1, size)
            self.send_response(206)
            self.send_header("ETag", f'"{size}"')
            self.send_header("Last-Modified", formatdate(int(status.st_mtime), usegmt=True))
            self.send_header("Content-Range", f"bytes {first}-{behind - 1}/{size}")
            self.send_header("Content-Length", str(behind - first))
            self.end_headers()
            for at in range(first, behind, _CHUNK):
                length = min(_CHUNK, behind - at)
                self.link.wait(length)
                self.connection.sendfile(file, at, length)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--mb-per-s", type=float)
    parser.add_argument("--round-trip-ms", type=float, default=0.0)
    given = parser.parse_args()
    rate = given.mb_per_s * 1e6 if given.mb_per_s else None
    own = {"directory": given.directory, "link": Link(rate), "round_trip_s": given.round_trip_ms / 1e3}
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), own))
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
