"""What a deployment was given is remembered; what the next deploy is given goes over it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dask_root_lambda.deployment import image
from dask_root_lambda.deployment.options import ImageOptions, Options
from dask_root_lambda.deployment.rollout import Asked
from dask_root_lambda.protocol.errors import ConfigurationError, DeploymentError

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/muons"


def test_a_base_image_with_root_gets_no_other():
    """``--base-has-root``: pip installs none; that holds for this base, and not for another."""
    had = Asked(base="lcg", base_has_root=True, packages=("vector",)).over(Options())
    assert had.spec().root == ""
    assert Asked(packages=("uproot",)).over(had).image == replace(had.image, packages=("uproot",))
    assert Asked(base="debian").over(had).spec().root.startswith("ROOT==")
    assert Asked(base_has_root=False).over(had).image.base == "lcg"


def test_the_image_is_for_the_functions_processor():
    """``--var architecture=arm64``, also from an earlier deploy; null takes it back."""
    arm = Asked({"architecture": "arm64"}).over(Options())
    assert Asked().over(arm).spec().platform == "linux/arm64"
    assert image.tag(arm.spec()) != image.tag(Options().spec())
    assert Asked({"architecture": None}).over(arm) == Options()
    with pytest.raises(ConfigurationError, match="x86_64 or arm64, not 'sparc'"):
        Asked({"architecture": "sparc"}).over(Options()).spec()


def test_an_image_is_named_or_built():
    """Both at once is a mistake; each takes the place of the other; what is written is what is read."""
    with pytest.raises(ConfigurationError, match="leave out one or the other"):
        Asked(image=f"{IMAGE}:1", packages=("vector",)).over(Options())
    built = Asked({"memory_mb": 2048}, packages=("vector",)).over(Options())
    named = Asked(image=f"{IMAGE}:1").over(built)
    assert named.image == ImageOptions(f"{IMAGE}:1")
    assert named.spec() is None
    assert Asked(packages=()).over(named).image == ImageOptions()
    for options in (built, named, Options()):
        assert Options.read(options.text()) == options
    assert Options.read(None) == Options()
    with pytest.raises(DeploymentError, match="another version of dask-root-lambda wrote them"):
        Options.read('{"image": {"packages": [], "colour": 1}, "variables": {}}')
