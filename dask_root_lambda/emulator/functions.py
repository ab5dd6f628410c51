"""Functions and their versions: what the API says about them, and what the environments need to know."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from dask_root_lambda.emulator.errors import InvalidParameterError, ResourceNotFoundError, ValidationError
from dask_root_lambda.emulator.packages import Package

LATEST = "$LATEST"

# Settings that Create and Update take and the API shows again unchanged.
ECHOED = (
    "Role", "Handler", "Runtime", "Description", "Timeout", "MemorySize", "Architectures", "PackageType",
    "DeadLetterConfig", "Environment", "KMSKeyArn", "FileSystemConfigs", "EphemeralStorage",
)  # fmt: skip

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MEMORY_MB = range(128, 10_240 + 1)
TIMEOUT_S = range(1, 900 + 1)
EPHEMERAL_STORAGE_MB = range(512, 10_240 + 1)
VARIABLES_LIMIT_BYTES = 4096

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
RESERVED_VARIABLES = frozenset(
    {
        "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
    }
)  # fmt: skip

_NAME = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):)?(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_]{1,64})(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9-_]+))?"
)


@dataclass(frozen=True)
class FunctionVersion:
    """One version of a function, as the API describes it."""

    document: Mapping[str, Any]
    """AWS's FunctionConfiguration."""
    package: Package
    """Its code."""

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.document["FunctionName"])

    @property
    def version(self) -> str:
        """``$LATEST`` or a number."""
        return str(self.document["Version"])

    @property
    def revision(self) -> str:
        """Changes whenever the version does."""
        return str(self.document["RevisionId"])

    @property
    def arn(self) -> str:
        """With the version's number, if it has one."""
        return str(self.document["FunctionArn"])

    @property
    def role(self) -> str:
        """ARN of the execution role."""
        return str(self.document["Role"])

    @property
    def memory_mb(self) -> int:
        """What the environment may use."""
        return int(self.document["MemorySize"])

    @property
    def timeout_s(self) -> float:
        """What an invocation may take."""
        return float(self.document["Timeout"])

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables."""
        return dict(self.document.get("Environment", {}).get("Variables", {}))

    @property
    def ephemeral_storage_mb(self) -> int:
        """Size of /tmp."""
        return int(self.document["EphemeralStorage"]["Size"])

    @property
    def log_group(self) -> str:
        """Where its environments log."""
        return str(self.document["LoggingConfig"]["LogGroup"])

    @property
    def handler(self) -> str:
        """What the runtime client is told to run; empty to leave it to the image."""
        image_config = self.document.get("ImageConfigResponse", {}).get("ImageConfig", {})
        command = image_config.get("Command") or []
        return str(command[0] if command else self.document.get("Handler", ""))


@dataclass
class Function:
    """A function with everything that belongs to it."""

    latest: FunctionVersion
    """``$LATEST``."""
    versions: dict[str, FunctionVersion] = field(default_factory=dict)
    """Published versions by number."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags."""


@dataclass(frozen=True)
class Reference:
    """A function as the parameter FunctionName names it."""

    name: str
    """Without anything else."""
    qualifier: str | None
    """Version or alias; None if it names none."""


def parse_name(text: str, qualifier: str | None = None) -> Reference:
    """Read a name, partial ARN or ARN, with or without a qualifier.

    Raises
    ------
    ValidationError
        If it is none of them.
    InvalidParameterError
        If two qualifiers contradict each other.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise ValidationError(
            f"1 validation error detected: Value '{text}' at 'functionName' failed to satisfy constraint: "
            "Member must be a function name, a partial ARN or an ARN"
        )
    inner = found["qualifier"]
    if inner and qualifier and inner != qualifier:
        raise InvalidParameterError(
            f"The derived qualifier from the function name does not match the specified qualifier: "
            f"{inner} and {qualifier}."
        )
    return Reference(found["name"], qualifier or inner)


def describe(parameters: Mapping[str, Any], arn: str, package: Package) -> FunctionVersion:
    """Make ``$LATEST`` of a new function, with AWS's defaults for what is not given."""
    name = parse_name(parameters["FunctionName"]).name
    document: dict[str, Any] = {
        "FunctionName": name,
        "FunctionArn": arn,
        "Version": LATEST,
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "TracingConfig": {"Mode": "PassThrough"},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }
    return _stamp(_apply(document, parameters), package)


