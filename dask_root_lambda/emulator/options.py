"""What an emulator is told when it starts."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from dask_root_lambda.emulator.faults import Faults
from dask_root_lambda.emulator.forwarding import read_address

DEFAULT_HANDLER = "lambda_runtime.handler.handler"
IMAGE_RUNNERS = ("process", "container")

# The environments run with the user's programs, but without anything else that is the user's.
INHERITED_VARIABLES = (
    "PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "ROOTSYS",
    "EXTRA_CLING_ARGS",
    "AWS_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "X509_CERT_DIR",
    "X509_CERT_FILE",
)


@dataclass(frozen=True)
class Image:
    """What stands on this machine for a container image: an interpreter and what it finds."""

    handler: str = DEFAULT_HANDLER
    """Used by functions whose ImageConfig has no Command."""
    python: str = sys.executable
    """Interpreter that has awslambdaric and the handler's module."""
    python_path: tuple[str, ...] = ()
    """Directories put in front of PYTHONPATH."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables of the image, which those of the function override."""
    container: str = ""
    """Name of a container image in podman's storage: its environments are containers, and what is said above
    is not used, except ``variables``. Needs root and runc."""
    read_only: tuple[str, ...] = ()
    """Directories of this machine that containers see, at the same path."""


def load_images(path: Path) -> tuple[tuple[str, Image], ...]:
    """Read from a YAML or JSON file what image URIs stand for: ``{pattern: {handler: ..., python: ...}}``.

    Raises
    ------
    ValueError
        Naming the file and what is wrong in it.
    """
    try:
        document = yaml.safe_load(path.read_text())
        return tuple((pattern, _read_image(entry)) for pattern, entry in document.items())
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not a mapping of patterns to images: {error}") from error


def _read_image(entry: dict[str, Any]) -> Image:
    lists = {name: tuple(entry.get(name, ())) for name in ("python_path", "read_only")}
    values: dict[str, Any] = {**entry, **lists}
    return Image(**values)


@dataclass(frozen=True)
class Options:
    """Settings of one emulator; the defaults are AWS's where AWS has them."""

    host: str = "127.0.0.1"
    """Address to listen on. Processes of this user can run code here, and whoever has the key. Without TLS
    others can read along: keep it on loopback."""
    port: int = 0
    """0 takes a free one."""
    region: str = "us-east-1"
    """The one region of the functions."""
    account_id: str = "123456789012"
    """moto's default account."""
    account_concurrency: int = 1000
    """Invocations at a time in all functions together."""
    scaling_rate: int = 1000
    """Environments that each function may start in ten seconds."""
    idle_timeout_s: float = 300.0
    """How long an environment waits for work before it is ended."""
    init_timeout_s: float = 10.0
    """How long initialisation may take before it is moved into the invocation's time."""
    stop_on_disconnect: bool = False
    """End the environment of a synchronous invocation when its client goes. AWS lets it run on; a user
    who presses Ctrl-C on this machine wants it stopped."""
    python_path: tuple[str, ...] = ()
    """Directories put in front of PYTHONPATH in every environment."""
    inherited: tuple[str, ...] = ()
    """Names of variables of this process that environments have as well, but for containers."""
    images: tuple[tuple[str, Image], ...] = ()
    """Patterns of image URIs (``fnmatch``) and what they stand for; the first match wins."""
    image_runner: str = "process"
    """What runs images that no pattern matches: ``process``, this interpreter; ``container``, a container of
    podman's image of that name."""
    reachable: tuple[str, ...] = ()
    """``127.x.y.z:PORT`` of this machine that containers reach as well: an XRootD server, say."""
    certificate: Path | None = None
    """PEM file: serve TLS. The environments are told to trust it."""
    private_key: Path | None = None
    """PEM file, if the key is not in ``certificate``."""

    iam: bool = False
    """Check signatures, and apply the policies of moto's IAM; else this user's processes may do all."""
    faults: Faults = field(default_factory=Faults)
    """What goes wrong."""
    private_tmp: bool = False
    """Give each environment a /tmp of its own. Otherwise its temporary files are its own, and of limited size
    where this is root's process, but what it reads and writes in /tmp is the machine's: an analysis of files
    that lie there finds them."""
    virtual_clock: bool = False
    """Skip the waiting between events: a retry follows at once, and ``Emulator.advance`` ends idle times."""
    settle_s: float = 0.0
    """How long a function is ``Pending`` after it was made, and an update ``InProgress``; on AWS, seconds."""
    seed: int | None = None
    """Of everything that is left to chance: weighted aliases, faults by probability."""

    def __post_init__(self) -> None:
        if self.image_runner not in IMAGE_RUNNERS:
            raise ValueError(f"image_runner must be process or container, not {self.image_runner!r}")
        for text in self.reachable:
            read_address(text)
        for name in ("account_concurrency", "scaling_rate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("idle_timeout_s", "init_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.settle_s < 0:
            raise ValueError(f"settle_s must not be negative, not {self.settle_s}")
        if self.private_key is not None and self.certificate is None:
            raise ValueError("private_key needs a certificate: pass certificate=PATH as well")

    def image(self, uri: str) -> Image:
        """Find what stands for an image URI."""
        for pattern, image in self.images:
            if fnmatchcase(uri, pattern):
                return image
        return Image(container=uri) if self.image_runner == "container" else Image()
