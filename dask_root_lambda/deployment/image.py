"""The function's image: what it is made of, the hash that names it, and the program that builds it.

The hash is over all that the build is told: the Dockerfile, its arguments (base image, requirements and
versions), and the files that it copies. So an image that exists under it need not be built or pushed, and a
tag never changes its meaning. What registries make of a name that fixes no content, ``mine:latest`` or a
requirement without a version, is not in it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

import dask_root_lambda
from dask_root_lambda.protocol.errors import ConfigurationError, DeploymentError

logger = logging.getLogger(__name__)

PROGRAMS = ("docker", "podman", "finch", "buildah")
"""What can build, in the order in which it is looked for."""
BUILD_TIMEOUT_S = 3600.0
_CHECK_TIMEOUT_S = 30.0
_TAG_DIGITS = 24
_TAIL_LINES = 30
"""Lines of a failed program's output that are told."""

_PACKAGES = Path(dask_root_lambda.__file__).parent.parent
_FUNCTION_FILES = ("dask_root_lambda/__init__.py", "dask_root_lambda/py.typed", "dask_root_lambda/protocol")
_PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
ARCHITECTURES = tuple(_PLATFORMS)
"""As Lambda calls them."""


class Spec(Protocol):
    """What an image is made of."""

    @property
    def dockerfile(self) -> str:
        """Its Dockerfile, as it is called in the context."""

    @property
    def platform(self) -> str:
        """What it runs on, as Docker calls it."""

    def arguments(self) -> Mapping[str, str]:
        """Build arguments."""

    def files(self) -> Mapping[str, bytes]:
        """Return the context: content by path."""


@dataclass(frozen=True)
class ImageSpec:
    """The function's image."""

    python: str
    """Python's minor version, such as 3.11: the client's."""
    root: str = ""
    """Requirement by which pip installs ROOT; empty if the base image has one."""
    root_version: str = ""
    """ROOT's minor version, such as 6.40, which the build checks; empty for any."""
    base: str = ""
    """Base image; empty for the Dockerfile's own."""
    packages: tuple[str, ...] = ()
    """Requirements of what users' own functions import."""
    architecture: str = "x86_64"
    """As Lambda calls it."""

    dockerfile = "lambda_runtime/Dockerfile"

    @classmethod
    def of_client(
        cls, root_version: str, base: str = "", packages: Sequence[str] = (), architecture: str = "x86_64"
    ) -> ImageSpec:
        """Describe the image that fits this process's Python and ROOT.

        Parameters
        ----------
        root_version
            ROOT's minor version, such as 6.40.
        base, packages, architecture
            See the fields.

        Raises
        ------
        ConfigurationError
            ROOT is not PyPI's here, and no base image is named that has it.
        """
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        try:
            root = f"ROOT=={metadata.version('ROOT')}"
        except metadata.PackageNotFoundError:
            if not base:
                raise ConfigurationError(
                    f"this ROOT {root_version} is not PyPI's, so the image cannot be given the same: name a "
                    f"base image that has ROOT {root_version} for Python {python}"
                ) from None
            root = ""
        return cls(python, root, root_version, base, tuple(packages), architecture)

    @property
    def platform(self) -> str:
        """See `Spec.platform`."""
        return _PLATFORMS[self.architecture]

    def arguments(self) -> Mapping[str, str]:
        """See `Spec.arguments`."""
        named = {
            "PYTHON": self.python,
            "ROOT": self.root,
            "ROOT_VERSION": self.root_version,
            "PACKAGES": " ".join(self.packages),
        }
        return {**named, "BASE": self.base} if self.base else named

    def files(self) -> Mapping[str, bytes]:
        """See `Spec.files`."""
        return context_files()


@dataclass(frozen=True)
class ClusterSpec:
    """The image of a Dask scheduler and gateway: the function's, with Dask and the client's part of us."""

    function_image: str
    """The function's image, with its tag."""
    packages: tuple[str, ...]
    """Requirements of what it has more: see `of_client`."""
    platform: str = _PLATFORMS["x86_64"]

    dockerfile = "lambda_runtime/cluster.Dockerfile"

    @classmethod
    def of_client(cls, function_image: str) -> ClusterSpec:
        """Describe the image with this process's Dask, which all of a cluster and its clients share."""
        names = ("dask", "distributed", "cloudpickle", "bokeh", "PyYAML", "tqdm")
        return cls(function_image, tuple(f"{name}=={metadata.version(name)}" for name in names))

    def arguments(self) -> Mapping[str, str]:
        """See `Spec.arguments`."""
        return {"FUNCTION_IMAGE": self.function_image, "PACKAGES": " ".join(self.packages)}

    def files(self) -> Mapping[str, bytes]:
        """See `Spec.files`."""
        return dict(_read(("dask_root_lambda", "lambda_runtime")))


