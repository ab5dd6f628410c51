"""How the warden runs a container: as a child of its own, like any other process.

The OCI runtime sets it up, detached, and ends; the container's first process then comes to the warden, which
sees how it ends and kills it like any other. Being the first of its process namespace, it takes all others
with it. Its root file system is mounted in the warden's mount namespace, and so goes with the warden at the
latest; what would stay behind are cgroups, which are removed here.

Imports the standard library only, as the warden does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from dask_root_lambda.emulator import mounts
else:
    import mounts

CGROUPS = Path("/sys/fs/cgroup")
# What the runtime adds to the root file system: the points where it mounts something.
LAYER_MB = 16
# A cgroup can be removed once its last process is buried, which the kernel may do a little later.
REMOVAL_S = 1.0


def lay_out(scratch: Path, container: dict[str, Any]) -> list[str]:
    """Make a container's root file system and configuration; return the command that starts it.

    Parameters
    ----------
    scratch
        Directory of the environment.
    container
        ``runtime``, the program; ``layers`` of the image; ``config``, OCI's.

    Raises
    ------
    OSError
        If the kernel refuses the mounts.
    """
    root, layer = scratch / "rootfs", scratch / "layer"
    for directory in (root, layer):
        directory.mkdir()
    if not mounts.limit(layer, LAYER_MB):
        raise OSError("no file system for a container could be mounted; containers need root")
    for name in ("upper", "work"):
        (layer / name).mkdir()
    mounts.overlay(container["layers"], layer / "upper", layer / "work", root)
    config = container["config"]
    config["root"]["path"] = str(root)
    config["linux"]["cgroupsPath"] = f"/{_cgroup(scratch)}"
    (scratch / "config.json").write_text(json.dumps(config))
    state, pid_file = str(scratch / "state"), str(scratch / "pid")
    arguments = ["run", "--detach", "--bundle", str(scratch), "--pid-file", pid_file, scratch.name]
    return [container["runtime"], "--root", state, *arguments]


def first_process(scratch: Path) -> int:
    """Find the number of a container's first process; 0 if it was not started."""
    try:
        return int((scratch / "pid").read_text())
    except (OSError, ValueError):
        return 0


def out_of_memory(scratch: Path) -> bool:
    """Tell whether the kernel has ended a process of a container for want of memory."""
    cgroup = _cgroup(scratch)
    for path in (CGROUPS / "memory" / cgroup / "memory.oom_control", CGROUPS / cgroup / "memory.events"):
        with contextlib.suppress(OSError):
            counts = dict(line.split() for line in path.read_text().splitlines())
            return int(counts.get("oom_kill", 0)) > 0
    return False


def clear(scratch: Path) -> None:
    """Take away what a container leaves: its mounts and its cgroups."""
    if not (scratch / "config.json").exists():
        return
    for name in ("rootfs", "layer"):
        mounts.release(scratch / name)
    _remove(_cgroup(scratch))


def end_all(root: Path) -> None:
    """End the processes of all containers of an emulator, also of one whose number nobody was told yet."""
    for path in _cgroups(root):
        with contextlib.suppress(OSError):
            for pid in (path / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)


def clear_all(root: Path) -> None:
    """Take away the cgroups of all containers of an emulator, whose processes have ended."""
    for name in {path.name for path in _cgroups(root)}:
        _remove(f"{root.name}/{name}")
    _remove(root.name)


def _cgroups(root: Path) -> list[Path]:
    """Return those of an emulator's containers, of every hierarchy."""
    return [path for pattern in ("", "*/") for path in CGROUPS.glob(f"{pattern}{root.name}/*/")]


def _cgroup(scratch: Path) -> str:
    return f"{scratch.parent.name}/{scratch.name}"


def _remove(name: str) -> None:
    deadline = time.monotonic() + REMOVAL_S
    while not _remove_cgroups(name) and time.monotonic() < deadline:
        time.sleep(0.005)


def _remove_cgroups(name: str) -> bool:
    """Remove a cgroup of every hierarchy; False if there is one that is in use."""
    done = True
    for hierarchy in (CGROUPS, *(path for path in CGROUPS.iterdir() if path.is_dir())):
        try:
            os.rmdir(hierarchy / name)  # noqa: PTH106 - a pseudo file system; its directories are never empty
        except FileNotFoundError:
            continue
        except OSError:
            done = False
    return done
