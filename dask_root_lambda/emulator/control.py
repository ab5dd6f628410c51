"""Operations on functions: create, read, update, delete, list, and their concurrency.

Source: https://docs.aws.amazon.com/lambda/latest/api/API_Operations.html.
"""

from __future__ import annotations

import sys

from dask_root_lambda.emulator.concurrency import Concurrency
from dask_root_lambda.emulator.errors import InvalidParameterError, NotEmulatedError, ResourceConflictError
from dask_root_lambda.emulator.fleet import Fleet
from dask_root_lambda.emulator.functions import (
    ECHOED,
    LATEST,
    OPTIONAL,
    FunctionVersion,
    change,
    change_code,
    describe,
)
from dask_root_lambda.emulator.operations import Operation, Parameters, check_revision, is_empty, page
from dask_root_lambda.emulator.packages import PackageStore
from dask_root_lambda.emulator.registry import Function, Reference, Registry, parse_name
from dask_root_lambda.emulator.settling import Settling, check_settled
from dask_root_lambda.emulator.versions import VersionControl

# What an archive's function is run with.
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"

# Parameters of the operations here that have an effect.
EMULATED = frozenset(
    {
        *ECHOED, *OPTIONAL, "FunctionName", "Qualifier", "Code", "Publish", "Tags", "DryRun", "RevisionId",
        "TracingConfig", "ImageConfig", "SnapStart", "LoggingConfig",
        "ZipFile", "S3Bucket", "S3Key", "ImageUri",
    }
)  # fmt: skip


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
    versions
        Publishes them.
    settling
        Lets changes be in progress.
    """

    def __init__(
        self,
        registry: Registry,
        fleet: Fleet,
        concurrency: Concurrency,
        packages: PackageStore,
        versions: VersionControl,
        settling: Settling,
    ) -> None:
        self._settling = settling
        self._registry = registry
        self._fleet = fleet
        self._concurrency = concurrency
        self._packages = packages
        self._versions = versions

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
        _check_emulated(parameters)
        _check_emulated(parameters["Code"])
        _check_package(parameters)
        reference = parse_name(parameters["FunctionName"])
        self._registry.check_place(reference)
        name = reference.name
        if name in self._registry.functions:
            raise ResourceConflictError(f"Function already exist: {name}")
        package = self._packages.read(parameters["Code"], parameters.get("PackageType", "Zip"))
        latest = describe(name, parameters, self._registry.arn(Reference(name)), package)
        count = self._registry.publish_counts.get(name, 0)
        function = Function(latest, publish_count=count, tags=dict(parameters.get("Tags") or {}))
        self._registry.functions[name] = function
        self._settling.begin(function, created=True)
        return self._published(function, parameters)

    def _get(self, parameters: Parameters) -> Parameters:
        reference = self._reference(parameters)
        function, version = self._registry.get(reference), self._registry.resolve(reference)
        answer: Parameters = {"Configuration": self._get_configuration(parameters), "Code": _code(version)}
        if function.tags:
            answer["Tags"] = dict(function.tags)
        if reference.name in self._concurrency.reserved:
            answer["Concurrency"] = self._get_concurrency(parameters)
        return answer

    def _get_configuration(self, parameters: Parameters) -> Parameters:
        reference = self._reference(parameters)
        # The ARN is that of the name which was asked for, an alias included.
        return {**self._registry.resolve(reference).document, "FunctionArn": self._registry.arn(reference)}

    def _update_configuration(self, parameters: Parameters) -> Parameters:
        _check_emulated(parameters)
        function = self._registry.get(self._reference(parameters))
        check_revision(parameters, function.latest.revision)
        _check_runtime(parameters)
        check_settled(function.latest)
        self._replace(function, change(function.latest, parameters))
        return dict(function.latest.document)

    def _update_code(self, parameters: Parameters) -> Parameters:
        _check_emulated(parameters)
        function = self._registry.get(self._reference(parameters))
        check_revision(parameters, function.latest.revision)
        check_settled(function.latest)
        package = self._packages.read(parameters, function.latest.document["PackageType"])
        changed = change_code(function.latest, package, parameters.get("Architectures"))
        if parameters.get("DryRun"):
            return dict(changed.document)
        self._replace(function, changed)
        return self._published(function, parameters)

    def _published(self, function: Function, parameters: Parameters) -> Parameters:
        version = self._versions.publish(function) if parameters.get("Publish") else function.latest
        return dict(version.document)

    def _replace(self, function: Function, version: FunctionVersion) -> None:
        old, function.latest = function.latest, version
        self._fleet.retire(old.name, old.revision)
        self._settling.begin(function)

    def _delete(self, parameters: Parameters) -> Parameters:
        reference = self._reference(parameters)
        function, version = self._registry.get(reference), self._registry.resolve(reference)
        if reference.qualifier == LATEST:
            raise InvalidParameterError("$LATEST version cannot be deleted without deleting the function.")
        if reference.qualifier is None:
            del self._registry.functions[reference.name]
            self._registry.publish_counts[reference.name] = function.publish_count
            self._concurrency.reserved.pop(reference.name, None)
            self._fleet.retire(reference.name)
            return {}
        for alias in function.aliases.values():
            if version.version in (alias.version, *alias.weights):
                raise ResourceConflictError(
                    f"Version {version.version} of {reference.name} is used by the alias {alias.name}. "
                    "Remove or change the alias first."
                )
        del function.versions[version.version]
        self._fleet.retire(reference.name, version.revision)
        return {}

    def _list(self, parameters: Parameters) -> Parameters:
        functions = sorted(self._registry.functions.items())
        versions = [function.latest for _, function in functions]
        if parameters.get("FunctionVersion") == "ALL":
            versions += [version for _, function in functions for version in function.versions.values()]
        return page([dict(version.document) for version in versions], "Functions", parameters)

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


def _check_emulated(parameters: Parameters) -> None:
    """Refuse settings that would be accepted and have no effect."""
    for name in sorted(set(parameters) - EMULATED):
        if not is_empty(parameters[name]):
            raise NotEmulatedError(
                f"{name} is not emulated: a function would run without it. Leave it out on this machine."
            )


def _check_runtime(parameters: Parameters) -> None:
    """Refuse a runtime that is not the one which functions of archives are run with."""
    runtime = parameters.get("Runtime", RUNTIME)
    if runtime != RUNTIME:
        raise InvalidParameterError(
            f"The runtime parameter of {runtime} is not supported here: functions run with this "
            f"emulator's own interpreter, which is {RUNTIME}."
        )


def _check_package(parameters: Parameters) -> None:
    if parameters.get("PackageType", "Zip") == "Zip" and not {"Runtime", "Handler"} <= set(parameters):
        raise InvalidParameterError(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages."
        )
    _check_runtime(parameters)


def _code(version: FunctionVersion) -> Parameters:
    package = version.package
    if version.document["PackageType"] == "Image":
        repository = package.image_uri.partition("@")[0].rpartition(":")[0] or package.image_uri
        resolved = f"{repository}@sha256:{package.sha256}"
        return {"RepositoryType": "ECR", "ImageUri": package.image_uri, "ResolvedImageUri": resolved}
    return {"RepositoryType": "S3"}
