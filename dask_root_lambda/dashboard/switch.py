"""Bokeh's switch of validation, thread by thread.

Bokeh has one for the process, and Dask turns it off while it draws. The dashboards of two clusters in one
process are drawn by two threads: the second takes "off" for what it is to go back to, and off it stays. And
Bokeh converts only what it validates: with the switch off, a color that is a column is sent as a constant,
which no browser can draw, and Dask's own pages cannot be made.
"""

from __future__ import annotations

import threading

from bokeh.core.property import bases, validation


class _Off(threading.local):
    """How often the thread has turned it off and not yet on again."""

    times = 0


_off = _Off()


class _ByThread:
    """Stands for Bokeh's `validate` in functions that are decorated with `without_property_validation`."""

    def __init__(self, value: bool) -> None:
        self._times = 0 if value else 1

    def __enter__(self) -> None:
        _off.times += self._times

    def __exit__(self, *_: object) -> None:
        _off.times -= self._times


def turn_by_thread() -> None:
    """Have what Bokeh and Dask draw without validation turn it off for their thread alone.

    What users turn off, by ``bokeh.core.properties.validate``, is off for all threads, as ever.
    """
    validation.validate = _ByThread
    bases.validation_on = _is_on


def _is_on() -> bool:
    return bases.Property._should_validate and not _off.times
