"""Where a user's machine keeps what lasts: Terraform's state, journals, the secret, unfinished runs."""

from __future__ import annotations

import os
import re
from pathlib import Path


def home() -> Path:
    """Return the directory of all that is kept; it may not exist yet."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    # https://specifications.freedesktop.org/basedir-spec/latest/: a relative path is to be ignored.
    state = named if named.is_absolute() else Path.home() / ".local" / "state"
    return state / "dask-root-lambda"


def directory(account: str, region: str, name: str, endpoint: str | None = None) -> Path:
    """Return the directory of one deployment; it may not exist yet.

    Parameters
    ----------
    account
        AWS's number of the account.
    region
        Name of the region.
    name
        Name of the deployment.
    endpoint
        Another endpoint than AWS's. Emulators claim all kinds of accounts, so what is in them is kept apart.
    """
    place = f"{account}-at-{_NOT_IN_NAMES.sub('-', endpoint)}" if endpoint else account
    return home() / place / region / name


_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.]+")
