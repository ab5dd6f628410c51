"""What an OCI runtime is told about a container: a function's limits, and nothing that a function has not.

Source: https://github.com/opencontainers/runtime-spec/blob/main/config.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.images import ContainerImage

# What AWS's environments show: an ordinary user, sbx_user1051.
USER_ID, GROUP_ID = 993, 990
# File descriptors; processes and threads:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
FILES, PROCESSES = 1024, 1024
MIB = 1 << 20

_HIDDEN = (
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
)
_FIXED = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def bundle(
    version: FunctionVersion,
    image: ContainerImage,
    variables: Mapping[str, str],
    network: str,
    read_only: Iterable[str],
) -> dict[str, Any]:
    """Make the configuration of an environment's container, except where its root and its cgroup are.

    Parameters
    ----------
    version
        What runs in it, with its limits.
    image
        What it is made from.
    variables
        All environment variables.
    network
        Path of its network namespace.
    read_only
        Directories of this machine that it sees, at the same path.
    """
    return {
        "ociVersion": "1.0.2",
        "hostname": "lambda",
        "process": _process(version, image, variables),
        "root": {"readonly": True},
        "mounts": [
            _mount("/proc", "proc"),
            _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=64k"),
            _mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777", f"size={version.ephemeral_storage_mb}m"),  # noqa: S108
            *(_mount(path, "none", "rbind", "ro", "nosuid", "nodev", source=path) for path in read_only),
        ],
        "linux": {
            "resources": _resources(version),
            "namespaces": [
                *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                {"type": "network", "path": network},
            ],
            "maskedPaths": list(_HIDDEN),
            "readonlyPaths": list(_FIXED),
        },
    }


def command_line(version: FunctionVersion, image: ContainerImage) -> list[str]:
    """Tell what runs: what the image says, where the function does not say otherwise."""
    config = version.image_config
    entrypoint = config.get("EntryPoint") or image.entrypoint
    return [*entrypoint, *(config.get("Command") or image.command)]


def _process(version: FunctionVersion, image: ContainerImage, variables: Mapping[str, str]) -> dict[str, Any]:
    return {
        "user": {"uid": USER_ID, "gid": GROUP_ID},
        "args": command_line(version, image),
        "env": [f"{name}={value}" for name, value in variables.items()],
        "cwd": version.image_config.get("WorkingDirectory") or image.working_directory,
        "capabilities": {},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": FILES, "soft": FILES}],
        "noNewPrivileges": True,
    }


def _resources(version: FunctionVersion) -> dict[str, Any]:
    # The file system in memory counts as the container's memory, which /tmp on AWS does not. So the kernel's
    # limit is the sum; what processes use is held to the function's own by the emulator's MemoryWatch.
    limit = (version.memory_mb + version.ephemeral_storage_mb) * MIB
    return {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": limit, "swap": limit},
        "pids": {"limit": PROCESSES},
    }


def _mount(destination: str, kind: str, *options: str, source: str = "") -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source or kind, "options": list(options)}