def context_files() -> Mapping[str, bytes]:
    """Return what the function's image copies, Dockerfile included: content by path."""
    return dict(_read((*_FUNCTION_FILES, "lambda_runtime")))


def tag(spec: Spec) -> str:
    """Name an image by the content of everything that it is made of."""
    parts = [f"{name}={value}".encode() for name, value in sorted(spec.arguments().items())]
    parts += [spec.platform.encode(), spec.dockerfile.encode()]
    for name, content in sorted(spec.files().items()):
        parts += [name.encode(), content]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:_TAG_DIGITS]


@dataclass(frozen=True)
class Builder:
    """A program that builds images and pushes them."""

    program: str
    """Its path."""

    @classmethod
    def find(cls, names: Sequence[str] = PROGRAMS) -> Builder:
        """Find one that is installed and answers.

        Raises
        ------
        ConfigurationError
            There is none, or those that there are do not answer, and why.
        """
        silent: list[str] = []
        for name in names:
            program = shutil.which(name)
            if program is None:
                continue
            # Docker and Finch are clients: what does the work may not be running.
            check = "--version" if name in ("podman", "buildah") else "info"
            problem = _problem([program, check])
            if problem is None:
                return cls(program)
            silent.append(f"{name} does not answer: {problem}")
        raise ConfigurationError(
            f"the image needs one of {', '.join(names)} to be built, and none can be used: "
            f"{'; '.join(silent) or 'none is installed'}"
        )

    @property
    def name(self) -> str:
        """What it is called."""
        return Path(self.program).name

    def build(
        self,
        spec: Spec,
        reference: str,
        extra_arguments: Sequence[str] = (),
        say: Callable[[str], None] = logger.info,
    ) -> None:
        """Build an image.

        Parameters
        ----------
        spec
            What it is made of.
        reference
            What it is called: registry, repository and tag.
        extra_arguments
            Of the program, for networks with a proxy of their own and the like.
        say
            Told every line that the program writes.

        Raises
        ------
        DeploymentError
            It failed, with the end of what it wrote.
        """
        with tempfile.TemporaryDirectory(prefix="dask-root-lambda-") as directory:
            for name, content in spec.files().items():
                path = Path(directory, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            _open_to_all(Path(directory))
            argv = [*self._command(spec), "--tag", reference, *extra_arguments, directory]
            self._run(argv, "building the image", say)

    def push(self, reference: str, say: Callable[[str], None] = logger.info) -> None:
        """Push an image to its registry.

        Raises
        ------
        DeploymentError
            It failed, with the end of what it wrote.
        """
        self._run([self.program, "push", reference], "pushing the image", say)

    def login(self, registry: str, user: str, password: str) -> None:
        """Let it push to a registry.

        Raises
        ------
        DeploymentError
            The registry refused.
        """
        argv = [self.program, "login", "--username", user, "--password-stdin", registry]
        problem = _problem(argv, password)
        if problem is not None:
            raise DeploymentError(f"{self.name} cannot log in to {registry}: {problem}")

    def _command(self, spec: Spec) -> list[str]:
        """Return the command that builds, without what it is called and where the context is."""
        argv = [self.program, "build", "--file", spec.dockerfile, "--platform", spec.platform]
        if self.name in ("podman", "buildah"):
            # Each instruction is kept, so that a change of ours builds what comes after it, and no more.
            argv = [*argv, "--layers", "--format", "docker"]
        for name, value in spec.arguments().items():
            argv += ["--build-arg", f"{name}={value}"]
        return argv

    def _run(self, argv: list[str], doing: str, say: Callable[[str], None]) -> None:
        # Lambda takes no index of images, which Docker makes where it adds attestations.
        environment = {**os.environ, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        process = subprocess.Popen(
            argv,
            cwd=argv[-1] if Path(argv[-1]).is_dir() else None,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        timer = threading.Timer(BUILD_TIMEOUT_S, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            with process.stdout as output:
                for line in output:
                    tail.append(line.rstrip())
                    say(line.rstrip())
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            timer.cancel()
        if status != 0:
            told = "\n".join(tail)
            raise DeploymentError(f"{doing} with {self.name} ended with status {status}:\n{told}")


def _open_to_all(directory: Path) -> None:
    """Let everybody read: modes go into the image, where the user is another, and umask may have cut them."""
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _problem(argv: Sequence[str], told: str | None = None) -> str | None:
    """Run a program and return why it failed; None if it did not."""
    try:
        done = subprocess.run(
            argv, input=told, capture_output=True, text=True, timeout=_CHECK_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return (done.stderr or done.stdout).strip()[-500:] or f"status {done.returncode}"


def _read(names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Read files, and directories without what Python and editors leave in them."""
    for name in names:
        top = _PACKAGES / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            parts = path.relative_to(_PACKAGES).parts
            if path.is_file() and "__pycache__" not in parts and path.suffix != ".pyc":
                yield "/".join(parts), path.read_bytes()
