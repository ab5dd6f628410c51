"""Deploying and destroying, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_root_lambda import __version__, state_home
from dask_root_lambda.config import Settings
from dask_root_lambda.deployment import image, registry
from dask_root_lambda.deployment.image import PROGRAMS, Builder, ImageSpec
from dask_root_lambda.deployment.options import ImageOptions, Options, check_variables
from dask_root_lambda.deployment.terraform import Plan, Terraform
from dask_root_lambda.invocation import aws, discovery
from dask_root_lambda.protocol.errors import (
    ConfigurationError,
    DeploymentError,
    DeploymentNotFoundError,
    NoAnswerError,
    NotReadyError,
)

_ACTIVE_TIMEOUT_S = 900.0
"""AWS optimises an image of 1 GB, and takes a snapshot, in minutes."""
_POLL_S = 2.0

_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN",
)  # fmt: skip
"""Terraform takes these before a profile; boto3, which has found the account, the profile before these."""


@dataclass(frozen=True)
class Dialog:
    """Where it is told what goes on, and asked whether it may."""

    say: Callable[[str], None]
    """Is given a line for each step."""
    detail: Callable[[str], None]
    """Is given each line that Terraform and the image's builder write."""
    confirm: Callable[[Plan], bool]
    """Is asked before anything is changed."""


@dataclass(frozen=True)
class Asked:
    """What is asked for."""

    variables: Mapping[str, Any] = field(default_factory=dict)
    """Of ``infra/``; those that are not given stay as they were, and None is its default again."""
    image: str | None = None
    """URI of an image that exists; None for that of before, or for building one."""
    base: str | None = None
    """Image to build on; None for that of before."""
    base_has_root: bool | None = None
    """Whether ROOT is in it; None as before, of another base no."""
    packages: tuple[str, ...] | None = None
    """Requirements of what users' functions import, for pip; None for those of before."""
    plain_image: bool = False
    """Forget image, base and packages of before."""
    builder: str | None = None
    """Program that builds it; None takes what is there."""
    backend: Path | None = None
    """Terraform's backend; None keeps the state on this machine, or in the backend of the last time."""
    plan_only: bool = False
    """Change nothing."""

    def over(self, before: Options) -> Options:
        """Return the options that hold: those that are asked for now, else those of before.

        Raises
        ------
        ConfigurationError
            An image that exists, and how to build one.
        """
        variables = {**before.variables, **self.variables}
        image = self._image(ImageOptions() if self.plain_image else before.image)
        return Options({name: value for name, value in variables.items() if value is not None}, image)

    def _image(self, before: ImageOptions) -> ImageOptions:
        building = (self.base, self.base_has_root, self.packages) != (None, None, None)
        if self.image is not None and building:
            raise ConfigurationError(
                "--image names an image that exists, --base and --package are for building one: leave out "
                "one or the other"
            )
        if self.image is not None:
            return ImageOptions(self.image)
        had_root = before.base_has_root and self.base is None
        return ImageOptions(
            uri=None if building else before.uri,
            base=before.base if self.base is None else self.base,
            base_has_root=had_root if self.base_has_root is None else self.base_has_root,
            packages=before.packages if self.packages is None else self.packages,
        )


