"""What a deployment was asked to be: kept in Terraform's state, so that the next deploy need not say it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dask_root_lambda.deployment import sources
from dask_root_lambda.deployment.image import ARCHITECTURES, ImageSpec
from dask_root_lambda.protocol.errors import ConfigurationError, DeploymentError

_ELSEWHERE = {
    "name": "--name",
    "region": "--region",
    "image_tag": "--package and --base",
    "image_uri": "--image",
    "account": "the credentials",
    "package_version": "the package that is installed",
    "options": "the options of deploy",
}
"""Variables of ``infra/`` that are not a user's: what sets each."""


@dataclass(frozen=True)
class ImageOptions:
    """Which image the functions run."""

    uri: str | None = None
    """An image that exists; None builds one."""
    base: str = ""
    """Image to build on; empty for Python's own."""
    base_has_root: bool = False
    """Whether ROOT is in it, so that pip does not install another."""
    packages: tuple[str, ...] = ()
    """Requirements of what users' functions import, for pip."""

    def spec(self, architecture: str = "x86_64") -> ImageSpec:
        """Describe the image for this interpreter and its ROOT.

        Raises
        ------
        ConfigurationError
            There is no such architecture, or the ROOT here cannot be installed there.
        """
        # ROOT is imported for its version, which is not that of its package.
        from lambda_runtime.runner import ROOT_VERSION

        if architecture not in ARCHITECTURES:
            known = " or ".join(ARCHITECTURES)
            raise ConfigurationError(f"the architecture is {known}, not {architecture!r}")
        spec = ImageSpec.of_client(str(ROOT_VERSION), self.base, self.packages, architecture)
        return replace(spec, root="") if self.base_has_root else spec


@dataclass(frozen=True)
class Options:
    """All that deploy is asked for, this time and before."""

    variables: Mapping[str, Any] = field(default_factory=dict)
    """Of ``infra/``; those that were never given have its defaults."""
    image: ImageOptions = ImageOptions()
    """Of the image."""

    @classmethod
    def read(cls, text: str | None) -> Options:
        """Read what `text` wrote; None where nobody asked for anything.

        Raises
        ------
        DeploymentError
            It was another version of this package that wrote it.
        """
        if text is None:
            return cls()
        try:
            found = json.loads(text)
            image = {**found["image"], "packages": tuple(found["image"]["packages"])}
            return cls(found["variables"], ImageOptions(**image))
        except (ValueError, KeyError, TypeError) as error:
            raise DeploymentError(
                f"the options of this deployment cannot be read ({error!r}): another version of "
                "dask-root-lambda wrote them, so deploy with that one or a newer one"
            ) from None

    def text(self) -> str:
        """Write it, the same for the same."""
        return json.dumps({"variables": dict(self.variables), "image": asdict(self.image)}, sort_keys=True)

    @property
    def architecture(self) -> str:
        """Of the functions, and so of their image."""
        return str(self.variables.get("architecture", "x86_64"))

    def spec(self) -> ImageSpec | None:
        """Describe the image that is to be built, if one is."""
        return self.image.spec(self.architecture) if self.image.uri is None else None


def check_variables(names: Iterable[str]) -> None:
    """Refuse variables that ``infra/`` does not have, at which Terraform would only warn.

    Raises
    ------
    ConfigurationError
        There is no such variable, or it is not set so, with what was probably meant.
    """
    known = sorted({*sources.variables()} - {*_ELSEWHERE})
    for name in names:
        if name in _ELSEWHERE:
            raise ConfigurationError(f"the variable {name!r} is not set by --var, but by {_ELSEWHERE[name]}")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3) or known
            raise ConfigurationError(f"infra/ has no variable {name!r}: is it {' or '.join(close)}?")
