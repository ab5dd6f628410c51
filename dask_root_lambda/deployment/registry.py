"""The deployment's ECR repository: is an image there, and the password to push one."""

from __future__ import annotations

import base64
from collections.abc import Callable

from dask_root_lambda.deployment.image import Builder, ImageSpec
from dask_root_lambda.deployment.process import run
from dask_root_lambda.invocation import aws
from dask_root_lambda.protocol.errors import DeploymentError

_LOGOUT_TIMEOUT_S = 60


def exists(session: aws.Session, repository: str) -> bool:
    """Whether there is a repository of that name."""
    client = session.client("ecr")
    with aws.translated(f"the repository {repository!r} cannot be looked at"):
        try:
            client.describe_repositories(repositoryNames=[repository])
        except client.exceptions.RepositoryNotFoundException:
            return False
    return True


def has(session: aws.Session, repository: str, tag: str) -> bool:
    """Whether an image of that tag was pushed."""
    client = session.client("ecr")
    missing = (client.exceptions.ImageNotFoundException, client.exceptions.RepositoryNotFoundException)
    with aws.translated(f"the images of {repository!r} cannot be looked at"):
        try:
            found = client.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
        except missing:
            return False
    return bool(found.get("imageDetails"))


def password(session: aws.Session) -> str:
    """Return a password for pushing, which ECR takes for 12 hours. Never put it on a command line."""
    with aws.translated("ECR gives no password to push with"):
        (given,) = session.client("ecr").get_authorization_token()["authorizationData"]
    _, _, secret = base64.b64decode(given["authorizationToken"]).decode().partition(":")
    if not secret:
        raise DeploymentError("ECR gave an empty password: try again")
    return secret


def provide(
    session: aws.Session, builder: Builder, spec: ImageSpec, reference: str, say: Callable[[str], None]
) -> None:
    """Build an image and push it.

    Parameters
    ----------
    session
        AWS account and region.
    builder
        The program that does it.
    spec
        What is in the image.
    reference
        URL of the repository, and the tag.
    say
        Is given each line that the program writes.

    Raises
    ------
    DeploymentError
        It failed, with the end of what was written.
    """
    builder.build(spec, reference, say=say)
    registry = reference.partition("/")[0]
    # Now, and not before the build: a password is good for 12 hours.
    builder.login(registry, "AWS", password(session))
    try:
        builder.push(reference, say=say)
    finally:
        run([builder.program, "logout", registry], say=say, timeout_s=_LOGOUT_TIMEOUT_S)
