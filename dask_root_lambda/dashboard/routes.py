"""Routes beside the page: what it shows as JSON, for everybody, and steering, which takes the secret."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tornado import web

from dask_root_lambda.dashboard import access
from dask_root_lambda.dashboard.feed import Feed
from dask_root_lambda.dashboard.steering import STEER_OPERATION, Action
from dask_root_lambda.protocol.errors import ConfigurationError

_ANSWER_S = 120.0
"""How long a worker may take: an execution that is opened looks up its function, or starts an emulator."""


def of(
    feed: Feed, secret: str, prefix: str, allowed_origins: Sequence[str]
) -> list[tuple[str, type[web.RequestHandler], dict[str, Any]]]:
    """Return the routes below a prefix of the dashboard."""
    start = f"/{prefix.strip('/')}/lambda" if prefix.strip("/") else "/lambda"
    return [
        (rf"{start}/state.json", _State, {"feed": feed}),
        (rf"{start}/histograms.json", _Histograms, {"feed": feed}),
        (rf"{start}/steer", _Steer, {"feed": feed, "secret": secret, "origins": allowed_origins}),
    ]


class _State(web.RequestHandler):
    """What the page shows, as JSON."""

    def initialize(self, feed: Feed) -> None:
        self._feed = feed

    async def get(self) -> None:
        state = await self._feed.ask()
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(state.to_json() if state is not None else "null")


class _Histograms(web.RequestHandler):
    """What the page draws of results, as JSON."""

    def initialize(self, feed: Feed) -> None:
        self._feed = feed

    async def get(self) -> None:
        pictures = await self._feed.gallery.ask()
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps([picture.plain() for picture in pictures], allow_nan=False))


class _Steer(web.RequestHandler):
    """Does one action on all workers that have the executor."""

    def initialize(self, feed: Feed, secret: str, origins: Sequence[str]) -> None:
        self._feed = feed
        self._origins = origins
        self._secret = secret

    async def post(self) -> None:
        self.set_header("Content-Type", "application/json")
        headers, names = self.request.headers, access.machine_names()
        refused = access.refusal(headers, self._secret, self._origins, names)
        if refused is not None:
            self.set_status(403)
            self.finish({"error": refused})
            return
        try:
            action = Action.from_json(self.request.body)
            actions = action.shared(len(self._feed.workers))
        except ConfigurationError as error:
            self.set_status(400)
            self.finish({"error": str(error)})
            return
        messages = [{"action": each.to_json()} for each in actions]
        said = await self._feed.tell(STEER_OPERATION, _ANSWER_S, messages)
        self.set_status(409 if said else 200)
        self.finish({"error": said} if said else {})
