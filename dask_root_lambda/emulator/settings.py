"""Operations on what surrounds a function: event settings, tags, policy, and the account's limits.

Source: the pages of the operations, https://docs.aws.amazon.com/lambda/latest/api/API_Operations.html.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from dask_root_lambda.emulator.concurrency import Concurrency
from dask_root_lambda.emulator.errors import (
    InvalidParameterError,
    ResourceConflictError,
    ResourceNotFoundError,
)
from dask_root_lambda.emulator.functions import LATEST
from dask_root_lambda.emulator.operations import Operation, Parameters, check_range, check_revision, page
from dask_root_lambda.emulator.packages import UNZIPPED_LIMIT_BYTES
from dask_root_lambda.emulator.registry import Function, Reference, Registry, parse_name

RETRY_ATTEMPTS = range(2 + 1)
EVENT_AGE_S = range(60, 21_600 + 1)

# Parameters of AddPermission that narrow it down: the operator and key of the condition that each becomes.
_CONDITIONS = (
    ("SourceAccount", "StringEquals", "AWS:SourceAccount"),
    ("SourceArn", "ArnLike", "AWS:SourceArn"),
    ("PrincipalOrgID", "StringEquals", "aws:PrincipalOrgID"),
    ("FunctionUrlAuthType", "StringEquals", "lambda:FunctionUrlAuthType"),
    ("EventSourceToken", "StringEquals", "lambda:EventSourceToken"),
    ("InvokedViaFunctionUrl", "Bool", "lambda:InvokedViaFunctionUrl"),
)

_EVENT_SETTINGS = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")


class SettingsControl:
    """What the API does with the surroundings of functions.

    Parameters
    ----------
    registry
        The functions.
    concurrency
        The limits.
    """

    def __init__(self, registry: Registry, concurrency: Concurrency) -> None:
        self._registry = registry
        self._concurrency = concurrency

    def operations(self) -> dict[str, Operation]:
        """By their names in the API."""
        return {
            "PutFunctionEventInvokeConfig": self._put_event_settings,
            "UpdateFunctionEventInvokeConfig": self._update_event_settings,
            "GetFunctionEventInvokeConfig": self._get_event_settings,
            "DeleteFunctionEventInvokeConfig": self._delete_event_settings,
            "ListFunctionEventInvokeConfigs": self._list_event_settings,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTags": self._list_tags,
            "AddPermission": self._add_permission,
            "RemovePermission": self._remove_permission,
            "GetPolicy": self._get_policy,
            "GetAccountSettings": self._account,
            # What Terraform's provider asks of every function, and never sets here.
            "GetFunctionCodeSigningConfig": self._code_signing,
            "GetFunctionRecursionConfig": self._recursion,
            "GetRuntimeManagementConfig": self._runtime_management,
            "ListProvisionedConcurrencyConfigs": self._provisioned,
        }

    # Event invocations.

    def _put_event_settings(self, parameters: Parameters) -> Parameters:
        function, reference = self._event_target(parameters)
        return self._store_event_settings(function, reference, {}, parameters)

    def _update_event_settings(self, parameters: Parameters) -> Parameters:
        old = self._get_event_settings(parameters)
        function, reference = self._event_target(parameters)
        return self._store_event_settings(function, reference, old, parameters)

    def _store_event_settings(
        self, function: Function, reference: Reference, old: Parameters, parameters: Parameters
    ) -> Parameters:
        _check_event_settings(parameters)
        document: dict[str, Any] = {
            **old,
            "FunctionArn": self._registry.arn(reference),
            "LastModified": time.time(),
            **{name: parameters[name] for name in _EVENT_SETTINGS if name in parameters},
        }
        document.setdefault("DestinationConfig", {"OnSuccess": {}, "OnFailure": {}})
        function.event_settings[reference.qualifier or LATEST] = document
        return document

    def _get_event_settings(self, parameters: Parameters) -> Parameters:
        function, reference = self._event_target(parameters)
        document = function.event_settings.get(reference.qualifier or LATEST)
        if document is None:
            arn = self._registry.arn(reference)
            raise ResourceNotFoundError(f"The function {arn} doesn't have an EventInvokeConfig")
        return document

    def _delete_event_settings(self, parameters: Parameters) -> Parameters:
        self._get_event_settings(parameters)
        function, reference = self._event_target(parameters)
        del function.event_settings[reference.qualifier or LATEST]
        return {}

    def _list_event_settings(self, parameters: Parameters) -> Parameters:
        function = self._registry.get(parse_name(parameters["FunctionName"]))
        return page(list(function.event_settings.values()), "FunctionEventInvokeConfigs", parameters)

    def _event_target(self, parameters: Parameters) -> tuple[Function, Reference]:
        reference = parse_name(parameters["FunctionName"], parameters.get("Qualifier"))
        self._registry.resolve(reference)
        return self._registry.get(reference), Reference(reference.name, reference.qualifier or LATEST)

    # Tags.

    def _tag(self, parameters: Parameters) -> Parameters:
        self._tagged(parameters).tags.update(parameters["Tags"])
        return {}

    def _untag(self, parameters: Parameters) -> Parameters:
        tags = self._tagged(parameters).tags
        for key in parameters["TagKeys"]:
            tags.pop(key, None)
        return {}

    def _list_tags(self, parameters: Parameters) -> Parameters:
        return {"Tags": dict(self._tagged(parameters).tags)}

    def _tagged(self, parameters: Parameters) -> Function:
        return self._registry.get(parse_name(parameters["Resource"]))

    # Resource-based policy.

    def _add_permission(self, parameters: Parameters) -> Parameters:
        function, reference, key = self._policy_target(parameters)
        check_revision(parameters, function.policy_revisions.get(key, ""))
        statements = function.policies.setdefault(key, {})
        name = parameters["StatementId"]
        if name in statements:
            raise ResourceConflictError(
                f"The statement id ({name}) provided already exists. Please provide a new statement id, "
                "or remove the existing statement."
            )
        statements[name] = _statement(parameters, self._registry.arn(reference))
        function.policy_revisions[key] = str(uuid.uuid4())
        return {"Statement": json.dumps(statements[name])}

    def _remove_permission(self, parameters: Parameters) -> Parameters:
        function, _, key = self._policy_target(parameters)
        check_revision(parameters, function.policy_revisions.get(key, ""))
        name = parameters["StatementId"]
        if function.policies.get(key, {}).pop(name, None) is None:
            raise ResourceNotFoundError(f"Statement {name} is not found in resource policy.")
        function.policy_revisions[key] = str(uuid.uuid4())
        return {}

    def _get_policy(self, parameters: Parameters) -> Parameters:
        function, _, key = self._policy_target(parameters)
        statements = function.policies.get(key)
        if not statements:
            raise ResourceNotFoundError("The resource you requested does not exist.")
        policy = {"Version": "2012-10-17", "Id": "default", "Statement": list(statements.values())}
        return {"Policy": json.dumps(policy), "RevisionId": function.policy_revisions[key]}

    def _policy_target(self, parameters: Parameters) -> tuple[Function, Reference, str]:
        reference = parse_name(parameters["FunctionName"], parameters.get("Qualifier"))
        self._registry.resolve(reference)
        return self._registry.get(reference), reference, reference.qualifier or ""

    # The account, and what is always the same.

    def _account(self, parameters: Parameters) -> Parameters:
        functions = self._registry.functions.values()
        return {
            "AccountLimit": {
                "TotalCodeSize": 80_530_636_800,
                "CodeSizeUnzipped": UNZIPPED_LIMIT_BYTES,
                "CodeSizeZipped": 52_428_800,
                "ConcurrentExecutions": self._concurrency.account_limit,
                "UnreservedConcurrentExecutions": self._concurrency.unreserved_limit,
            },
            "AccountUsage": {
                "TotalCodeSize": sum(int(function.latest.document["CodeSize"]) for function in functions),
                "FunctionCount": len(functions),
            },
        }

    def _code_signing(self, parameters: Parameters) -> Parameters:
        return {"FunctionName": self._known(parameters).name}

    def _recursion(self, parameters: Parameters) -> Parameters:
        self._known(parameters)
        return {"RecursiveLoop": "Terminate"}

    def _runtime_management(self, parameters: Parameters) -> Parameters:
        return {"UpdateRuntimeOn": "Auto", "FunctionArn": self._registry.arn(self._known(parameters))}

    def _provisioned(self, parameters: Parameters) -> Parameters:
        self._known(parameters)
        return {"ProvisionedConcurrencyConfigs": []}

    def _known(self, parameters: Parameters) -> Reference:
        reference = parse_name(parameters["FunctionName"])
        self._registry.get(reference)
        return reference


def _check_event_settings(parameters: Parameters) -> None:
    if not any(name in parameters for name in _EVENT_SETTINGS):
        raise InvalidParameterError("You must specify at least one of error handling or destination setting.")
    check_range("maximumRetryAttempts", parameters.get("MaximumRetryAttempts"), RETRY_ATTEMPTS)
    check_range("maximumEventAgeInSeconds", parameters.get("MaximumEventAgeInSeconds"), EVENT_AGE_S)


def _statement(parameters: Parameters, arn: str) -> dict[str, Any]:
    principal = parameters["Principal"]
    statement: dict[str, Any] = {
        "Sid": parameters["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(principal),
        "Action": parameters["Action"],
        "Resource": arn,
    }
    conditions: dict[str, dict[str, str]] = {}
    for name, operator, key in _CONDITIONS:
        if name in parameters:
            value = parameters[name]
            text = value if isinstance(value, str) else json.dumps(value)
            conditions.setdefault(operator, {})[key] = text
    return {**statement, "Condition": conditions} if conditions else statement


def _principal(principal: str) -> str | dict[str, str]:
    if principal == "*":
        return "*"
    if principal.endswith(".amazonaws.com"):
        return {"Service": principal}
    return {"AWS": f"arn:aws:iam::{principal}:root" if principal.isdigit() else principal}
