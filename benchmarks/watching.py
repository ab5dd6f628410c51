"""The process of `benchmarks.page`: opens a page as a browser does, and takes what it is sent."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import urllib.request

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

_HEADER = {"msgid": "drawn", "msgtype": "PATCH-DOC"}


async def _watch(url: str) -> int:
    """Take what the page is sent until the standard input ends; return the bytes."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        token = re.search(r'"token":"([^"]+)"', answer.read().decode())
    assert token is not None, "the page has no session"
    socket = await websocket_connect(
        HTTPRequest(url.replace("http", "ws", 1) + "/ws"), subprotocols=["bokeh", token[1]]
    )
    await socket.read_message()
    print("open", flush=True)
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    received = 0
    while True:
        message = asyncio.ensure_future(socket.read_message())
        await asyncio.wait({message, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            socket.close()
            return received
        text = message.result()
        assert text is not None, "the page was closed"
        received += len(text)
        for part in _drawn(text):
            await socket.write_message(part)


def _drawn(text: str | bytes) -> list[str]:
    """Return the message that says that a state was drawn, where this is the last part of one."""
    events = json.loads(text).get("events", []) if text[:9] == '{"events"' else []
    for event in events:
        if event.get("attr") == "tags":
            model, number = event["model"], str(event["new"][0])
            change = {"kind": "ModelChanged", "model": model, "attr": "text", "new": number}
            return [json.dumps(each) for each in (_HEADER, {}, {"events": [change]})]
    return []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    print(json.dumps({"bytes": asyncio.run(_watch(parser.parse_args().url))}))
