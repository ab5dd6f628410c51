"""A web server on loopback that answers ranges of files, and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import subprocess
import sys
import threading
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

_CONTROL = "/_control"
_S3_ERROR = "<Error><Code>{code}</Code><Message>m</Message></Error>"


class Web:
    """What a server has, and what it does.

    ``script`` is a list of what happens to the next requests: a status with S3's code, as ``"503 SlowDown"``,
    ``"truncate"``, ``"close"``, ``"stall"``, ``"drip"``, ``"whole"`` or ``"ok"``; ``after`` happens to
    all behind them.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.script: list[str] = []
        self.after = "ok"
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.headers: dict[str, str] = {}
        self.weak = False
        self.url = ""
        self.lock = threading.Lock()
        self.release = threading.Event()

    def tag(self, path: str) -> str:
        content = self.files[path]
        return f'{"W/" if self.weak else ""}"{len(content)}-{zlib.crc32(content[-4096:])}"'

    @property
    def bytes_asked(self) -> int:
        ranges = (re.fullmatch(r"bytes=(\d+)-(\d+)", headers["range"]) for _, _, headers in self.requests)
        return sum(int(each[2]) - int(each[1]) + 1 for each in ranges if each)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        web, path = self.web, unquote(urlsplit(self.path).path)
        if path == _CONTROL:
            self.obey(unquote(urlsplit(self.path).query))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        with web.lock:
            web.requests.append((path, self.path, headers))
            what = web.script.pop(0) if web.script else web.after
        if re.match(r"\d{3}", what):
            self.refuse(int(what[:3]), what[4:])
        elif path not in web.files:
            self.refuse(404, "NoSuchKey")
        elif "if-match" in headers and headers["if-match"] != web.tag(path):
            self.refuse(412, "PreconditionFailed")
        else:
            self.give(path, headers, what)

    def obey(self, script: str) -> None:
        """Answer what was asked for so far, as JSON, and take a new script, if one is given."""
        with self.web.lock:
            told = json.dumps(self.web.requests).encode()
            self.web.script = json.loads(script) if script else self.web.script
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.send(told)

    def refuse(self, status: int, code: str) -> None:
        body = _S3_ERROR.format(code=code).encode()
        self.send_response(status)
        for name, value in self.web.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.send(body)

    def give(self, path: str, headers: dict[str, str], what: str) -> None:
        content = self.web.files[path]
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        first, last = (int(found[1]), min(int(found[2]), len(content) - 1)) if found else (0, len(content))
        part = content if what == "whole" else content[first : last + 1]
        self.send_response(200 if what == "whole" else 206)
        self.send_header("ETag", self.web.tag(path))
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        if what != "whole":
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        sent = {"truncate": len(part) // 2, "stall": len(part) // 2, "close": 0}.get(what, len(part))
        if what == "drip":
            self.drip(part)
        else:
            self.send(part[:sent])
        if what == "stall":
            self.web.release.wait(60)
        self.close_connection = sent < len(part)

    def drip(self, content: bytes) -> None:
        """Send slowly: in ten pieces, which take 2 s."""
        size = len(content) // 10 + 1
        for at in range(0, len(content), size):
            self.web.release.wait(0.2)
            self.send(content[at : at + size])

    def send(self, content: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # of who has read enough
            self.wfile.write(content)
            self.wfile.flush()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@contextlib.contextmanager
def serving(certificate: Path | None = None) -> Iterator[Web]:
    """Serve while in this context; with a certificate of ``localhost``, over TLS.

    Parameters
    ----------
    certificate
        A PEM file, with its key beside it, as `tests.certificates.certify` makes them.
    """
    web = Web()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": web}))
    web.url = f"http://127.0.0.1:{server.server_port}"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        web.url = f"https://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield web
    finally:
        web.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Apart:
    """A server in a process of its own: ROOT may wait for it while it holds Python's lock.

    Parameters
    ----------
    url
        Where it serves.
    sizes
        Bytes of its files, by path.
    """

    def __init__(self, url: str, sizes: Mapping[str, int]) -> None:
        self.url = url
        self._sizes = sizes

    def script(self, steps: Sequence[str]) -> None:
        """Say what happens to the next requests; see `Web`."""
        self._asked(quote(json.dumps(list(steps))))

    def sent(self, top: str) -> tuple[int, int]:
        """Count requests below a path, and the bytes of the ranges that they asked for."""
        found = [
            (path, re.fullmatch(r"bytes=(\d+)-(\d+)", headers["range"]))
            for path, _, headers in self._asked()
            if path.startswith(top)
        ]
        sizes = [min(int(m[2]), self._sizes[path] - 1) - int(m[1]) + 1 for path, m in found if m]
        return len(found), sum(sizes)

    def _asked(self, query: str = "") -> list[tuple[str, str, dict[str, str]]]:
        with urllib.request.urlopen(f"{self.url}{_CONTROL}?{query}", timeout=30) as answer:
            asked: list[tuple[str, str, dict[str, str]]] = json.load(answer)
        return asked


@contextlib.contextmanager
def serving_apart(files: Mapping[str, str]) -> Iterator[Apart]:
    """Serve files, by path, from another process while in this context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.web", json.dumps(dict(files))],
        cwd=Path(__file__).resolve().parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        yield Apart(url, {path: Path(name).stat().st_size for path, name in files.items()})
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def _main(files: Mapping[str, str]) -> None:
    with serving() as web:
        web.files.update({path: Path(name).read_bytes() for path, name in files.items()})
        print(web.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
