"""What ROOT cannot start without: it would end the process, with a text about something else."""

from __future__ import annotations

import os
import pwd

from dask_root_lambda.protocol.errors import ConfigurationError


def check() -> None:
    """Look for a current directory, and for a home.

    Raises
    ------
    ConfigurationError
        There is none.
    """
    try:
        os.getcwd()  # noqa: PTH109  (is it there?)
    except OSError as error:
        raise ConfigurationError(
            f"the current directory cannot be used: {error.strerror}. Change to one that exists"
        ) from None
    if os.environ.get("HOME") is None:
        try:
            pwd.getpwuid(os.getuid())
        except KeyError:
            raise ConfigurationError(
                f"user {os.getuid()} has no home directory, which ROOT needs: set HOME"
            ) from None
