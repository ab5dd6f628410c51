"""Who may steer: a page of the dashboard itself that sends the secret.

The dashboard has no login, and web pages of any origin can send it requests from the user's browser. A page
that has bound a name of its own to this machine (DNS rebinding) even has the dashboard's origin, as browsers
see it: so names are compared as well.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

SECRET_HEADER = "X-Dask-Root-Lambda-Secret"  # noqa: S105  (the name of where it is)


def refusal(
    headers: Mapping[str, str], secret: str, allowed_origins: Collection[str], names: Collection[str] = ()
) -> str | None:
    """Say why a request may not change anything; None where it may.

    Parameters
    ----------
    headers
        Of the request.
    secret
        What a request has to send to steer.
    allowed_origins
        Origins of proxies through which users see the dashboard, such as ``https://hub.example.org``.
    names
        Names of this machine, besides ``localhost`` and numeric addresses.
    """
    host, origin = headers.get("Host", ""), headers.get("Origin")
    allowed = {each.rstrip("/").lower() for each in allowed_origins}
    known = {"localhost", *(name.lower() for name in names), *(_hostname(each) for each in allowed)}
    if _hostname(f"//{host}") not in known and not _is_address(_hostname(f"//{host}")):
        return f"the dashboard is not known as {host!r}: open it by its address, {_SETTING}"
    if origin is not None and origin.lower() not in allowed and urlsplit(origin).netloc != host:
        return f"a page of {origin!r} may not steer, {_SETTING}"
    if not hmac.compare_digest(headers.get(SECRET_HEADER, "").encode(), secret.encode()):
        return "only who has the secret may steer: steering_link() of the cluster gives the link"
    return None


_SETTING = "or add its origin to dask-root-lambda.dashboard.allowed-origins"


def machine_names() -> tuple[str, ...]:
    """Return the names of this machine: nobody else can bind them."""
    name = socket.gethostname()
    return (name, name.partition(".")[0])


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