def change(version: FunctionVersion, parameters: Mapping[str, Any]) -> FunctionVersion:
    """Give a version other settings, and a new revision."""
    return _stamp(_apply(dict(version.document), parameters), version.package)


def change_code(version: FunctionVersion, package: Package) -> FunctionVersion:
    """Give a version other code, and a new revision."""
    return _stamp(dict(version.document), package)


def check_settings(parameters: Mapping[str, Any]) -> None:
    """Refuse settings that AWS refuses.

    Raises
    ------
    ValidationError
        For numbers out of range.
    InvalidParameterError
        For environment variables that are reserved or too large.
    """
    _check_range("memorySize", parameters.get("MemorySize"), MEMORY_MB)
    _check_range("timeout", parameters.get("Timeout"), TIMEOUT_S)
    _check_range(
        "ephemeralStorage.size", parameters.get("EphemeralStorage", {}).get("Size"), EPHEMERAL_STORAGE_MB
    )
    _check_variables(parameters.get("Environment", {}).get("Variables", {}))


def _check_range(name: str, value: int | None, allowed: range) -> None:
    if value is None or value in allowed:
        return
    low = value < allowed.start
    bound = (
        f"greater than or equal to {allowed.start}" if low else f"less than or equal to {allowed.stop - 1}"
    )
    raise ValidationError(
        f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
        f"Member must have value {bound}"
    )


def _check_variables(variables: Mapping[str, str]) -> None:
    start = (
        "Lambda was unable to configure your environment variables because the environment variables "
        "you have provided "
    )
    reserved = sorted(RESERVED_VARIABLES.intersection(variables))
    if reserved:
        raise InvalidParameterError(
            start + "contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    size = sum(len(name.encode()) + len(value.encode()) for name, value in variables.items())
    if size > VARIABLES_LIMIT_BYTES:
        raise InvalidParameterError(start + f"exceeded the 4KB limit. Size measured: {size} bytes")


def _apply(document: dict[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    check_settings(parameters)
    document.update({name: parameters[name] for name in ECHOED if name in parameters})
    if "TracingConfig" in parameters:
        document["TracingConfig"] = {"Mode": parameters["TracingConfig"].get("Mode", "PassThrough")}
    if "ImageConfig" in parameters:
        document["ImageConfigResponse"] = {"ImageConfig": parameters["ImageConfig"]}
    if "LoggingConfig" in parameters:
        document["LoggingConfig"] = {**document["LoggingConfig"], **parameters["LoggingConfig"]}
    if "SnapStart" in parameters:
        document["SnapStart"] = {
            "ApplyOn": parameters["SnapStart"].get("ApplyOn", "None"),
            "OptimizationStatus": "Off",
        }
    return document


def _stamp(document: dict[str, Any], package: Package) -> FunctionVersion:
    document["RevisionId"] = str(uuid.uuid4())
    document["LastModified"] = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    document["State"] = "Active"
    document["LastUpdateStatus"] = "Successful"
    document["CodeSha256"] = package.sha256
    document["CodeSize"] = package.size_bytes
    return FunctionVersion(document, package)


class Registry:
    """The functions of one account and region.

    Parameters
    ----------
    region
        Of their ARNs.
    account_id
        Of their ARNs.
    """

    def __init__(self, region: str, account_id: str) -> None:
        self._prefix = f"arn:aws:lambda:{region}:{account_id}:function:"
        self.functions: dict[str, Function] = {}
        """By name."""

    def arn(self, reference: Reference) -> str:
        """ARN of a function, with the qualifier that it was named by."""
        return self._prefix + reference.name + (f":{reference.qualifier}" if reference.qualifier else "")

    def get(self, reference: Reference) -> Function:
        """Find a function.

        Raises
        ------
        ResourceNotFoundError
            If there is none of that name.
        """
        function = self.functions.get(reference.name)
        if function is None:
            raise ResourceNotFoundError(f"Function not found: {self.arn(reference)}")
        return function

    def resolve(self, reference: Reference) -> FunctionVersion:
        """Find the version that a name, with or without qualifier, stands for."""
        function = self.get(reference)
        if reference.qualifier in (None, LATEST):
            return function.latest
        version = function.versions.get(reference.qualifier)
        if version is None:
            raise ResourceNotFoundError(f"Function not found: {self.arn(reference)}")
        return version
