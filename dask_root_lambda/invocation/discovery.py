"""Deployments are found by name: Terraform leaves what a client needs to know in SSM parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dask_root_lambda.config import Settings
from dask_root_lambda.invocation import aws
from dask_root_lambda.protocol.errors import (
    ConfigurationError,
    DaskRootLambdaError,
    DeploymentError,
    DeploymentNotFoundError,
)

_ROOT = "/dask-root-lambda"
"""Parameters of a deployment are below this and its name; its functions' log group has the same name."""

_NAME = re.compile(r"[a-z][a-z0-9-]{1,28}[a-z0-9]")
"""What ``infra/`` accepts."""


_FUNCTION = re.compile(r"((?:arn:[^:]+:lambda:[^:]+:\d+:|\d+:)?(?:function:)?[\w-]+)(?::[\w$-]+)?")
"""What Lambda takes for a function, and a qualifier."""


@dataclass(frozen=True)
class Deployment:
    """What was deployed under a name, as ``infra/`` says."""

    name: str
    """The deployment's name."""
    region: str
    """AWS region it is in."""
    function: str
    """Name of the function of the first memory tier."""
    qualifier: str
    """Alias that is to be invoked."""
    bucket: str
    """Bucket of partial results."""
    store: str
    """URL of the store in it."""
    log_group: str
    """Log group of the functions."""
    image: str
    """URI of the functions' image, with its tag."""
    memory_mb: int
    """Memory of the first tier, MB of 2^20 bytes."""
    tiers: Mapping[int, str] = field(default_factory=dict)
    """Function of each memory size, MB of 2^20 bytes."""
    version: str = ""
    """Version of dask-root-lambda that deployed."""


def deployment_of(log_group: str) -> str | None:
    """Return the name of the deployment whose functions log there; None for what ``infra/`` did not make."""
    name = log_group.removeprefix(f"{_ROOT}/")
    return name if name != log_group and _NAME.fullmatch(name) else None


def unqualified(function: str) -> str:
    """Return a function's name or ARN without the version or alias behind it."""
    found = _FUNCTION.fullmatch(function)
    return found[1] if found else function


def check_name(name: str) -> str:
    """Return ``name`` if a deployment can be called so.

    Raises
    ------
    ConfigurationError
        It cannot.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is no name of a deployment: 3 to 30 lower-case letters, digits and hyphens, "
            "beginning with a letter and not ending with a hyphen"
        )
    return name


def find(session: aws.Session, name: str) -> Deployment:
    """Read the parameters of a deployment.

    Parameters
    ----------
    session
        AWS account and region.
    name
        The deployment's name.

    Raises
    ------
    DeploymentNotFoundError
        There is none, with the command that makes it.
    AccessError, UnreachableError
        Parameters cannot be read, and why.
    """
    path = f"{_ROOT}/{check_name(name)}/"
    values: dict[str, str] = {}
    with aws.translated(f"the deployment {name!r} cannot be looked up in {session.region}"):
        pages = session.client("ssm").get_paginator("get_parameters_by_path").paginate(Path=path)
        for page in pages:
            values.update(
                {item["Name"].removeprefix(path): item["Value"] for item in page.get("Parameters", [])}
            )
    if not values:
        raise DeploymentNotFoundError(
            f"there is no deployment {name!r} in {session.region} of {_account(session)}: make it with "
            f"'dask-root-lambda deploy --name {name} --region {session.region}', choose another name or "
            "region, or use execution='emulated', which needs no AWS"
        )
    return _deployment(name, values)


def located(session: aws.Session, settings: Settings) -> tuple[Settings, Deployment | None]:
    """Fill in function, alias and store from the deployment, unless the settings name a function.

    Returns
    -------
    tuple of Settings and Deployment
        Settings with a function; the deployment, None where it was not needed.
    """
    if settings.function is not None:
        return settings, None
    found = find(session, settings.deployment)
    return replace(
        settings,
        function=found.function,
        qualifier=settings.qualifier or found.qualifier,
        store=settings.store or found.store,
    ), found


def _deployment(name: str, values: Mapping[str, str]) -> Deployment:
    try:
        return Deployment(
            name=name,
            region=values["region"],
            function=values["function"],
            qualifier=values["qualifier"],
            bucket=values["bucket"],
            store=values["store"],
            log_group=values["log-group"],
            image=values["image"],
            memory_mb=int(values["memory-mb"]),
            tiers={int(memory): function for memory, function in json.loads(values["tiers"]).items()},
            version=values["version"],
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise DeploymentError(
            f"the parameters under {_ROOT}/{name} are not those of a deployment ({error!r}): deploy again "
            f"with 'dask-root-lambda deploy --name {name}'"
        ) from None


def _account(session: aws.Session) -> str:
    """Name the account, as far as it is known: it is part of another error."""
    try:
        return f"account {session.identity().account}"
    except DaskRootLambdaError:
        return "this account"
