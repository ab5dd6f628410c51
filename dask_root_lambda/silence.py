"""What distributed and asyncio log of our tasks though the user knows it: dropped."""

from __future__ import annotations

import asyncio
import logging

from distributed.client import AllExit

from dask_root_lambda.plan.graph import PREFIX


def _is_raised(record: logging.LogRecord) -> bool:
    """Tell whether it is about a failed task of ours: the user gets the same error raised."""
    if not str(record.msg).startswith("Compute Failed") or not isinstance(record.args, tuple):
        return False
    key = record.args[0]
    return str(key[0] if isinstance(key, tuple) else key).startswith(PREFIX)


def _is_stopped(record: logging.LogRecord) -> bool:
    """Tell whether it is about a coroutine that was stopped, as the user asked by Ctrl-C or by closing."""
    text = str(record.msg)
    if text.startswith("Async instruction for ") and text.endswith("ended with CancelledError"):
        return True
    # distributed cancels a coroutine that may not have begun.
    if text.startswith("Exception in callback") and "sync.<locals>.cancel" in record.getMessage():
        return True
    error = record.exc_info[1] if record.exc_info else None
    return isinstance(error, AllExit | asyncio.CancelledError)


def _wanted(record: logging.LogRecord) -> bool:
    return not (_is_raised(record) or _is_stopped(record))


for _name in ("distributed.worker", "distributed.worker.state_machine", "asyncio", "tornado.application"):
    logging.getLogger(_name).addFilter(_wanted)
