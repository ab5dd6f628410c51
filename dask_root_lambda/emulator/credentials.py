"""Temporary credentials: an environment has those of its function's role, and no others."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass

from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.variables import Credentials

_KEY_LETTERS = string.ascii_uppercase + "234567"


@dataclass(frozen=True)
class RoleSession:
    """Credentials, and whose they are."""

    role: str
    """ARN of the role."""
    name: str
    """Of the session: the function's, as on AWS."""
    credentials: Credentials
    """To sign with."""

    @property
    def arn(self) -> str:
        """ARN of the session."""
        account, role = self.role.split(":")[4], self.role.rpartition("/")[2]
        return f"arn:aws:sts::{account}:assumed-role/{role}/{self.name}"


class RoleSessions:
    """The sessions of functions' roles, one for each function and role."""

    def __init__(self) -> None:
        self._by_function: dict[tuple[str, str], RoleSession] = {}
        self._by_key: dict[str, RoleSession] = {}

    def of(self, version: FunctionVersion) -> Credentials:
        """Find or make the credentials of a function."""
        key = (version.role, version.name)
        session = self._by_function.get(key)
        if session is None:
            session = RoleSession(version.role, version.name, make_credentials())
            self._by_function[key] = session
            self._by_key[session.credentials.access_key_id] = session
        return session.credentials

    def find(self, access_key_id: str) -> RoleSession | None:
        """Find whose an access key is."""
        return self._by_key.get(access_key_id)


def make_credentials(prefix: str = "ASIA") -> Credentials:
    """Make credentials that look like those of AWS."""
    key = prefix + "".join(secrets.choice(_KEY_LETTERS) for _ in range(16))
    return Credentials(key, secrets.token_urlsafe(30), secrets.token_urlsafe(120))
