"""The environment variables that a function sees.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.images import ContainerImage
from dask_root_lambda.emulator.options import INHERITED_VARIABLES, Image, Options


@dataclass(frozen=True)
class Credentials:
    """Temporary credentials of an execution role."""

    access_key_id: str
    """Starts with ASIA, as those of AWS do."""
    secret_access_key: str = field(repr=False)
    """For signing."""
    session_token: str = field(repr=False)
    """Sent along."""


@dataclass(frozen=True)
class Surroundings:
    """Where an environment finds itself."""

    runtime_api: str
    """Host and port of its Runtime API."""
    endpoint: str
    """URL of the emulator, for its AWS calls."""
    log_stream: str
    """Name of its log stream."""
    task: Path
    """Its working directory."""
    tmp: Path
    """Where it may write."""
    initialization_type: str
    """``on-demand`` or ``snap-start``."""
    credentials: Credentials
    """Of the function's role."""


def environment_variables(
    version: FunctionVersion, image: Image, options: Options, surroundings: Surroundings
) -> dict[str, str]:
    """All variables of an environment, the user's own being left out.

    What the function sets wins over the image, and Lambda over both: the API refuses reserved names.
    """
    return {
        **_inherited(options),
        "HOME": str(surroundings.tmp),
        "TMPDIR": str(surroundings.tmp),
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        **image.variables,
        **version.variables,
        "PYTHONPATH": _python_path(version, image, options),
        **_lambda_variables(version, image, surroundings),
        **_aws_variables(options, surroundings),
    }


def container_variables(
    version: FunctionVersion,
    container: ContainerImage,
    image: Image,
    options: Options,
    surroundings: Surroundings,
) -> dict[str, str]:
    """All variables of an environment that is a container: nothing is this machine's."""
    handler = container.command[0] if container.command else image.handler
    return {
        "PATH": os.defpath,
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        **container.variables,
        **image.variables,
        **version.variables,
        **_lambda_variables(version, replace(image, handler=handler), surroundings),
        **_aws_variables(options, surroundings),
    }


def visible_directories(version: FunctionVersion, image: Image, options: Options) -> tuple[str, ...]:
    """Find the directories that an environment needs, should they lie in the machine's /tmp."""
    paths = _python_path(version, image, options).split(os.pathsep)
    prefix = Path(image.python).parent.parent
    trusted = [options.certificate.resolve().parent] if options.certificate else []
    return tuple(map(str, (*filter(None, paths), prefix, *trusted)))


def _inherited(options: Options) -> dict[str, str]:
    names = (*INHERITED_VARIABLES, *options.inherited)
    return {name: os.environ[name] for name in names if name in os.environ}


def _python_path(version: FunctionVersion, image: Image, options: Options) -> str:
    """Where modules come from: the function's code, what the function says, then what this machine adds."""
    own = version.variables.get("PYTHONPATH") or image.variables.get("PYTHONPATH", "")
    # An environment runs elsewhere: relative to this process's directory they would not be found.
    given = (str(Path(each).absolute()) for each in (*options.python_path, *image.python_path))
    paths = (version.package.directory, own, *given, os.environ.get("PYTHONPATH", ""))
    return os.pathsep.join(filter(None, paths))


def _lambda_variables(
    version: FunctionVersion, image: Image, surroundings: Surroundings
) -> Mapping[str, str]:
    snap_start = surroundings.initialization_type == "snap-start"
    # AWS does not tell functions under SnapStart where they log: the snapshot does not know.
    log = {} if snap_start else {
        "AWS_LAMBDA_LOG_GROUP_NAME": version.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": surroundings.log_stream,
    }  # fmt: skip
    return {
        "_HANDLER": version.handler or image.handler,
        "AWS_EXECUTION_ENV": execution_environment(version),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(version.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": version.name,
        "AWS_LAMBDA_FUNCTION_VERSION": version.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": surroundings.initialization_type,
        "AWS_LAMBDA_RUNTIME_API": surroundings.runtime_api,
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": str(surroundings.task),
        **_logging_variables(version),
        **log,
    }


def execution_environment(version: FunctionVersion) -> str:
    """Name of the runtime, as AWS gives it."""
    if version.document["PackageType"] == "Image":
        return "AWS_Lambda_Image"
    return f"AWS_Lambda_{version.document.get('Runtime', 'python')}"


def _logging_variables(version: FunctionVersion) -> dict[str, str]:
    logging = version.document["LoggingConfig"]
    if logging["LogFormat"] != "JSON":
        return {}
    return {
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": str(logging.get("ApplicationLogLevel", "INFO")),
    }


def _aws_variables(options: Options, surroundings: Surroundings) -> dict[str, str]:
    trust = {"AWS_CA_BUNDLE": str(options.certificate.resolve())} if options.certificate else {}
    return {
        "AWS_ACCESS_KEY_ID": surroundings.credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": surroundings.credentials.secret_access_key,
        "AWS_SESSION_TOKEN": surroundings.credentials.session_token,
        "AWS_DEFAULT_REGION": options.region,
        "AWS_REGION": options.region,
        "AWS_ENDPOINT_URL": surroundings.endpoint,
        **trust,
    }
