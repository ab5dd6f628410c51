"""The parent of every execution environment, in a process of its own.

The emulator may live in a thread of a user's program, and may be killed at any moment. So it starts no
environment itself: it asks this process to, over a socket. The end of the socket is the end of the
emulator, whatever ended it, and everything that was started ends with it: process groups, processes that
left their group (they come back here as orphans: this process is a subreaper), and files.

Being small and without threads, it forks in a fraction of a millisecond, and may run code between fork
and exec. It is run as a script, with an isolated interpreter, and imports the standard library only.

Messages are JSON, one per packet. To the warden::

    {"op": "spawn", "id": ..., "argv": [...], "env": {...},     + descriptors: output, and what becomes 3
     "tmp_mb": ..., "keep": [...],                              keep, if not null: /tmp is private
     "directory": ...,                                          where it starts; empty: in one of its own
     "container": {...}}                                        if not null: what `containers` needs, for argv
    {"op": "prepare", "id": ..., "tmp_mb": ...}                 directories for an orphan to come
    {"op": "adopt", "id": ..., "pid": ..., "mark": ...}         an orphan that was forked on purpose
    {"op": "discard", "id": ...}                                it did not come
    {"op": "kill", "id": ...}

From the warden::

    {"event": "hello", "limited_tmp": ...}              whether the size of /tmp is limited
    {"event": "prepared", "id": ...}
    {"event": "started", "id": ..., "pid": ...}
    {"event": "exit", "id": ..., "status": ..., "peak_kib": ..., "out_of_memory": ...}
                                                        a wait status; largest resident set; whether the
                                                        kernel ended it for want of memory (containers)
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from dask_root_lambda.emulator import containers, mounts
else:
    # The isolated interpreter does not look beside the script; behind the standard library, it may.
    sys.path.append(str(Path(__file__).parent))
    import containers
    import mounts

PACKET_BYTES = 1 << 20
# Where the emulator unpacks archives, which environments read and do not change.
CODE = "code"
PR_SET_CHILD_SUBREAPER = 36
SA_NOCLDSTOP = 1
# How often to look whether the emulator is still there, should a fork of its process hold the socket open.
PARENT_CHECK_S = 1.0
# How long processes that must end may take to be gone.
LAST_RITES_S = 5.0
# How many ends of unknown orphans to remember, should one of them be introduced later.
STRANGERS = 1000
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: file descriptors.
FILES = 1024
# Wait status of a container whose runtime says that it was started, and did not tell its number.
FAILED_START = 126 << 8


class Warden:
    """Starts, ends and buries processes.

    Parameters
    ----------
    control
        The socket to the emulator.
    root
        Directory for the environments' files; removed at the end.
    limited
        Whether directories for temporary files can be limited in size.
    """

    def __init__(self, control: socket.socket, root: Path, limited: bool) -> None:
        self._limited = limited
        self._control = control
        self._root = root
        self._pids: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._marks: dict[str, bytes] = {}
        self._strangers: dict[int, tuple[int, int]] = {}
        self._launching: dict[int, str] = {}
        self._doomed: set[str] = set()
        self._outbox: deque[bytes] = deque()
        self._selector = selectors.DefaultSelector()
        self._parent = os.getppid()
        self._code = root / CODE
        if limited:
            self._code.mkdir(exist_ok=True)
            mounts.freeze(self._code)

    def run(self) -> None:
        """Serve until the emulator is gone, then end everything."""
        wakeup, signalled = os.pipe()
        for descriptor in (wakeup, signalled):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _hear_of_ends_only()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # It ends when the emulator does, and not before: it is what cleans up.
            signal.signal(number, signal.SIG_IGN)
        self._control.setblocking(False)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(wakeup, selectors.EVENT_READ)
        self._tell({"event": "hello", "limited_tmp": self._limited})
        while os.getppid() == self._parent:
            ready = {key.fd for key, _ in self._selector.select(PARENT_CHECK_S)}
            if wakeup in ready:
                os.read(wakeup, 4096)
            self._reap()
            if self._control.fileno() in ready and not self._receive():
                break
            self._send()
        self._end()

    def _receive(self) -> bool:
        """Act on what was asked; False when the emulator is gone."""
        while True:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._control, PACKET_BYTES, 2)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not packet:
                return False
            message = json.loads(packet)
            self._act(message, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)

    def _act(self, message: dict[str, Any], descriptors: list[int]) -> None:
        operation = message["op"]
        if operation == "spawn":
            self._spawn(message, descriptors)
        elif operation == "prepare":
            self._make_room(message)
            self._tell({"event": "prepared", "id": message["id"]})
        elif operation == "adopt":
            self._adopt(message)
        elif operation == "discard":
            self._clear(message["id"])
        else:
            self._kill(message["id"])

    def _make_room(self, message: dict[str, Any]) -> Path:
        """Make the directories of an environment."""
        scratch: Path = self._root / message["id"]
        for name in ("task", "tmp"):
            (scratch / name).mkdir(parents=True, exist_ok=True)
        if self._limited:
            mounts.limit(scratch / "tmp", message["tmp_mb"])
        return scratch

    def _clear(self, identity: str) -> None:
        if self._limited:
            mounts.release(self._root / identity / "tmp")
        containers.clear(self._root / identity)
        shutil.rmtree(self._root / identity, ignore_errors=True)

    def _spawn(self, message: dict[str, Any], descriptors: list[int]) -> None:
        identity, mark = message["id"], message["env"]["AWS_LAMBDA_RUNTIME_API"]
        scratch = self._make_room(message)
        pid = os.fork()
        if pid == 0:
            _become(message, scratch, descriptors)
        if message["container"] is None:
            self._enter(identity, pid, mark)
        else:
            self._launching[pid] = identity
            self._marks[identity] = mark.encode()

    def _launched(self, identity: str, status: int) -> None:
        """Take the container that a runtime has left here, or bury it if there is none."""
        pid = containers.first_process(self._root / identity) if status == 0 else 0
        if pid == 0:
            self._bury(identity, status or FAILED_START, 0)
        else:
            self._adopt({"id": identity, "pid": pid, "mark": self._marks[identity].decode()})
        if identity in self._doomed:
            self._doomed.discard(identity)
            self._kill(identity)

    def _adopt(self, message: dict[str, Any]) -> None:
        """Take an orphan for an environment; it may have ended before it was introduced."""
        identity, pid = message["id"], message["pid"]
        end = None if _is_child(pid) else self._strangers.pop(pid, (signal.SIGKILL, 0))
        self._enter(identity, pid, message["mark"])
        if end is not None:
            del self._ids[pid]
            self._bury(identity, *end)

    def _enter(self, identity: str, pid: int, mark: str) -> None:
        self._pids[identity] = pid
        self._ids[pid] = identity
        self._marks[identity] = mark.encode()
        self._tell({"event": "started", "id": identity, "pid": pid})

    def _kill(self, identity: str) -> None:
        if identity in self._pids:
            _kill_group(self._pids[identity])
        elif identity in self._launching.values():
            self._doomed.add(identity)

    def _reap(self) -> None:
        """Bury every child that has ended, and its group with it."""
        while True:
            try:
                # WNOWAIT: while the zombie is there, nobody else can get its number.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if ended.si_pid in self._ids:
                _kill_group(ended.si_pid)
            _, status, usage = os.wait4(ended.si_pid, 0)
            identity = self._ids.pop(ended.si_pid, None)
            if ended.si_pid in self._launching:
                self._launched(self._launching.pop(ended.si_pid), status)
            elif identity is not None:
                self._bury(identity, status, usage.ru_maxrss)
            else:
                self._strangers[ended.si_pid] = (status, usage.ru_maxrss)
                while len(self._strangers) > STRANGERS:
                    del self._strangers[next(iter(self._strangers))]

    def _bury(self, identity: str, status: int, peak_kib: int) -> None:
        self._pids.pop(identity, None)
        self._kill_strays(self._marks.pop(identity))
        starved = containers.out_of_memory(self._root / identity)
        self._clear(identity)
        end = {"status": status, "peak_kib": peak_kib, "out_of_memory": starved}
        self._tell({"event": "exit", "id": identity, **end})

    def _kill_strays(self, mark: bytes) -> None:
        """End orphans that left an environment's group; they still have its Runtime API's address."""
        for pid in _children():
            if pid not in self._ids and mark in _environment(pid):
                _kill(pid)

    def _tell(self, message: dict[str, Any]) -> None:
        self._outbox.append(json.dumps(message).encode())
        self._send()

    def _send(self) -> None:
        while self._outbox:
            try:
                self._control.send(self._outbox[0])
            except BlockingIOError:
                # The emulator reads slowly; PARENT_CHECK_S brings us here again.
                return
            except OSError:
                self._outbox.clear()
                return
            self._outbox.popleft()

    def _end(self) -> None:
        """Kill until no child is left, then remove the files."""
        deadline = time.monotonic() + LAST_RITES_S
        for pid in self._ids:
            _kill_group(pid)
        while time.monotonic() < deadline:
            for pid in _children():
                _kill(pid)
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            time.sleep(0.005)
        for scratch in self._root.iterdir():
            self._clear(scratch.name)
        mounts.release(self._code)
        containers.clear_all(self._root)
        shutil.rmtree(self._root, ignore_errors=True)


def _become(message: dict[str, Any], scratch: Path, descriptors: list[int]) -> None:
    """Turn the forked child into the environment's process; never returns."""
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(descriptors[0], 1)
        os.dup2(descriptors[0], 2)
        if len(descriptors) > 1:
            os.dup2(descriptors[1], 3)
        if message["keep"] is not None:
            mounts.replace_tmp(scratch / "tmp", [*message["keep"], str(scratch / "task")])
        if message["container"] is not None:
            argv = containers.lay_out(scratch, message["container"])
            message = {**message, "argv": argv, "env": {"PATH": os.defpath}}
        os.chdir(message["directory"] or scratch / "task")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        _limit_files()
        os.execve(message["argv"][0], message["argv"], message["env"])  # noqa: S606 - the emulator says what
    except BaseException as error:  # nothing may return into the warden's loop
        os.write(2, f"cannot start {message['argv'][0]}: {error}\n".encode())
    finally:
        os._exit(126)


