"""Signed URLs of objects in S3, by the SDK's credentials: they stay in this process."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lambda_runtime import IN_FUNCTION, traffic
from lambda_runtime.once import once
from lambda_runtime.remote.names import Place, S3Name

VALID_S = 6 * 3600
"""How long a signed URL is good for, unless the credentials expire before."""

_USERS = "DASK_ROOT_LAMBDA_USERS_"
"""What variables of an emulated environment begin with that hold the user's own AWS variables: its function
has a role of the emulated account, and the data is where the user's credentials lead."""
_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
)


@dataclass(frozen=True)
class Signed:
    """How an object is asked for."""

    url: str
    headers: tuple[str, ...] = ()


class Signer:
    """Signs for the S3 of one place, with one client for each region.

    Parameters
    ----------
    place
        Which S3.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._clients: dict[tuple[str | None, bool], Any] = {}
        self._regions: dict[str, str] = {}
        self._public: set[str] = set()

    def sign(self, name: S3Name) -> Signed:
        """Return how an object is asked for."""
        public = self.is_public(name.bucket)
        parameters = {"Bucket": name.bucket, "Key": name.key}
        if self._place.requester_pays:
            parameters["RequestPayer"] = "requester"
        client = self.client(name.bucket)
        url = client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=VALID_S)
        payer = ("x-amz-request-payer: requester",) if self._place.requester_pays and not public else ()
        return Signed(str(url), payer)

    def client(self, bucket: str, *, writes: bool = False) -> Any:
        """Return the client that reads a bucket, or writes to it: that signs, if there is a key."""
        key = self._regions.get(bucket), self._has_no_key() if writes else self.is_public(bucket)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = _client(self._place, *key)
            return self._clients[key]

    def is_public(self, bucket: str) -> bool:
        """Whether requests for a bucket are not signed."""
        return bucket in self._public or self._has_no_key()

    def _has_no_key(self) -> bool:
        return _is_foreign(self._place) or _session(self._place).get_credentials() is None

    def make_public(self, bucket: str) -> None:
        """Sign nothing for a bucket any more."""
        self._public.add(bucket)

    def keep_private(self, bucket: str) -> None:
        """Sign again for a bucket."""
        self._public.discard(bucket)

    def move(self, bucket: str, region: str) -> bool:
        """Note which region a bucket is in; False if that was known."""
        if self._regions.get(bucket) == region:
            return False
        self._regions[bucket] = region
        return True


_signers: dict[Any, Signer] = {}
_lock = threading.RLock()


def signer(place: Place) -> Signer:
    """Return this process's signer of a place."""
    with _lock:
        return _signers.setdefault((place, _session(place)), Signer(place))


def place(profile: str | None = None, endpoint: str | None = None, requester_pays: bool = False) -> Place:
    """Return the S3 that this process's user means.

    Parameters
    ----------
    profile
        Named profile of the AWS configuration.
    endpoint
        Another endpoint than the SDK's configuration names.
    requester_pays
        Whether the user agrees to pay for what is read.
    """
    session = _users_session(profile)
    return Place((_endpoint(session) if endpoint is None else endpoint).rstrip("/"), requester_pays)


_endpoints: dict[Any, str] = {}


def _endpoint(session: Any) -> str:
    """Return the endpoint that the SDK's configuration names; empty for AWS's own."""
    # Making a client takes 5 ms, and the place is asked for with each name of many.
    key = session, tuple(item for item in os.environ.items() if item[0].startswith("AWS_"))
    if key not in _endpoints:
        url = session.create_client("s3", region_name=_region(session)).meta.endpoint_url
        hostname = re.sub(r"^https?://", "", url)
        _endpoints[key] = "" if hostname.endswith((".amazonaws.com", ".amazonaws.com.cn")) else url
    return _endpoints[key]


def users_variables() -> dict[str, str]:
    """Return variables for an emulated environment, by which it reads data as this process's user."""
    given = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    for name, path in (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")):
        given.setdefault(name, os.path.expanduser(f"~/.aws/{path}"))  # noqa: PTH111  (a string)
    return {f"{_USERS}{name}": value for name, value in given.items()}


def _client(place: Place, region: str | None, public: bool) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        signature_version=UNSIGNED if public else "s3v4",
        # Names of buckets before the host are AWS's; others may not know them.
        s3={"addressing_style": "path"} if place.endpoint else {},
        ignore_configured_endpoint_urls=not place.endpoint,
        # As many as copies and looks at files use at once.
        max_pool_connections=32,
        connect_timeout=5,
        read_timeout=20,
        retries={"mode": "standard", "total_max_attempts": 4},
    )
    session = _session(place)
    # Its own parser tries all forms that a service may send, which for a list takes most of the time.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    client = session.create_client(
        "s3",
        region_name=region or _region(session),
        endpoint_url=place.endpoint or None,
        config=config,
    )
    traffic.watch(client, place.endpoint)
    return client


def _time(text: str) -> datetime:
    """Read a time as S3 writes it in lists, such as 2026-01-31T12:00:00.000Z; others as botocore does."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        from botocore.utils import parse_timestamp

        parsed: datetime = parse_timestamp(text)
        return parsed


def _session(place: Place) -> Any:
    """Return the session by whose credentials a place is read."""
    return _of_the_user() if _is_emulated() and place.endpoint != _own_endpoint() else _own()


def _is_foreign(place: Place) -> bool:
    """Whether a place has no use for a function's role, whose session token it need not see either."""
    return bool(IN_FUNCTION and not _is_emulated() and place.endpoint and place.endpoint != _own_endpoint())


def _own_endpoint() -> str:
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return named.rstrip("/")


def _is_emulated() -> bool:
    return any(name.startswith(_USERS) for name in os.environ)


def _region(session: Any) -> str:
    named = session.get_config_variable("region") or os.environ.get("AWS_REGION")
    return str(named or "us-east-1")


_profile: list[str | None] = [None]


def _users_session(profile: str | None) -> Any:
    _profile[0] = profile
    return _own()


def _own() -> Any:
    return _made(_profile[0], tuple(os.environ.get(name) for name in _VARIABLES))


_sessions: dict[Any, Any] = {}


def _made(profile: str | None, variables: Any) -> Any:
    import botocore.session

    with _lock:
        if (profile, variables) not in _sessions:
            _sessions[profile, variables] = botocore.session.Session(profile=profile)
        return _sessions[profile, variables]


@once
def _of_the_user() -> Any:
    """Return a session with the variables that are the user's of an emulated environment."""
    import botocore.session

    given = {name: os.environ.get(f"{_USERS}{name}") for name in _VARIABLES}
    session = botocore.session.Session(profile=given["AWS_PROFILE"])
    session.set_config_variable("config_file", given["AWS_CONFIG_FILE"])
    session.set_config_variable("credentials_file", given["AWS_SHARED_CREDENTIALS_FILE"])
    region = given["AWS_DEFAULT_REGION"] or given["AWS_REGION"]
    if region:
        session.set_config_variable("region", region)
    # The environment's own keys are those of the function's role.
    session.get_component("credential_provider").remove("env")
    if given["AWS_ACCESS_KEY_ID"]:
        session.set_credentials(
            given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"], given["AWS_SESSION_TOKEN"]
        )
    return session


def _forget() -> None:
    _signers.clear()
    _sessions.clear()
    _endpoints.clear()


os.register_at_fork(after_in_child=_forget)
