"""Results of runs that are done, kept on this user's machine for later sessions, where the user asks for it.

A run's identity covers the graph, the code and files it uses, and the content of what it reads. So what is
found under it is what the run would give again, and what an edited graph or a changed file would not find.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dask_root_lambda import state_home
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.protocol import seal, wire
from dask_root_lambda.protocol.errors import DamagedBlobError

logger = logging.getLogger(__name__)

_DAY_S = 86_400.0
_MOST_BYTES = 1_000_000_000
"""Results of a run that are larger together are not kept."""


def keep(space: RunSpace, blobs: Sequence[bytes], days: int) -> None:
    """Keep the results of a run; where nothing can be written, nothing is kept.

    Parameters
    ----------
    space
        The run.
    blobs
        Its results.
    days
        For how long results are kept; those that are older are deleted.
    """
    if space.not_reused or sum(map(len, blobs)) > _MOST_BYTES:
        return
    path = _path(space)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(path.parent, days)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(seal.sealed(space.key, _name(space), wire.dumps(tuple(blobs))))
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        logger.warning("the results of run %s are not kept: %s", space.run[:8], error)


def find(space: RunSpace, days: int) -> tuple[bytes, ...] | None:
    """Return the results of a run that an earlier session kept; None if there are none.

    Parameters
    ----------
    space
        The run.
    days
        How old they may be.
    """
    if space.not_reused:
        return None
    path = _path(space)
    try:
        age_s = time.time() - path.stat().st_mtime
        if age_s > days * _DAY_S:
            return None
        blobs: tuple[bytes, ...] = wire.loads(seal.opened(space.key, _name(space), path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, DamagedBlobError) as error:
        logger.warning("results that were kept are computed again: %s", error)
        return None
    logger.info("the results of run %s are those of an earlier session, %.0f s old", space.run[:8], age_s)
    return blobs


def _name(space: RunSpace) -> str:
    return f"results/{space.run}"


def _path(space: RunSpace) -> Path:
    return state_home.home() / _name(space)


def _sweep(directory: Path, days: int) -> None:
    oldest_s = time.time() - days * _DAY_S
    for path in directory.iterdir():
        if path.stat().st_mtime < oldest_s:
            path.unlink(missing_ok=True)
