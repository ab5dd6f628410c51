"""Copies side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dask_root_lambda.copying import large, written
from dask_root_lambda.copying.plan import Item
from dask_root_lambda.execution.executor import LambdaExecutor
from dask_root_lambda.protocol.errors import DaskRootLambdaError, RunCancelledError
from lambda_runtime.copying import pieces, transfer
from lambda_runtime.copying.content import Content
from lambda_runtime.copying.uploads import Part, Upload
from lambda_runtime.remote import names

_FAR_AT_ONCE = 256
"""Large files whose parts functions send at once: a thread here waits for each."""


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
    crew = _Crew(at_once, watch, functions)
    try:
        futures = {crew.copy(item): item for item in items if not item.is_there}
        for future in as_completed(futures):
            item = futures[future]
            if future.exception() is None and names.is_xrootd(item.target):
                written.remember(item.target, item.content, future.result())
            _note(outcome, item, future.exception(), watch)
    finally:
        # Ctrl-C, or a defect: what is under way ends at its next block.
        crew.stop()
    outcome.seconds = time.monotonic() - began_s
    return outcome


class _Crew:
    """Who copies: threads of this process, and functions.

    Parameters
    ----------
    at_once
        Files that are copied side by side in this process.
    watch
        Who is told.
    functions
        Where files that are far at both ends are copied; None for this process.
    """

    def __init__(self, at_once: int, watch: Watch, functions: LambdaExecutor | None) -> None:
        self._watch = watch
        self._functions = functions
        self._stopped = threading.Event()
        self._files = ThreadPoolExecutor(at_once, "copy")
        self._pieces = ThreadPoolExecutor(at_once, "copy-pieces")
        self._far = ThreadPoolExecutor(_FAR_AT_ONCE, "copy-far")

    def copy(self, item: Item) -> Future[Any]:
        """Copy a file; see `lambda_runtime.copying.transfer.copy`."""
        content, name = item.content, item.object
        functions = self._functions if item.is_far else None
        if name is not None and large.is_large(content, name):
            pool, submit = (self._far, self._submit_far) if functions else (self._files, self._submit_here)
            return pool.submit(large.copy, content, name, submit, self._came)
        if functions is None:
            return self._files.submit(transfer.copy, content, item.target, self._came)
        future = functions.submit(transfer.copy, content, item.target)
        future.add_done_callback(partial(self._count, lambda _: content.size))
        return future

    def stop(self) -> None:
        """Begin no more, and wait for what goes on in this process; functions are ended with the executor."""
        self._stopped.set()
        for pool in (self._files, self._pieces, self._far):
            pool.shutdown(wait=False, cancel_futures=True)
        self._pieces.shutdown()
        self._files.shutdown()

    def _came(self, n_bytes: int) -> None:
        if self._stopped.is_set():
            raise RunCancelledError("the copy was stopped")
        self._watch.came(n_bytes)

    def _submit_here(self, content: Content, upload: Upload, numbers: Sequence[int]) -> Future[list[Part]]:
        return self._pieces.submit(pieces.copy, content, upload, numbers, self._came)

    def _submit_far(self, content: Content, upload: Upload, numbers: Sequence[int]) -> Future[list[Part]]:
        assert self._functions is not None
        future = self._functions.submit(pieces.copy, content, upload, numbers)
        future.add_done_callback(
            partial(self._count, lambda parts: sum(upload.span(part.number)[1] for part in parts))
        )
        return future

    def _count(self, n_bytes: Callable[[Any], int], future: Future[Any]) -> None:
        """Count what a function has copied."""
        if not future.cancelled() and future.exception() is None:
            self._watch.came(n_bytes(future.result()))


def _note(outcome: Outcome, item: Item, error: BaseException | None, watch: Watch) -> None:
    if error is None:
        outcome.copied.append(item)
        watch.done(item, None)
        return
    if not isinstance(error, DaskRootLambdaError):
        raise error
    outcome.failed.append((item, error.message))
    watch.done(item, error.message)
