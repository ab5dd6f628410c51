"""Who may do what: signatures checked and policies applied, where the emulator is told to.

Users, their keys, roles and policies are those of moto's IAM. One more key, of the account's root user, may
do everything: something must be able to make the first role.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Any
from xml.sax.saxutils import escape

from dask_root_lambda.emulator.actions import Demand, demands_of
from dask_root_lambda.emulator.credentials import RoleSessions, make_credentials
from dask_root_lambda.emulator.endpoint import Request, Response
from dask_root_lambda.emulator.policies import is_allowed, names_principal
from dask_root_lambda.emulator.signature import Signature, read_signature, verify
from dask_root_lambda.emulator.variables import Credentials

logger = logging.getLogger(__name__)

# AWS takes signatures of the last and the next five minutes; S3 of fifteen.
CLOCK_SKEW_S = 900.0

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class Principal:
    """Who sends a request."""

    arn: str
    """Of a user or a role's session."""
    secret_access_key: str = field(repr=False)
    """To verify signatures with."""
    session_token: str = field(repr=False)
    """Of temporary credentials; else empty."""
    policies: Callable[[], Iterable[Policy]] | None
    """What it may do; None for everything."""


@dataclass(frozen=True)
class Denial:
    """Why a request is refused."""

    code: str
    """Of services in general."""
    s3_code: str
    """Of S3, which has names of its own."""
    message: str
    """For the user."""


class Gate:
    """Checks every request before its service gets it.

    Parameters
    ----------
    region
        Of the account.
    account_id
        Of the account.
    sessions
        The functions' credentials.
    statements
        Of a function's own policy, from its ARN.
    """

    def __init__(
        self,
        region: str,
        account_id: str,
        sessions: RoleSessions,
        statements: Callable[[str], Iterable[Mapping[str, Any]]],
    ) -> None:
        self._region = region
        self._account_id = account_id
        self._sessions = sessions
        self._statements = statements
        self.root: Credentials = make_credentials("AKIA")
        """Credentials that may do everything; they have no session token."""

    def check(self, request: Request) -> Response | None:
        """Return the refusal of a request; None if it may pass."""
        signature = read_signature(request)
        if signature is None:
            message = "Request is missing Authentication Token"
            return refusal(
                request, "", Denial("MissingAuthenticationTokenException", "AccessDenied", message)
            )
        found = self._check(request, signature)
        return None if found is None else refusal(request, signature.service, found)

    def _check(self, request: Request, signature: Signature) -> Denial | None:
        principal = self._find(signature.access_key_id)
        if principal is None or principal.session_token != signature.session_token:
            message = "The security token included in the request is invalid."
            return Denial("UnrecognizedClientException", "InvalidAccessKeyId", message)
        if not _is_fresh(signature.timestamp):
            return Denial(
                "InvalidSignatureException",
                "RequestTimeTooSkewed",
                f"Signature expired: {signature.timestamp} is too far from now",
            )
        if not verify(request, signature, principal.secret_access_key):
            return Denial(
                "InvalidSignatureException",
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method.",
            )
        return self._authorize(request, signature, principal)

    def _authorize(self, request: Request, signature: Signature, principal: Principal) -> Denial | None:
        if principal.policies is None:
            return None
        policies = list(principal.policies())
        for demand in demands_of(request, signature.service, signature.region, self._account_id):
            denial = self._deny(demand, principal, policies)
            if denial is not None:
                # S3 would delete the other objects of a request for several.
                return denial
        return None

    def _deny(self, demand: Demand, principal: Principal, policies: list[Policy]) -> Denial | None:
        if not demand.action or demand.action == "sts:GetCallerIdentity":
            return None
        if is_allowed(policies, demand.action, demand.resource):
            return None
        if self._resource_allows(demand, principal):
            return None
        return Denial(
            "AccessDeniedException",
            "AccessDenied",
            f"User: {principal.arn} is not authorized to perform: {demand.action} on resource: "
            f"{demand.resource or '*'} because no identity-based policy allows the {demand.action} action",
        )

    def _resource_allows(self, demand: Demand, principal: Principal) -> bool:
        if demand.resource is None or not demand.action.startswith("lambda:"):
            return False
        named = (
            statement
            for statement in self._statements(demand.resource)
            if names_principal(statement, principal.arn, self._account_id)
        )
        return is_allowed([{"Statement": list(named)}], demand.action, demand.resource)

    def _find(self, access_key_id: str) -> Principal | None:
        if access_key_id == self.root.access_key_id:
            root = f"arn:aws:iam::{self._account_id}:root"
            return Principal(root, self.root.secret_access_key, "", None)
        session = self._sessions.find(access_key_id)
        if session is not None:
            credentials = session.credentials
            return Principal(
                session.arn,
                credentials.secret_access_key,
                credentials.session_token,
                partial(_role_policies, self._account_id, session.role),
            )
        return _find_in_moto(self._account_id, access_key_id)


