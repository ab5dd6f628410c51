"""Copies side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial

from dask_root_lambda.copying.plan import Item
from dask_root_lambda.execution.executor import LambdaExecutor
from dask_root_lambda.protocol.errors import DaskRootLambdaError, RunCancelledError
from lambda_runtime.copying import transfer


@dataclass
class Outcome:
    """What became of a plan."""

    copied: list[Item] = field(default_factory=list)
    skipped: list[Item] = field(default_factory=list)
    failed: list[tuple[Item, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def copied_bytes(self) -> int:
        """Bytes of the files that were copied."""
        return sum(item.content.size for item in self.copied)


@dataclass(frozen=True)
class Watch:
    """Who is told what goes on."""

    came: Callable[[int], None]
    """Called with numbers of bytes, in any thread."""
    done: Callable[[Item, str | None], None]
    """Called with each file that is copied, or the reason why not."""


def run(
    items: Sequence[Item], at_once: int, watch: Watch, functions: LambdaExecutor | None = None
) -> Outcome:
    """Copy what is not there; a file that fails does not stop the others.

    Parameters
    ----------
    items
        The plan.
    at_once
        Files that are copied side by side in this process.
    watch
        Who is told.
    functions
        Where files that are far at both ends are copied; None for this process.
    """
    began_s = time.monotonic()
    outcome = Outcome(skipped=[item for item in items if item.is_there])
    stopped = threading.Event()

    def came(n_bytes: int) -> None:
        if stopped.is_set():
            raise RunCancelledError("the copy was stopped")
        watch.came(n_bytes)

    with ThreadPoolExecutor(at_once, "copy") as pool:
        try:
            futures: dict[Future[None], Item] = {}
            for item in items:
                if item.is_there:
                    continue
                if functions is not None and item.is_far:
                    future = functions.submit(transfer.copy, item.content, item.target)
                    future.add_done_callback(partial(_count, item, watch))
                else:
                    future = pool.submit(transfer.copy, item.content, item.target, came)
                futures[future] = item
            for future in as_completed(futures):
                _note(outcome, futures[future], future.exception(), watch)
        finally:
            # Ctrl-C, or a defect: what is under way ends at its next block, and leaves nothing.
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
    outcome.seconds = time.monotonic() - began_s
    return outcome


def _count(item: Item, watch: Watch, future: Future[None]) -> None:
    """Count the bytes of a file that a function has copied."""
    if not future.cancelled() and future.exception() is None:
        watch.came(item.content.size)


def _note(outcome: Outcome, item: Item, error: BaseException | None, watch: Watch) -> None:
    if error is None:
        outcome.copied.append(item)
        watch.done(item, None)
        return
    if not isinstance(error, DaskRootLambdaError):
        raise error
    outcome.failed.append((item, error.message))
    watch.done(item, error.message)
