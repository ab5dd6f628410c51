"""Operations on functions: create, read, update, delete, list, and their concurrency.

Source: https://docs.aws.amazon.com/lambda/latest/api/API_Operations.html.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from dask_root_lambda.emulator.concurrency import Concurrency
from dask_root_lambda.emulator.errors import ResourceConflictError, ValidationError
from dask_root_lambda.emulator.fleet import Fleet
from dask_root_lambda.emulator.functions import (
    LATEST,
    Function,
    FunctionVersion,
    Reference,
    Registry,
    change,
    change_code,
    describe,
    parse_name,
)
from dask_root_lambda.emulator.packages import PackageStore

Parameters: TypeAlias = dict[str, Any]
Operation: TypeAlias = Callable[[Parameters], Parameters]


class FunctionControl:
    """What the API does with functions.

    Parameters
    ----------
    registry
        The functions.
    fleet
        Their environments, which end when a function changes.
    concurrency
        The limits.
    packages
        Their code.
    """

    def __init__(
        self, registry: Registry, fleet: Fleet, concurrency: Concurrency, packages: PackageStore
    ) -> None:
        self._registry = registry
        self._packages = packages
        self._fleet = fleet
        self._concurrency = concurrency

    def operations(self) -> dict[str, Operation]:
        """By their names in the API."""
        return {
            "CreateFunction": self._create,
            "GetFunction": self._get,
            "GetFunctionConfiguration": self._get_configuration,
            "UpdateFunctionConfiguration": self._update_configuration,
            "UpdateFunctionCode": self._update_code,
            "DeleteFunction": self._delete,
            "ListFunctions": self._list,
            "PutFunctionConcurrency": self._put_concurrency,
            "GetFunctionConcurrency": self._get_concurrency,
            "DeleteFunctionConcurrency": self._delete_concurrency,
        }

    def _create(self, parameters: Parameters) -> Parameters:
        for name in ("FunctionName", "Role", "Code"):
            if name not in parameters:
                raise ValidationError(
                    "1 validation error detected: Value null at "
                    f"'{name[0].lower()}{name[1:]}' failed to satisfy constraint: Member must not be null"
                )
        reference = parse_name(parameters["FunctionName"])
        if reference.name in self._registry.functions:
            raise ResourceConflictError(f"Function already exist: {reference.name}")
        package = self._packages.read(parameters["Code"], parameters.get("PackageType", "Zip"))
        version = describe(parameters, self._registry.arn(Reference(reference.name, None)), package)
        function = Function(version, tags=dict(parameters.get("Tags", {})))
        self._registry.functions[reference.name] = function
        return dict(version.document)

    def _get(self, parameters: Parameters) -> Parameters:
        reference = self._reference(parameters)
        function, version = self._registry.get(reference), self._registry.resolve(reference)
        answer: Parameters = {"Configuration": dict(version.document), "Code": _code(version)}
        if function.tags:
            answer["Tags"] = dict(function.tags)
        if reference.name in self._concurrency.reserved:
            answer["Concurrency"] = self._get_concurrency(parameters)
        return answer

    def _get_configuration(self, parameters: Parameters) -> Parameters:
        return dict(self._registry.resolve(self._reference(parameters)).document)

    def _update_configuration(self, parameters: Parameters) -> Parameters:
        function = self._registry.get(self._reference(parameters))
        return self._replace(function, change(function.latest, parameters))

    def _update_code(self, parameters: Parameters) -> Parameters:
        function = self._registry.get(self._reference(parameters))
        package = self._packages.read(parameters, function.latest.document["PackageType"])
        return self._replace(function, change_code(function.latest, package))

    def _replace(self, function: Function, version: FunctionVersion) -> Parameters:
        old, function.latest = function.latest, version
        self._fleet.retire(old.name, old.revision)
        return dict(version.document)

    def _delete(self, parameters: Parameters) -> Parameters:
        reference = self._reference(parameters)
        version = self._registry.resolve(reference)
        if reference.qualifier in (None, LATEST):
            del self._registry.functions[reference.name]
            self._concurrency.reserved.pop(reference.name, None)
            self._fleet.retire(reference.name)
        else:
            del self._registry.functions[reference.name].versions[version.version]
            self._fleet.retire(reference.name, version.revision)
        return {}

    def _list(self, parameters: Parameters) -> Parameters:
        functions = sorted(self._registry.functions.items())
        return page([dict(function.latest.document) for _, function in functions], "Functions", parameters)

    def _put_concurrency(self, parameters: Parameters) -> Parameters:
        reference = self._reference(parameters)
        self._registry.get(reference)
        self._concurrency.reserve(reference.name, int(parameters["ReservedConcurrentExecutions"]))
        return self._get_concurrency(parameters)

    def _get_concurrency(self, parameters: Parameters) -> Parameters:
        reference = self._reference(parameters)
        self._registry.get(reference)
        reserved = self._concurrency.reserved.get(reference.name)
        return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}

    def _delete_concurrency(self, parameters: Parameters) -> Parameters:
        reference = self._reference(parameters)
        self._registry.get(reference)
        self._concurrency.reserved.pop(reference.name, None)
        return {}

    def _reference(self, parameters: Parameters) -> Reference:
        return parse_name(parameters["FunctionName"], parameters.get("Qualifier"))


def page(items: list[Parameters], name: str, parameters: Parameters) -> Parameters:
    """One page of a list; the marker is the position of the next one."""
    start = int(parameters.get("Marker") or 0)
    stop = start + int(parameters.get("MaxItems", 50))
    answer: Parameters = {name: items[start:stop]}
    if stop < len(items):
        answer["NextMarker"] = str(stop)
    return answer


def _code(version: FunctionVersion) -> Parameters:
    if version.document["PackageType"] == "Image":
        repository = (
            version.package.image_uri.partition("@")[0].rpartition(":")[0] or version.package.image_uri
        )
        resolved = f"{repository}@sha256:{version.document['CodeSha256']}"
        return {"RepositoryType": "ECR", "ImageUri": version.package.image_uri, "ResolvedImageUri": resolved}
    return {"RepositoryType": "S3"}