def _is_fresh(timestamp: str) -> bool:
    try:
        signed = datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return False
    return abs((datetime.now(timezone.utc) - signed).total_seconds()) < CLOCK_SKEW_S


def _find_in_moto(account_id: str, access_key_id: str) -> Principal | None:
    from moto.iam.models import iam_backends
    from moto.sts.models import sts_backends

    for user in iam_backends[account_id]["aws"].users.values():
        for key in user.access_keys:
            if key.access_key_id == access_key_id and key.status == "Active":
                policies = partial(_user_policies, account_id, user.name)
                return Principal(user.arn, key.secret_access_key, "", policies)
    role = sts_backends[account_id]["aws"].get_assumed_role_from_access_key(access_key_id)
    if role is None:
        return None
    return Principal(
        role.arn,
        role.secret_access_key,
        role.session_token,
        partial(_role_policies, account_id, role.role_arn),
    )


def _user_policies(account_id: str, name: str) -> list[Policy]:
    from moto.iam.access_control import IAMUserAccessKey

    # moto knows how groups and attachments add up; it only wants to be asked by access key.
    asked = IAMUserAccessKey.__new__(IAMUserAccessKey)
    asked.account_id, asked.partition, asked._owner_user_name = account_id, "aws", name
    return _documents(asked.collect_policies())


def _role_policies(account_id: str, arn: str) -> list[Policy]:
    from moto.iam.access_control import AssumedRoleAccessKey
    from moto.iam.exceptions import NotFoundException

    asked = AssumedRoleAccessKey.__new__(AssumedRoleAccessKey)
    asked.account_id, asked.partition, asked._owner_role_name = account_id, "aws", arn.rpartition("/")[2]
    try:
        return _documents(asked.collect_policies())
    except NotFoundException:
        # A function may have been made with a role that nobody made: it may do nothing.
        return []


def _documents(policies: Iterable[Any]) -> list[Policy]:
    from moto.iam.access_control import IAMPolicy

    return [IAMPolicy(policy)._policy_json for policy in policies]


def refusal(request: Request, service: str, denial: Denial) -> Response:
    """Word a refusal in the protocol of its service."""
    request_id = str(uuid.uuid4())
    identity = ("x-amzn-RequestId", request_id)
    if service == "s3" or (not service and "x-amz-target" not in request.headers):
        text = f"<Error><Code>{denial.s3_code}</Code><Message>{escape(denial.message)}</Message></Error>"
        return _xml(text, identity)
    if "x-amz-target" in request.headers:
        document = {"__type": denial.code, "message": denial.message}
        headers = (("Content-Type", "application/x-amz-json-1.1"), identity)
        return Response(400, headers, json.dumps(document).encode())
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        code = denial.code.removesuffix("Exception")
        error = f"<Type>Sender</Type><Code>{code}</Code><Message>{escape(denial.message)}</Message>"
        text = f"<ErrorResponse><Error>{error}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        return _xml(text, identity)
    kind = ("x-amzn-ErrorType", denial.code)
    body = json.dumps({"Message": denial.message}).encode()
    return Response(403, (("Content-Type", "application/json"), kind, identity), body)


def _xml(text: str, identity: tuple[str, str]) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Response(403, (("Content-Type", "application/xml"), identity), body)
