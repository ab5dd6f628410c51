"""The states of the workers, as the scheduler has them: asked for while somebody looks, and not longer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask_root_lambda.dashboard import state
from dask_root_lambda.dashboard.gallery import Gallery
from dask_root_lambda.dashboard.looking import Looking
from dask_root_lambda.dashboard.state import State

METRIC = "lambda"
"""Name under which workers report that they have the executor."""
STATE_OPERATION = "dask_root_lambda_state"
"""What the scheduler asks workers for."""

PERIOD_S = 0.5
"""Seconds between two looks at the workers, and more where there is more to tell."""
_ROWS_PER_S = 1_000
"""Ranges that are told in a second."""
_ANSWER_S = 5.0
"""How long a worker's answer is waited for."""
_POINTS = 600
"""Moments that are remembered."""


@dataclass(frozen=True)
class Moment:
    """What the curves are made of."""

    at_s: float
    """Seconds since the epoch."""
    in_flight: int
    concurrency: int
    entries_per_s: float
    """Entries processed in a second, since the moment before."""


class Feed:
    """The last state of all workers together, and how it was before.

    Parameters
    ----------
    scheduler
        Dask's scheduler, on whose event loop everything here happens.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self.state: State | None = None
        """None as long as no worker has answered."""
        self.moments: deque[Moment] = deque(maxlen=_POINTS)
        self.gallery = Gallery(scheduler, lambda: self.workers)
        """What there is of the results of runs."""
        self._looking = Looking(self._ask_on, PERIOD_S)

    def look(self) -> State | None:
        """Return the last state, and have the workers asked for the next one for a while."""
        self._looking.look()
        return self.state

    @property
    def workers(self) -> list[str]:
        """Addresses of the workers that have the executor."""
        return [address for address, each in self._scheduler.workers.items() if METRIC in each.metrics]

    async def ask(self) -> State | None:
        """Ask the workers now, and return what they say; the last state if there is none."""
        answers = await self._send(STATE_OPERATION, _ANSWER_S, [{}] * len(self.workers))
        states = [State.from_json(text) for text in answers if isinstance(text, str)]
        if states:
            self._keep(state.together(states))
        return self.state

    async def tell(self, operation: str, timeout_s: float, messages: Sequence[Mapping[str, str]]) -> str:
        """Tell the workers to do something; return what went wrong, empty where nothing did.

        Parameters
        ----------
        operation
            What they are asked for.
        timeout_s
            How long each may take.
        messages
            What each of `workers` is told.
        """
        answers = await self._send(operation, timeout_s, messages)
        if not answers:
            return "no worker has the executor"
        said = (
            f"a worker has not answered: {answer!r}" if isinstance(answer, BaseException) else answer
            for answer in answers
        )
        return "; ".join(dict.fromkeys(each for each in said if each))

    async def _send(
        self, operation: str, timeout_s: float, messages: Sequence[Mapping[str, str]]
    ) -> list[str | BaseException]:
        """Send a message to each worker that has the executor; return what they answer, or the errors."""
        asked = zip(self.workers, messages, strict=True)
        sent = [getattr(self._scheduler.rpc(worker), operation)(**message) for worker, message in asked]
        waits = (asyncio.wait_for(each, timeout_s) for each in sent)
        return list(await asyncio.gather(*waits, return_exceptions=True))

    def close(self) -> None:
        """Ask no more."""
        self._looking.close()
        self.gallery.close()

    async def _ask_on(self) -> float:
        await self.ask()
        rows = len(self.state.ranges.index) if self.state is not None else 0
        return max(PERIOD_S, rows / _ROWS_PER_S)

    def _keep(self, new: State) -> None:
        old, self.state = self.state, new
        entries_per_s = 0.0
        if old is not None and new.at_s > old.at_s:
            entries_per_s = max(0, new.total["entries"] - old.total["entries"]) / (new.at_s - old.at_s)
        self.moments.append(Moment(new.at_s, new.in_flight, new.concurrency, entries_per_s))