@dataclass(frozen=True)
class Outcome:
    """What was done."""

    plan: Plan
    """Of Terraform."""
    applied: bool
    """Whether it was carried out."""
    pushed: bool = False
    """Whether an image was built and pushed."""
    deleted_versions: tuple[str, ...] = ()
    """Old versions of functions that were deleted, as NAME:VERSION."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """Of ``infra/``."""


def deploy(session: aws.Session, settings: Settings, asked: Asked, dialog: Dialog) -> Outcome:
    """Make a deployment, or change it into what is asked for.

    Raises
    ------
    DeploymentError
        Terraform or the image failed, with what was written.
    AccessError, UnreachableError, ConfigurationError
        AWS cannot be used.
    """
    name = discovery.check_name(settings.deployment)
    check_variables(asked.variables)
    terraform = _open(session, settings, dialog)
    if not terraform.has_state and asked.backend is None:
        _check_registry(session, asked.over(Options()))
    if terraform.prepare(session.endpoint, asked.backend):
        dialog.say(f"Terraform's state has moved to the backend of {asked.backend}")
    _check_here(session, terraform, name)
    options = asked.over(Options.read(terraform.outputs().get("options")))
    _check_registry(session, options)
    spec = options.spec()
    variables = _variables(session, name, options, spec)
    dialog.say("planning")
    plan = terraform.plan(variables)
    if asked.plan_only or (not plan.empty and not dialog.confirm(plan)):
        return Outcome(plan, applied=False)
    pushed = spec is not None and _provide(session, terraform, variables, asked, spec, dialog)
    if not plan.empty:
        dialog.say(f"applying: {plan.summary()}")
        terraform.apply()
    outputs = terraform.outputs()
    versions: Mapping[str, str] = outputs["versions"]
    for function, version in versions.items():
        wait_until_active(session, function, version)
    return Outcome(plan, True, pushed, tuple(_prune(session, versions)), outputs)


def destroy(session: aws.Session, settings: Settings, dialog: Dialog, backend: Path | None = None) -> Outcome:
    """Delete everything of a deployment.

    Raises
    ------
    DeploymentError
        It was not deployed from here, or Terraform failed.
    """
    name = discovery.check_name(settings.deployment)
    terraform = _open(session, settings, dialog)
    if not terraform.has_state and backend is None:
        raise DeploymentError(
            f"{name!r} in {session.region} was not deployed from this machine: there is no Terraform state "
            f"in {terraform.directory}. Destroy it where it was deployed, or name its backend with --backend"
        )
    if terraform.prepare(session.endpoint, backend):
        dialog.say(f"Terraform's state has moved to the backend of {backend}")
    _check_detached(session, terraform.outputs().get("user_policy_arn"))
    dialog.say("planning")
    options = Options.read(terraform.outputs().get("options"))
    plan = terraform.plan(_variables(session, name, options), destroy=True)
    if plan.changes and not dialog.confirm(plan):
        return Outcome(plan, applied=False)
    if plan.changes:
        dialog.say(f"applying: {plan.summary()}")
        terraform.apply()
    terraform.forget()
    return Outcome(plan, applied=True)


def wait_until_active(session: aws.Session, function: str, version: str) -> None:
    """Wait until a version of a function can be invoked.

    Raises
    ------
    DeploymentError
        It cannot, and AWS's reason.
    """
    client = session.client("lambda")
    deadline_s = time.monotonic() + _ACTIVE_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with aws.translated(f"the function {function!r} cannot be looked at"):
            found = client.get_function_configuration(FunctionName=function, Qualifier=version)
        if found.get("State", "Active") == "Active":
            return
        if found["State"] == "Inactive":
            _wake(client, function, version)
        if found["State"] == "Failed":
            reason = found.get("StateReason", "AWS gives no reason")
            raise DeploymentError(f"version {version} of {function!r} cannot be used: {reason}")
        time.sleep(_POLL_S)
    raise DeploymentError(
        f"version {version} of {function!r} is not active after {_ACTIVE_TIMEOUT_S:g} s: see "
        "'dask-root-lambda doctor', or deploy again"
    )


def _wake(client: Any, function: str, version: str) -> None:
    """Invoke a function that AWS has put away, as it does with images that nobody calls for weeks.

    The invocation is refused, and brings the function back; one that runs is answered with an error:
    https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
    """
    with suppress(NotReadyError, NoAnswerError), aws.translated(f"the function {function!r} cannot be woken"):
        client.invoke(FunctionName=function, Qualifier=version, Payload=b"{}")


def _open(session: aws.Session, settings: Settings, dialog: Dialog) -> Terraform:
    account = session.identity().account
    place = state_home.directory(account, session.region, settings.deployment, session.endpoint)
    environment: dict[str, str | None] = {
        "AWS_REGION": session.region,
        "AWS_DEFAULT_REGION": session.region,
    }
    if settings.profile:
        environment |= {**dict.fromkeys(_CREDENTIALS), "AWS_PROFILE": settings.profile}
    return Terraform(place / "terraform", dialog.detail, environment)


def _variables(
    session: aws.Session, name: str, options: Options, spec: ImageSpec | None = None
) -> dict[str, Any]:
    """Return all variables of ``infra/``."""
    return {
        **options.variables,
        "name": name,
        "region": session.region,
        "account": session.identity().account,
        "package_version": __version__,
        "image_tag": image.tag(spec) if spec is not None else None,
        "image_uri": options.image.uri,
        "options": options.text(),
    }


def _check_registry(session: aws.Session, options: Options) -> None:
    """Refuse to build an image that could not be pushed."""
    if session.endpoint is not None and options.image.uri is None:
        raise ConfigurationError(
            f"{session.endpoint} is not AWS, so no image can be pushed there: name one with --image URI; an "
            "emulator takes any"
        )


def _check_here(session: aws.Session, terraform: Terraform, name: str) -> None:
    """Refuse to make a second time what a state that is not here has made."""
    if terraform.manages:
        return
    try:
        discovery.find(session, name)
    except DeploymentNotFoundError:
        if not registry.exists(session, name):
            return
    except DeploymentError:
        pass  # Parameters of half a deployment are those of one.
    raise DeploymentError(
        f"{name!r} in {session.region} was deployed elsewhere: it is there, and the Terraform state of this "
        f"machine ({terraform.directory}) does not know it. Deploy from that machine, or with its --backend; "
        "or choose another --name"
    )


def _check_detached(session: aws.Session, policy: str | None) -> None:
    """Refuse to begin what IAM would stop half-way: a policy that is attached cannot be deleted."""
    if policy is None:
        return
    client = session.client("iam")
    with aws.translated(f"it cannot be seen whom {policy} is attached to"):
        try:
            found = client.list_entities_for_policy(PolicyArn=policy)
        except client.exceptions.NoSuchEntityException:
            return
    holders = [
        f"{kind.lower()} {item[f'{kind}Name']}"
        for kind in ("User", "Group", "Role")
        for item in found[f"Policy{kind}s"]
    ]
    if holders:
        raise DeploymentError(
            f"{policy} is attached to {', '.join(holders)}: detach it first, as with 'aws iam "
            "detach-user-policy'; nothing was destroyed"
        )


def _provide(
    session: aws.Session,
    terraform: Terraform,
    variables: Mapping[str, Any],
    asked: Asked,
    spec: ImageSpec,
    dialog: Dialog,
) -> bool:
    """Have the image in the repository, which is made first where it is missing."""
    name, tag = str(variables["name"]), str(variables["image_tag"])
    if registry.has(session, name, tag):
        return False
    # Better before the first resource is made.
    builder = Builder.find((asked.builder,) if asked.builder else PROGRAMS)
    if new := not (registry.exists(session, name) and terraform.outputs().get("repository_url")):
        dialog.say("making the repository")
        terraform.plan({**variables, "image_tag": None})
        terraform.apply()
    reference = f"{terraform.outputs()['repository_url']}:{tag}"
    dialog.say(f"building and pushing {reference} with {builder.name}; the first time takes minutes")
    registry.provide(session, builder, spec, reference, dialog.detail)
    if new:
        terraform.plan(variables)
    return True


def _prune(session: aws.Session, versions: Mapping[str, str]) -> list[str]:
    """Delete versions that no alias names: with SnapStart each costs while it is kept."""
    client = session.client("lambda")
    deleted = []
    with aws.translated("old versions cannot be deleted"):
        for function in versions:
            aliases = client.list_aliases(FunctionName=function)["Aliases"]
            used = {"$LATEST", *(alias["FunctionVersion"] for alias in aliases)}
            for page in client.get_paginator("list_versions_by_function").paginate(FunctionName=function):
                for version in {found["Version"] for found in page["Versions"]} - used:
                    client.delete_function(FunctionName=function, Qualifier=version)
                    deleted.append(f"{function}:{version}")
    return deleted
