"""What IAM policies allow: actions and resources with wildcards; a denial wins.

Conditions are not evaluated: a statement with one counts as if it were met.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

Statement: TypeAlias = Mapping[str, Any]


def is_allowed(policies: Iterable[Mapping[str, Any]], action: str, resource: str | None) -> bool:
    """Tell whether policies allow an action.

    Parameters
    ----------
    policies
        Policy documents of one principal.
    action
        As in ``lambda:InvokeFunction``.
    resource
        Its ARN; None where it is not known, and any will do.
    """
    allowed = False
    for statement in _statements(policies):
        if _concerns(statement, action, resource):
            if statement.get("Effect") == "Deny":
                return False
            allowed = True
    return allowed


def names_principal(statement: Statement, principal_arn: str, account_id: str) -> bool:
    """Tell whether a statement of a resource's policy is about a principal of the same account."""
    principal = statement.get("Principal")
    if principal == "*":
        return True
    named = principal.get("AWS", ()) if isinstance(principal, Mapping) else ()
    known = {"*", principal_arn, account_id, f"arn:aws:iam::{account_id}:root", _role_arn(principal_arn)}
    return bool(known.intersection(_listed(named)))


def _role_arn(session_arn: str) -> str:
    """Find the role of an assumed role's session."""
    return re.sub(r":sts::(\d+):assumed-role/([^/]+)/.*", r":iam::\1:role/\2", session_arn)


def _statements(policies: Iterable[Mapping[str, Any]]) -> Iterator[Statement]:
    for policy in policies:
        statements = policy.get("Statement", ())
        yield from [statements] if isinstance(statements, Mapping) else statements


def _concerns(statement: Statement, action: str, resource: str | None) -> bool:
    if "NotAction" in statement:
        right_action = not _any_matches(statement["NotAction"], action.lower(), lower=True)
    else:
        right_action = _any_matches(statement.get("Action", ()), action.lower(), lower=True)
    if not right_action or resource is None:
        # A denial of something else on an unknown resource is no denial of this.
        return right_action and (resource is not None or statement.get("Effect") == "Allow")
    if "NotResource" in statement:
        return not _any_matches(statement["NotResource"], resource)
    return _any_matches(statement.get("Resource", ()), resource)


def _any_matches(patterns: Any, value: str, *, lower: bool = False) -> bool:
    return any(_pattern(each.lower() if lower else each).fullmatch(value) for each in _listed(patterns))


def _listed(value: Any) -> Iterable[str]:
    return [value] if isinstance(value, str) else value


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
