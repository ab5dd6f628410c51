"""The token for CERN's storage: from the secret that only the function's role can read, to XRootD.

It is fetched when the first event comes, never before: so it is in no snapshot.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

logger = logging.getLogger(__name__)

SECRET_VARIABLE = "DASK_ROOT_LAMBDA_TOKEN_SECRET"  # noqa: S105  (a name)
"""Environment variable of the function: ARN of the secret; not set where there is none."""

FILE_VARIABLE = "BEARER_TOKEN_FILE"
"""Names the file that XRootD reads for each new connection, if only its owner can.
https://github.com/WLCG-AuthZ-WG/bearer-token-discovery"""

_KEPT_S = 600.0
"""How long a token is used before it is looked for again: who renews the secret need not deploy."""
_RETRY_S = 60.0
"""How long a secret that could not be read is left alone."""
_SUFFIX = re.compile(r"-[A-Za-z0-9]{6}$")
_LAST_S = 1e11
"""Seconds since the epoch that are a time, in the next thousands of years."""


class StorageToken:
    """Keeps the file that `FILE_VARIABLE` names as the secret is.

    Parameters
    ----------
    fetch
        Reads a secret, by its ARN.
    clock
        Seconds since the epoch: those in which the environment is frozen count.
    """

    def __init__(
        self, fetch: Callable[[str], str] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._fetch = fetch or _fetch
        self._clock = clock
        self._due_s: float | None = None
        self._file: Path | None = None
        self.problem = ""
        """Why there is no token, or an old one only; empty if all is well. Nothing of the secret is in it."""

    def keep_fresh(self) -> None:
        """Fetch the token if there is a secret, and it was not looked at lately.

        Files that need no token are read without it: a missing token is therefore logged, not raised.
        """
        if self._file is not None:
            # Variables that were restored may be of the time before there was a token.
            os.environ.setdefault(FILE_VARIABLE, str(self._file))
        secret, now_s = os.environ.get(SECRET_VARIABLE), self._clock()
        if not secret or (self._due_s is not None and now_s < self._due_s <= now_s + _KEPT_S):
            return
        try:
            with _nothing_logged():
                text = self._fetch(secret).strip()
                self._file = _write(text)
        except Exception as error:  # botocore makes its error classes at run time
            self.problem = f"the token for storage cannot be read from the function's secret: {_name(error)}"
            self._due_s = now_s + _RETRY_S
            logger.warning("%s", self.problem)
        else:
            self.problem = ""
            end_s = _end_s(text) or math.inf
            # When it expires there may be a new one; until there is, it is looked for now and then.
            self._due_s = min(now_s + _KEPT_S, max(now_s + _RETRY_S, end_s))


def _fetch(secret: str) -> str:
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
    client = boto3.client("secretsmanager", config=config)
    return str(client.get_secret_value(SecretId=secret)["SecretString"])


def _write(token: str) -> Path:
    """Replace the file as a whole: a connection may just be reading it. Return it."""
    if not token:
        raise ValueError("it is empty")
    directory = Path(tempfile.gettempdir())
    descriptor, path = tempfile.mkstemp(dir=directory)  # which only its owner may read
    with os.fdopen(descriptor, "w") as file:
        file.write(token)
    target = directory / f"bt_u{os.geteuid()}"
    Path(path).replace(target)
    if os.environ.get(FILE_VARIABLE) != str(target):
        os.environ[FILE_VARIABLE] = str(target)
    return target


def expired(environment: Mapping[str, str] = os.environ, now_s: float | None = None) -> str:
    """Say that the token that XRootD finds has expired, and when; empty if it has not, or does not tell.

    Nothing of the token is in it.
    """
    for place, text in _found(environment):
        end_s = _end_s(text)
        if end_s is not None and end_s <= (time.time() if now_s is None else now_s):
            ended = datetime.fromtimestamp(end_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
            where, what_to_do = place, "renew it"
            if place == environment.get(FILE_VARIABLE) and is_from_secret(environment):
                name = _secret_name(environment[SECRET_VARIABLE])
                where = f"the secret {name}"
                what_to_do = (
                    f"put a new one there with 'aws secretsmanager put-secret-value --secret-id {name} "
                    "--secret-string file://TOKEN', which functions find within a minute"
                )
            return f"the token for storage in {where} expired at {ended}: {what_to_do}"
        return ""
    return ""


def is_from_secret(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process has its token from a secret, where a new one may be by now."""
    return bool(environment.get(SECRET_VARIABLE))


def _secret_name(arn: str) -> str:
    """Return a secret's name, without the six characters that AWS puts behind it in an ARN."""
    return _SUFFIX.sub("", arn.rpartition(":secret:")[2])


def _found(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield tokens, and where each is, in the order in which XRootD looks for one."""
    if environment.get("BEARER_TOKEN"):
        yield "the variable BEARER_TOKEN", environment["BEARER_TOKEN"]
    name = f"bt_u{os.geteuid()}"
    files = [environment.get(FILE_VARIABLE), f"/tmp/{name}"]  # noqa: S108  (as the standard says)
    if "XDG_RUNTIME_DIR" in environment:
        files.insert(1, f"{environment['XDG_RUNTIME_DIR']}/{name}")
    for file in filter(None, files):
        try:
            yield file, Path(file).read_text()
        except (OSError, UnicodeDecodeError):
            continue


def _end_s(token: str) -> float | None:
    """Return until when a JSON Web Token holds, seconds since the epoch; None for others."""
    try:
        claims = token.strip().split(".")[1]
        end_s = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return float(end_s) if 0 < end_s < _LAST_S else None
    except (IndexError, KeyError, TypeError, ValueError):
        return None


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Log nothing at DEBUG in the block: botocore's lines would hold the secret."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.DEBUG))
    try:
        yield
    finally:
        logging.disable(before)


def _name(error: Exception) -> str:
    """Return the service's code, or the error's class: a message could quote what was read."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return str(code or type(error).__name__)


token = StorageToken()
"""This process's."""
