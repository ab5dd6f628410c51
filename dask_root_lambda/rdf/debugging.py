"""Running one range of a run again, in this process and thread, where a debugger stops."""

from __future__ import annotations

import os
import pdb
import re
import shlex
import sys
from collections.abc import Iterator

from dask_root_lambda import shown
from dask_root_lambda.plan.steps import PackedMapper
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import ConfigurationError, DaskRootLambdaError
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.task import Mapper, PartialResult
from lambda_runtime import diagnostics
from lambda_runtime.datasets import entries_of
from lambda_runtime.mappers import LoadedMapper
from lambda_runtime.runner import Runner

_TASK = re.compile(r"-range-[0-9a-f]+-(\d+)((?:\.[01])*)$")
"""The task of a range, as errors name it: its number in the run, and which half of which half it is."""


def failed_range(error: BaseException | None) -> str | None:
    """Return which range an error is of, such as ``17``, or ``17.0`` for its first half."""
    found = _TASK.search(getattr(error, "task", None) or "")
    return None if found is None else f"{found[1]}{found[2]}"


def interval_of(mapper: PackedMapper, name: int | str) -> tuple[int, Interval]:
    """Return the number and the interval of a range of a run.

    Raises
    ------
    ConfigurationError
        The run has no such range.
    """
    number, *halves = str(name).split(".")
    if not number.isdecimal() or int(number) >= mapper.n_ranges or not {*halves} <= {"0", "1"}:
        raise ConfigurationError(
            f"the run has no range {name!r}: it has {mapper.n_ranges:,}, from 0, and .0 and .1 are halves"
        )
    interval = mapper.division[int(number)]
    for half in halves:
        interval = interval.halves[int(half)]
    return int(number), interval


def run(mapper: PackedMapper, name: int | str, place: int, *, attach: bool) -> bytes | None:
    """Run a range again, and say what it is, and how C++ is debugged.

    What Python code of the user's raises opens pdb where it was raised, and is raised.

    Parameters
    ----------
    mapper
        Graph and dataset of the run.
    name
        Which range; see `failed_range`.
    place
        Which of the results of the run is returned.
    attach
        Whether to wait until a debugger is attached.

    Returns
    -------
    bytes or None
        The result of this range alone, as a blob; None where it has no entries.
    """
    index, interval = interval_of(mapper, name)
    for line in _described(mapper, name, index, interval):
        _say(line)
    if attach:
        input("Attach it, then press Enter here.")
    try:
        with diagnostics.python_as_raised():
            blob, entries = Runner(shared=True).map(mapper.digest, lambda: mapper.blob, index, interval)
    except DaskRootLambdaError:
        raise
    except Exception as error:  # whatever the user's Python raises
        _say(f"{type(error).__name__}: {error}")
        pdb.post_mortem(error.__traceback__)
        raise
    _say(f"range {name} is done: {entries:,} entries")
    values = wire.loads_as(PartialResult, blob).values
    return None if values is None else wire.dumps(values[place])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _described(mapper: PackedMapper, name: int | str, index: int, interval: Interval) -> Iterator[str]:
    yield f"range {name} of {mapper.n_ranges:,}, in this process and thread:"
    loaded = LoadedMapper.read(wire.loads_as(Mapper, mapper.blob))
    for url, tree, start, stop in entries_of(loaded.program.range(index, interval)):
        where = f" of {tree} in {shown.without_secrets(url)}" if url else ""
        yield f"  entries {start:,} to {stop:,}{where}"
    yield "Python code stops at pdb.set_trace()."
    yield f"C++: {attaching()}"
    if starting():
        yield f"C++ that ends the process: {starting()}"


def attaching() -> str:
    """Return the command that attaches gdb to this process, and stops where C++ throws."""
    return f"gdb -p {os.getpid()} -ex 'catch throw' -ex continue"


def starting() -> str:
    """Return the command that starts this script under gdb; empty where there is no script."""
    script = sys.orig_argv[1:2]
    if not script or script[0].startswith("-"):
        return ""
    return f"gdb -ex run --args {shlex.join([sys.executable, *sys.orig_argv[1:]])}"