def _limit_files() -> None:
    """Give the environment Lambda's limit of open files, or what the machine's own (ulimit -Hn) leaves."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES if hard == resource.RLIM_INFINITY or os.geteuid() == 0 else min(FILES, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    except (ValueError, OSError):  # root without the right to raise it, as in a container
        files = min(FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


class _SignalAction(ctypes.Structure):
    """``struct sigaction`` of the C library on 64-bit x86 and ARM: sigaction(2)."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_byte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def _hear_of_ends_only() -> None:
    """Ask for SIGCHLD when a child ends, not when it is stopped: twice per event, which costs 50 us."""
    libc, action = ctypes.CDLL(None), _SignalAction()
    if libc.sigaction(signal.SIGCHLD, None, ctypes.byref(action)) == 0:
        action.flags |= SA_NOCLDSTOP
        libc.sigaction(signal.SIGCHLD, ctypes.byref(action), None)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # It has not called setsid yet, or its group is empty.
        _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children() -> list[int]:
    """Find the processes whose parent is this one."""
    me = os.getpid()
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{me}/children").read_text().split()]
    except OSError:
        return [pid for pid in _processes() if _parent(pid) == me]


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - one call, no objects


def _parent(pid: int) -> int:
    try:
        # The name in parentheses may hold anything, spaces and parentheses included.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def main() -> None:
    """Take the socket's descriptor and the directory from the command line, and serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # An environment that held it open would hide the warden's own death.
    control.set_inheritable(False)
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    limited = mounts.isolate(as_user=sys.argv[3] == "private")
    Warden(control, Path(sys.argv[2]), limited).run()


if __name__ == "__main__":
    main()
