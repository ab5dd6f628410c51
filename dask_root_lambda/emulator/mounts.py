"""A /tmp of limited size for each environment, where the machine allows it; used by the warden only.

As root, the warden has a mount namespace of its own, in which each environment's directory for temporary
files is a file system in memory, with the size that the function asked for. A private /tmp puts that in the
place of /tmp itself, for which ordinary users need a user namespace.

Nothing here is essential: where the kernel says no, environments have plain directories.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_NOSUID = 2
MS_NODEV = 4
MS_RDONLY = 1
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19
MNT_DETACH = 2

TMP = "/tmp"  # noqa: S108 - the directory itself is the subject here

_libc = ctypes.CDLL(None, use_errno=True)


def isolate(*, as_user: bool) -> bool:
    """Move this process into a mount namespace of its own; False if it may not have one.

    What the machine mounts later (a network file system, on first use) still appears in it.

    Parameters
    ----------
    as_user
        Whether to use a user namespace where this is not root's process.
    """
    flags = CLONE_NEWNS
    user, group = os.getuid(), os.getgid()
    if user != 0:
        if not as_user:
            return False
        flags |= CLONE_NEWUSER
    if _libc.unshare(flags) != 0:
        return False
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return _mount(None, "/", None, MS_SLAVE | MS_REC)


def limit(directory: Path, size_mb: int) -> bool:
    """Make a directory a file system of a size; False if that is not allowed."""
    options = f"size={size_mb}m,mode=0777"
    return _mount("tmpfs", str(directory), "tmpfs", MS_NOSUID | MS_NODEV, options)


def freeze(directory: Path) -> None:
    """Make a directory read-only for this process and its children, as far as that is allowed."""
    if _mount(str(directory), str(directory), None, MS_BIND):
        _mount(None, str(directory), None, MS_REMOUNT | MS_BIND | MS_RDONLY)


def overlay(layers: Sequence[str], upper: Path, work: Path, target: Path) -> None:
    """Mount a stack of directories, with one more on top that takes what is written.

    Parameters
    ----------
    layers
        Directories that stay as they are, the topmost first.
    upper, work
        Empty directories of one file system.
    target
        Where to mount it.

    Raises
    ------
    OSError
        If the kernel refuses.
    """
    options = f"lowerdir={':'.join(layers)},upperdir={upper},workdir={work}"
    if not _mount("overlay", str(target), "overlay", 0, options):
        error = ctypes.get_errno()
        raise OSError(error, f"the image's layers cannot be mounted: {os.strerror(error)}")


def release(directory: Path) -> None:
    """Take a file system away, even if it is in use."""
    _libc.umount2(os.fsencode(directory), MNT_DETACH)


def replace_tmp(directory: Path, keep: Iterable[str]) -> None:
    """Put a directory in the place of /tmp, for this process and its children only.

    Parameters
    ----------
    directory
        The new /tmp.
    keep
        Directories below the old /tmp that stay where they are.

    Raises
    ------
    OSError
        If the kernel refuses.
    """
    done = _libc.unshare(CLONE_NEWNS) == 0 and _mount(None, "/", None, MS_SLAVE | MS_REC)
    # What is hidden in a moment is reached through descriptors; of this namespace, or they cannot be mounted.
    kept = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY)) for path in keep if _below_tmp(path)]
    done = done and _mount(str(directory), TMP, None, MS_BIND | MS_REC)
    for path, descriptor in kept:
        if done:
            Path(path).mkdir(parents=True, exist_ok=True)
            done = _mount(f"/proc/self/fd/{descriptor}", path, None, MS_BIND | MS_REC)
        os.close(descriptor)
    if not done:
        error = ctypes.get_errno()
        raise OSError(error, f"no private /tmp on this machine: {os.strerror(error)}; do without private_tmp")


def _below_tmp(path: str) -> bool:
    return path.startswith(f"{TMP}/") and Path(path).is_dir()


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> bool:
    arguments = (source and os.fsencode(source), os.fsencode(target), kind and os.fsencode(kind))
    return int(_libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(options) or None)) == 0
