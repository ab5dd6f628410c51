"""Container images, as podman and buildah keep them on this machine.

Only their storage is used: what runs the containers is the OCI runtime itself (see ``containers``). An
image is what it was when it was looked up, as on AWS: a function keeps the image that its tag stood for.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

INSPECT_TIMEOUT_S = 60.0
_RUNTIMES = ("runc", "crun")


class ImageError(Exception):
    """An image cannot be run here; the message says why, and what to do."""


@dataclass(frozen=True)
class ContainerImage:
    """What a container is made from."""

    identity: str
    """Hash of its configuration and layers, in hexadecimal."""
    size_bytes: int
    """All layers, unpacked."""
    layers: tuple[str, ...]
    """Directories of the layers, the topmost first."""
    variables: dict[str, str]
    """Environment variables."""
    entrypoint: tuple[str, ...] = ()
    """Start of the command line."""
    command: tuple[str, ...] = ()
    """Rest of it, which a function may replace."""
    working_directory: str = "/"
    """Where it starts."""


def find_image(name: str) -> ContainerImage:
    """Look an image up in the storage of podman and buildah.

    Raises
    ------
    ImageError
        It is not there, or podman is not, or its storage is of a kind whose layers cannot be mounted.
    """
    if shutil.which("podman") is None:
        raise ImageError("container images are looked up with podman, which is not installed")
    argv = ["podman", "image", "inspect", name]
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=INSPECT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ImageError(f"podman did not answer within {INSPECT_TIMEOUT_S:.0f} s") from None
    if answer.returncode != 0:
        raise ImageError(f"Source image {name} does not exist. {answer.stderr.strip()[-500:]}")
    return read_image(json.loads(answer.stdout)[0])


def read_image(document: dict[str, Any]) -> ContainerImage:
    """Read what ``podman image inspect`` says of one image.

    Raises
    ------
    ImageError
        Its layers are not those of an overlay file system.
    """
    driver = document["GraphDriver"]
    if driver["Name"] != "overlay":
        raise ImageError(
            f"podman's storage driver is {driver['Name']}; the layers of images can be used with overlay only"
        )
    config = document.get("Config") or {}
    lower = driver["Data"].get("LowerDir", "")
    return ContainerImage(
        identity=document["Id"],
        size_bytes=int(document["Size"]),
        layers=tuple(filter(None, (driver["Data"]["UpperDir"], *lower.split(":")))),
        variables=dict(entry.split("=", 1) for entry in config.get("Env") or ()),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        working_directory=config.get("WorkingDir") or "/",
    )


def find_runtime() -> str:
    """Find the OCI runtime that runs containers.

    Raises
    ------
    ImageError
        There is none.
    """
    for name in _RUNTIMES:
        path = shutil.which(name)
        if path:
            return path
    raise ImageError(f"containers are run by {' or '.join(_RUNTIMES)}, and neither is installed")
