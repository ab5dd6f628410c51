"""What a scheduler has of the page: the feed, the secret, and the routes beside the page."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from distributed import Scheduler, SchedulerPlugin

from dask_root_lambda.dashboard import routes
from dask_root_lambda.dashboard.feed import Feed

NAME = "dask-root-lambda-page"
SECRET_OPERATION = "dask_root_lambda_secret"  # noqa: S105  (the name of what gives it)
"""The operation by which clients get the secret: they can run code on the scheduler anyway."""


class PagePlugin(SchedulerPlugin):
    """Shows the page on a scheduler that has a dashboard. Workers with the executor register it.

    Parameters
    ----------
    allowed_origins
        From which pages may steer, besides the dashboard's own.
    """

    name = NAME
    idempotent = True

    def __init__(self, allowed_origins: Sequence[str] = ()) -> None:
        self._allowed_origins = tuple(allowed_origins)

    async def start(self, scheduler: Scheduler) -> None:
        """Add page and routes; distributed calls this."""
        self.feed = Feed(scheduler)
        self.secret = secrets.token_urlsafe(32)
        scheduler.handlers[SECRET_OPERATION] = self._tell
        self._shown = any(hasattr(each, "app_paths") for each in scheduler.http_application.applications)
        if not self._shown:
            return
        # Imported here only: a scheduler without a dashboard does not wait for Bokeh.
        from dask_root_lambda.dashboard import page

        prefix = page.show(find_feed, scheduler)
        scheduler.http_application.add_handlers(
            ".*$", routes.of(self.feed, self.secret, prefix, self._allowed_origins)
        )

    async def close(self) -> None:
        """Ask workers no more; distributed calls this."""
        self.feed.close()

    def __getstate__(self) -> dict[str, Any]:
        """Travel without a secret: each scheduler makes its own."""
        return {"_allowed_origins": self._allowed_origins}

    def _tell(self) -> str | None:
        return self.secret if self._shown else None


def find_feed(scheduler: Any) -> Feed | None:
    """Return the feed of a scheduler; None where no worker has ever had the executor."""
    plugin = scheduler.plugins.get(NAME)
    return plugin.feed if plugin is not None else None


def join_dashboard() -> None:
    """Add the page to Dask's own list, for schedulers that are made from now on."""
    from dask_root_lambda.dashboard import page

    page.join(find_feed)
