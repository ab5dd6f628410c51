"""Building the function's image, and a base for it where no image registry is reachable."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import ROOT

from dask_root_lambda.deployment.image import Builder, ClusterSpec, ImageSpec, Spec, tag

NAME = "localhost/dask-root-lambda-test"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# Debian's releases, by their Python.
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
PACKAGES = "python3,python3-pip,ca-certificates"
MIRROR = "http://deb.debian.org/debian"
BUILD_TIMEOUT_S = 1200
CERTIFICATES = "/run/ca.crt"


@dataclass(frozen=True)
class Built:
    """An image, and what making it took."""

    name: str
    base: str
    seconds: float
    size_bytes: int


@dataclass(frozen=True)
class Layer:
    """A layer of an image, as it is pushed."""

    digest: str
    size_bytes: int


def layers(name: str) -> list[Layer]:
    """Return the layers of an image, the lowest first; its history has their sizes, and steps without any."""
    digests = _inspected(name, "{{json .RootFS.Layers}}")
    argv = ["podman", "history", "--format", "json", name]
    told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    sizes = [int(step["size"]) for step in reversed(json.loads(told.stdout))]
    # What only sets a variable has no layer of its own, and is among the steps that add nothing.
    while len(sizes) > len(digests) and 0 in sizes:
        sizes.remove(0)
    assert len(sizes) == len(digests), f"{len(sizes)} steps made {len(digests)} layers"
    return [Layer(digest, size) for digest, size in zip(digests, sizes, strict=True)]


def _inspected(name: str, what: str) -> list[str]:
    argv = ["podman", "image", "inspect", "--format", what, name]
    told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    found: list[str] = json.loads(told.stdout)
    return found


def find_base() -> str:
    """The Dockerfile's own base if it can be had, else one made of Debian's packages."""
    default = f"docker.io/library/python:{PYTHON}-slim-bookworm"
    if _run(["podman", "pull", "--quiet", default], check=False, timeout_s=300):
        return default
    if PYTHON not in SUITES or shutil.which("debootstrap") is None:
        pytest.fail(
            f"{default} cannot be pulled, and debootstrap makes no Debian with Python {PYTHON} here: name a "
            "base image with `make image-test BASE=...`"
        )
    return _debian(SUITES[PYTHON])


def build(base: str) -> Built:
    """Build the image of this client's Python and ROOT, as ``dask-root-lambda deploy`` does."""
    minor = ".".join(str(ROOT.__version__).split(".")[:2])
    return _build(ImageSpec.of_client(minor, base), NAME, base)


def build_cluster(function_image: str) -> Built:
    """Build the image of scheduler and gateway on the function's."""
    return _build(ClusterSpec.of_client(function_image), f"{NAME}-cluster", function_image)


def _build(spec: Spec, repository: str, base: str) -> Built:
    begun_s = time.monotonic()
    extra = ["--isolation", "chroot", "--network", "host", "--ulimit", "nofile=4096:4096", *_trust()]
    name = f"{repository}:{tag(spec)}"
    Builder.find(["buildah"]).build(spec, name, extra)
    argv = ["podman", "image", "inspect", "--format", "{{.Size}}", name]
    size = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    return Built(name, base, time.monotonic() - begun_s, int(size.stdout))


def _trust() -> list[str]:
    """Let pip trust whom this machine trusts, where that is not what the base image trusts."""
    bundle = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if bundle is None:
        return []
    return ["--volume", f"{bundle}:{CERTIFICATES}:ro", "--build-arg", f"PIP_CERT={CERTIFICATES}"]


def _debian(suite: str) -> str:
    """Make a base image of a Debian with nothing but Python and pip, once."""
    name = f"localhost/dask-root-lambda-base:{suite}"
    if _run(["podman", "image", "exists", name], check=False):
        return name
    script = f"""
        set -eu
        directory=$(mktemp -d)
        trap 'rm -rf "$directory"' EXIT
        debootstrap --variant=minbase --include={PACKAGES} {suite} "$directory" {MIRROR}
        rm -rf "$directory"/var/cache/apt/archives/*.deb "$directory"/var/lib/apt/lists/*_*
        tar -C "$directory" -c . | podman import - {name}
    """
    _run(["sh", "-c", script], timeout_s=BUILD_TIMEOUT_S)
    return name


def _run(argv: list[str], *, check: bool = True, timeout_s: float = 60) -> bool:
    """Run a program; if it must succeed and does not, the test fails with what it said."""
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False
    )
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(argv[:3])} ... ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.returncode == 0
