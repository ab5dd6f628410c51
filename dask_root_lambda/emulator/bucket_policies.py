"""Bucket policies that demand TLS.

moto denies what a statement denies whatever the statement's condition says, so a bucket that is open to TLS
only would be closed altogether. What comes to this machine's loopback address cannot be overheard: it counts
as secure, with TLS or without.
"""

from __future__ import annotations

import json
from typing import Any

_SECURE = "aws:securetransport"


def count_as_secure() -> None:
    """Have moto's S3 leave out statements that hold for insecure requests only. May be called again."""
    from moto.s3 import models

    bucket_class: Any = models.FakeBucket
    if getattr(bucket_class, "counts_as_secure", False):
        return

    def get_permission(bucket: Any, action: str, resource: str) -> Any:
        from moto.iam.access_control import IAMPolicy, PermissionResult

        if bucket.policy is None:
            return PermissionResult.NEUTRAL
        return IAMPolicy(applicable(bucket.policy.decode())).is_action_permitted(action, resource)

    bucket_class.get_permission = get_permission
    bucket_class.counts_as_secure = True


def applicable(policy: str) -> str:
    """Return a bucket's policy, in JSON, without the statements that hold for insecure requests only."""
    document = json.loads(policy)
    statements = document["Statement"]
    if isinstance(statements, dict):
        statements = [statements]
    return json.dumps({**document, "Statement": [each for each in statements if not _is_insecure(each)]})


def _is_insecure(statement: dict[str, Any]) -> bool:
    conditions = statement.get("Condition", {}).get("Bool", {})
    values = {str(name).lower(): value for name, value in conditions.items()}
    wanted = values.get(_SECURE)
    wanted = wanted if isinstance(wanted, list) else [wanted]
    return [str(each).lower() for each in wanted] == ["false"]
