"""Operations on versions and aliases.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html,
https://docs.aws.amazon.com/lambda/latest/dg/configuration-aliases.html and the pages of the operations.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dask_root_lambda.emulator.errors import InvalidParameterError, ResourceConflictError
from dask_root_lambda.emulator.functions import LATEST, FunctionVersion, number
from dask_root_lambda.emulator.operations import Operation, Parameters, check_revision, page
from dask_root_lambda.emulator.registry import Alias, Function, Reference, Registry, parse_name
from dask_root_lambda.emulator.settling import check_settled


class VersionControl:
    """What the API does with versions and aliases.

    Parameters
    ----------
    registry
        The functions.
    on_publish
        Told of every new version, once it is listed.
    """

    def __init__(self, registry: Registry, on_publish: Callable[[FunctionVersion], None]) -> None:
        self._registry = registry
        self._on_publish = on_publish

    def operations(self) -> dict[str, Operation]:
        """By their names in the API."""
        return {
            "PublishVersion": self._publish,
            "ListVersionsByFunction": self._list_versions,
            "CreateAlias": self._create_alias,
            "GetAlias": self._get_alias,
            "UpdateAlias": self._update_alias,
            "DeleteAlias": self._delete_alias,
            "ListAliases": self._list_aliases,
        }

    def publish(self, function: Function, description: str | None = None) -> FunctionVersion:
        """Make a version of ``$LATEST``, unless nothing has changed since the newest one."""
        newest = function.versions.get(str(function.publish_count))
        if newest is not None and function.published and function.published.is_like(function.latest):
            return newest
        function.publish_count += 1
        name = str(function.publish_count)
        arn = self._registry.arn(Reference(function.latest.name, name))
        version = number(function.latest, name, arn, description)
        function.versions[name] = version
        function.published = function.latest
        self._on_publish(version)
        return version

    def _publish(self, parameters: Parameters) -> Parameters:
        function = self._registry.get(parse_name(parameters["FunctionName"]))
        latest = function.latest
        check_revision(parameters, latest.revision)
        check_settled(latest)
        expected = parameters.get("CodeSha256")
        if expected and expected != latest.document["CodeSha256"]:
            raise InvalidParameterError(
                f"CodeSHA256 ({expected}) is different from current CodeSHA256 in $LATEST "
                f"({latest.document['CodeSha256']}). Please try again with the CodeSHA256 in $LATEST."
            )
        return dict(self.publish(function, parameters.get("Description")).document)

    def _list_versions(self, parameters: Parameters) -> Parameters:
        reference = parse_name(parameters["FunctionName"])
        function = self._registry.get(reference)
        arn = self._registry.arn(replace(reference, qualifier=LATEST))
        latest = {**function.latest.document, "FunctionArn": arn}
        documents = [latest, *(dict(version.document) for version in function.versions.values())]
        return page(documents, "Versions", parameters)

    def _create_alias(self, parameters: Parameters) -> Parameters:
        reference = replace(parse_name(parameters["FunctionName"]), qualifier=parameters["Name"])
        function = self._registry.get(reference)
        if parameters["Name"] in function.aliases:
            raise ResourceConflictError(f"Alias already exists: {self._registry.arn(reference)}")
        self._store(reference, Alias(parameters["Name"], "", "", {}, ""), parameters)
        return self._get_alias(parameters)

    def _update_alias(self, parameters: Parameters) -> Parameters:
        reference = replace(parse_name(parameters["FunctionName"]), qualifier=parameters["Name"])
        alias = self._registry.alias(reference)
        check_revision(parameters, alias.revision)
        self._store(reference, alias, parameters)
        return self._get_alias(parameters)

    def _store(self, reference: Reference, alias: Alias, parameters: Parameters) -> None:
        routing = parameters.get("RoutingConfig")
        weights = alias.weights if routing is None else dict(routing.get("AdditionalVersionWeights") or {})
        version = parameters.get("FunctionVersion", alias.version)
        self._check_versions(reference, version, weights)
        self._registry.get(reference).aliases[alias.name] = replace(
            alias,
            version=version,
            description=parameters.get("Description", alias.description),
            weights=weights,
            revision=str(uuid.uuid4()),
        )

    def _check_versions(self, reference: Reference, version: str, weights: Mapping[str, float]) -> None:
        for each in (version, *weights):
            self._registry.resolve(Reference(reference.name, each))
        if weights:
            _check_weights(version, weights)

    def _get_alias(self, parameters: Parameters) -> Parameters:
        reference = replace(parse_name(parameters["FunctionName"]), qualifier=parameters["Name"])
        return self._describe(reference.name, self._registry.alias(reference))

    def _delete_alias(self, parameters: Parameters) -> Parameters:
        function = self._registry.get(parse_name(parameters["FunctionName"]))
        function.aliases.pop(parameters["Name"], None)
        function.policies.pop(parameters["Name"], None)
        function.event_settings.pop(parameters["Name"], None)
        return {}

    def _list_aliases(self, parameters: Parameters) -> Parameters:
        reference = parse_name(parameters["FunctionName"])
        wanted = parameters.get("FunctionVersion")
        aliases = sorted(self._registry.get(reference).aliases.items())
        documents = [
            self._describe(reference.name, alias) for _, alias in aliases if wanted in (None, alias.version)
        ]
        return page(documents, "Aliases", parameters)

    def _describe(self, function: str, alias: Alias) -> Parameters:
        document: dict[str, Any] = {
            "AliasArn": self._registry.arn(Reference(function, alias.name)),
            "Name": alias.name,
            "FunctionVersion": alias.version,
            "Description": alias.description,
            "RevisionId": alias.revision,
        }
        if alias.weights:
            document["RoutingConfig"] = {"AdditionalVersionWeights": alias.weights}
        return document


def _check_weights(version: str, weights: Mapping[str, float]) -> None:
    if LATEST in (version, *weights):
        message = "$LATEST is not supported for an alias pointing to more than 1 version"
        raise InvalidParameterError(message)
    if len(weights) > 1:
        message = "Number of items in AdditionalVersionWeights cannot be greater than 1"
        raise InvalidParameterError(message)
    for other, share in weights.items():
        if other == version:
            raise InvalidParameterError(
                f"Invalid function version {other}. "
                f"Function version {other} is already included in routing configuration."
            )
        if not 0.0 <= share <= 1.0:
            raise InvalidParameterError(f"Weight {share} of version {other} must be between 0.0 and 1.0.")
