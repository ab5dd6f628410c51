"""Functions and their versions: what the API says about them, and what the environments need to know."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from dask_root_lambda.emulator.errors import InvalidParameterError
from dask_root_lambda.emulator.operations import check_range, is_empty
from dask_root_lambda.emulator.packages import Package

LATEST = "$LATEST"

# Settings that Create and Update take and the API shows again unchanged.
ECHOED = (
    "Role", "Handler", "Runtime", "Description", "Timeout", "MemorySize", "Architectures", "PackageType",
    "EphemeralStorage",
)  # fmt: skip
# Those that are not shown while they are empty.
OPTIONAL = ("DeadLetterConfig", "Environment", "KMSKeyArn")

# What is told of a change that is in progress, or that failed.
REASONS = ("StateReason", "StateReasonCode", "LastUpdateStatusReason", "LastUpdateStatusReasonCode")
# What changes with every update, whatever it was.
VOLATILE = ("RevisionId", "LastModified", "State", "LastUpdateStatus", *REASONS)

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
    def log_level(self) -> str:
        """From which level on Lambda's own records are in a JSON log."""
        return str(self.document["LoggingConfig"].get("SystemLogLevel", "INFO"))

    @property
    def state(self) -> str:
        """Active, Pending or Failed."""
        return str(self.document["State"])

    @property
    def wants_snapshot(self) -> bool:
        """Whether published versions have SnapStart."""
        return bool(self.document["SnapStart"]["ApplyOn"] == "PublishedVersions")

    @property
    def image_config(self) -> Mapping[str, Any]:
        """What the function says in place of its image."""
        config: Mapping[str, Any] = self.document.get("ImageConfigResponse", {}).get("ImageConfig", {})
        return config

    def is_like(self, other: FunctionVersion) -> bool:
        """Whether another version has the same code and settings."""
        mine, others = (
            {name: value for name, value in version.document.items() if name not in VOLATILE}
            for version in (self, other)
        )
        return mine == others

    @property
    def handler(self) -> str:
        """What the runtime client is told to run; empty to leave it to the image."""
        command = self.image_config.get("Command") or []
        return str(command[0] if command else self.document.get("Handler", ""))


def describe(name: str, parameters: Mapping[str, Any], arn: str, package: Package) -> FunctionVersion:
    """Make ``$LATEST`` of a new function, with AWS's defaults for what is not given."""
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


def change_code(
    version: FunctionVersion, package: Package, architectures: list[str] | None = None
) -> FunctionVersion:
    """Give a version other code, for the same or another architecture, and a new revision."""
    document = dict(version.document)
    if architectures:
        document["Architectures"] = architectures
    return _stamp(document, package)


def number(latest: FunctionVersion, name: str, arn: str, description: str | None) -> FunctionVersion:
    """Make a numbered version of ``$LATEST``; one with SnapStart is pending until it has its snapshot."""
    document = {**latest.document, "Version": name, "FunctionArn": arn}
    if description is not None:
        document["Description"] = description
    version = _stamp(document, latest.package)
    if not latest.wants_snapshot:
        return version
    snap_start = {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    reason = {"StateReason": "The function is being created.", "StateReasonCode": "Creating"}
    return FunctionVersion(
        {**version.document, "SnapStart": snap_start, "State": "Pending", **reason}, version.package
    )


def begin(version: FunctionVersion, *, created: bool) -> FunctionVersion:
    """Show that a version is being made, or that a change of it is in progress."""
    name, value = ("State", "Pending") if created else ("LastUpdateStatus", "InProgress")
    reason = {f"{name}Reason": "The function is being created.", f"{name}ReasonCode": "Creating"}
    return FunctionVersion({**version.document, name: value, **reason}, version.package)


def settle(version: FunctionVersion, reason_code: str = "", reason: str = "") -> FunctionVersion:
    """Make a pending version active, or failed for a reason."""
    document = {name: value for name, value in version.document.items() if name not in REASONS}
    document["LastUpdateStatus"] = "Successful"
    document["State"] = "Failed" if reason_code else "Active"
    if reason_code:
        document.update({"StateReasonCode": reason_code, "StateReason": reason})
    return FunctionVersion(document, version.package)


def check_settings(parameters: Mapping[str, Any]) -> None:
    """Refuse settings that AWS refuses.

    Raises
    ------
    ValidationError
        For numbers out of range.
    InvalidParameterError
        For environment variables that are reserved or too large.
    """
    check_range("memorySize", parameters.get("MemorySize"), MEMORY_MB)
    check_range("timeout", parameters.get("Timeout"), TIMEOUT_S)
    check_range(
        "ephemeralStorage.size", parameters.get("EphemeralStorage", {}).get("Size"), EPHEMERAL_STORAGE_MB
    )
    _check_variables(parameters.get("Environment", {}).get("Variables", {}))


def _check_snap_start(document: Mapping[str, Any]) -> None:
    # https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html
    wanted = document["SnapStart"]["ApplyOn"] == "PublishedVersions"
    if wanted and document["EphemeralStorage"]["Size"] > EPHEMERAL_STORAGE_MB.start:
        raise InvalidParameterError("Ephemeral storage greater than 512 MB is not supported with SnapStart.")


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
    for name in OPTIONAL:
        _show(document, name, parameters.get(name, document.get(name)))
    if "TracingConfig" in parameters:
        document["TracingConfig"] = {"Mode": parameters["TracingConfig"].get("Mode", "PassThrough")}
    if "ImageConfig" in parameters:
        said = {name: value for name, value in parameters["ImageConfig"].items() if not is_empty(value)}
        _show(document, "ImageConfigResponse", {"ImageConfig": said})
    if "LoggingConfig" in parameters:
        document["LoggingConfig"] = _logging({**document["LoggingConfig"], **parameters["LoggingConfig"]})
    if "SnapStart" in parameters:
        document["SnapStart"] = {
            "ApplyOn": parameters["SnapStart"].get("ApplyOn", "None"),
            "OptimizationStatus": "Off",
        }
    _check_snap_start(document)
    return document


def _logging(settings: dict[str, str]) -> dict[str, str]:
    """Give JSON logs their levels; text logs have none."""
    levels = ("ApplicationLogLevel", "SystemLogLevel")
    if settings["LogFormat"] == "JSON":
        return {**dict.fromkeys(levels, "INFO"), **settings}
    return {name: value for name, value in settings.items() if name not in levels}


def _show(document: dict[str, Any], name: str, value: Any) -> None:
    """Show a setting; an empty one is as none."""
    if is_empty(value):
        document.pop(name, None)
    else:
        document[name] = value


def _stamp(document: dict[str, Any], package: Package) -> FunctionVersion:
    for name in REASONS:
        document.pop(name, None)
    document["RevisionId"] = str(uuid.uuid4())
    document["LastModified"] = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    document["State"] = "Active"
    document["LastUpdateStatus"] = "Successful"
    document["CodeSha256"] = package.sha256
    document["CodeSize"] = package.size_bytes
    return FunctionVersion(document, package)
