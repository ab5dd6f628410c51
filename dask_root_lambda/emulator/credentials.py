"""Temporary credentials for execution roles."""

from __future__ import annotations

import secrets
import string

from dask_root_lambda.emulator.variables import Credentials

_KEY_LETTERS = string.ascii_uppercase + "234567"


def invent_credentials(role: str) -> Credentials:  # noqa: ARG001 - the same for all roles, which nobody checks
    """Credentials that look like those of a role, and that moto accepts for anything."""
    key = "ASIA" + "".join(secrets.choice(_KEY_LETTERS) for _ in range(16))
    return Credentials(key, secrets.token_urlsafe(30), secrets.token_urlsafe(120))
