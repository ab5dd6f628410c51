"""The HTTP server by itself: what it takes, what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dask_root_lambda.emulator import endpoint
from dask_root_lambda.emulator.endpoint import Exchange, HttpServer, Request, Response

pytestmark = pytest.mark.timeout(30)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def serve(handle: Callable[[Exchange], None], talk: Callable[[Streams], Coroutine[Any, Any, Any]]) -> Any:
    """Run a server and one client of it."""

    async def run() -> Any:
        server = HttpServer(handle)
        await server.listen("127.0.0.1", 0)
        streams = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            return await asyncio.wait_for(talk(streams), 10)
        finally:
            streams[1].close()
            server.close()

    return asyncio.run(run())


def exchange_bytes(sent: bytes, pieces: int = 1) -> tuple[list[Request], bytes]:
    """Send bytes in pieces to a server that answers "ok"; return its requests and its answer."""
    requests: list[Request] = []

    def handle(exchange: Exchange) -> None:
        requests.append(exchange.request)
        exchange.respond(Response(200, (("X-Test", "1"),), b"ok"))

    async def talk(streams: Streams) -> bytes:
        reader, writer = streams
        size = -(-len(sent) // pieces)
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)
        writer.write_eof()
        return await reader.read()

    return requests, serve(handle, talk)


@pytest.mark.parametrize("pieces", [1, 7, 60])
def test_a_request_may_come_in_pieces(pieces: int) -> None:
    """However TCP cuts a request, the handler gets it whole."""
    sent = b"POST /a%20b?c=d HTTP/1.1\r\nHost: h\r\nx-amz-meta-My_Key: v\r\nContent-Length: 5\r\n\r\nhello"
    requests, answer = exchange_bytes(sent, pieces)
    (request,) = requests
    assert (request.method, request.path, request.query, request.body) == ("POST", "/a%20b", "c=d", b"hello")
    assert ("x-amz-meta-My_Key", "v") in request.header_list
    assert answer == b"HTTP/1.1 200 OK\r\nX-Test: 1\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("pieces", [1, 9])
@pytest.mark.parametrize("trailer", [b"", b"x-amz-checksum-crc32: AAAA\r\n"])
def test_chunks_are_put_together(pieces: int, trailer: bytes) -> None:
    """A body in chunks, with or without a trailer, is one body."""
    head = b"PUT /k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    requests, _ = exchange_bytes(
        head + b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\n" + trailer + b"\r\n", pieces
    )
    assert requests[0].body == b"hello world"


def test_requests_follow_each_other_on_a_connection() -> None:
    """Requests sent together are answered in order; after Connection: close there is no more."""
    one = b"GET /%d HTTP/1.1\r\n%s\r\n"
    sent = one % (1, b"") + one % (2, b"") + one % (3, b"Connection: close\r\n") + one % (4, b"")
    requests, answer = exchange_bytes(sent)
    assert [request.target for request in requests] == ["/1", "/2", "/3"]
    assert answer.count(b"200 OK") == 3
    assert answer.count(b"Connection: close") == 1


def test_head_has_no_body() -> None:
    """HEAD gets the length that GET would have, and no body."""
    _, answer = exchange_bytes(b"HEAD / HTTP/1.1\r\n\r\n")
    assert answer.endswith(b"Content-Length: 2\r\n\r\n")


def test_a_client_that_asks_may_continue() -> None:
    """Expect: 100-continue is answered before the body comes."""

    async def talk(streams: Streams) -> bytes:
        reader, writer = streams
        writer.write(b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        return await reader.readuntil(b"\r\n\r\n")

    def handle(exchange: Exchange) -> None:
        exchange.respond(Response(200))

    assert serve(handle, talk).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"400"),
        (b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (endpoint.BODY_LIMIT_BYTES + 1), b"413"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * endpoint.HEAD_LIMIT_BYTES, b"431"),
    ],
)
def test_what_is_not_http_is_refused(sent: bytes, status: bytes) -> None:
    """Bad requests are answered with an error and do not reach the handler."""
    requests, answer = exchange_bytes(sent)
    assert requests == []
    assert answer.startswith(b"HTTP/1.1 " + status)


def test_the_handler_learns_that_its_client_left() -> None:
    """A connection that closes before its answer is reported once; answering then does nothing."""
    kept: list[Exchange] = []
    left = asyncio.Event()

    def handle(exchange: Exchange) -> None:
        kept.append(exchange)
        exchange.on_disconnect = left.set

    async def talk(streams: Streams) -> None:
        streams[1].write(b"GET / HTTP/1.1\r\n\r\n")
        while not kept:
            await asyncio.sleep(0.001)
        assert kept[0].open
        streams[1].close()
        await left.wait()
        assert not kept[0].open
        kept[0].respond(Response(200))

    serve(handle, talk)


def test_a_connection_can_be_dropped() -> None:
    """abort() ends a connection in the middle of an answer."""

    async def talk(streams: Streams) -> bytes:
        streams[1].write(b"GET / HTTP/1.1\r\n\r\n")
        return await streams[0].read()

    assert serve(lambda exchange: exchange.abort(b"HTTP/1.1 200 OK\r\nContent-L"), talk).endswith(
        b"Content-L"
    )
