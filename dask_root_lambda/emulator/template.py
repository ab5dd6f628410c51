"""SnapStart by fork: runs ``awslambdaric`` up to the snapshot, then forks an environment for each restore.

Run as a script in place of ``python -m awslambdaric``, by the interpreter of the function's image; so it
imports the standard library and ``awslambdaric`` only. It is the real runtime client with one method
replaced: where the client waits for the restore, this process stays and serves forks, and each fork goes on
from there as a restored environment does: after-restore hooks first, then events.

The client's native part keeps the address that it was initialised with, so it is kept out of this process
and imported by the forks.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import shutil
import socket
import sys
from typing import Any

CONTROL_FD = 3
PACKET_BYTES = 1 << 20


def serve_forks(control: socket.socket) -> dict[str, Any]:
    """Fork for each request; return in the forks, with the request, and never here."""
    # What the forks share is not to be copied because a collector writes into its objects.
    gc.collect()
    gc.freeze()
    # Python seeds this generator anew in forks; restored environments share what the snapshot had, and it is
    # for the function's hooks to change that: a test must see it if they do not.
    chance = random.getstate()
    control.send(json.dumps({"event": "ready"}).encode())
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, PACKET_BYTES, 1)
        if not packet:
            os._exit(0)
        request = json.loads(packet)
        pid = _fork_orphan()
        if pid == 0:
            control.close()
            _settle(request, descriptors[0])
            random.setstate(chance)
            return dict(request)
        os.close(descriptors[0])
        control.send(json.dumps({"event": "forked", "id": request["id"], "pid": pid}).encode())


def _fork_orphan() -> int:
    """Fork a process whose parent becomes the warden; return its number, or 0 in it."""
    read_end, write_end = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            os.close(write_end)
            return 0
        os.write(write_end, str(pid).encode())
        os._exit(0)
    os.close(write_end)
    os.waitpid(between, 0)
    with os.fdopen(read_end, "rb") as answer:
        return int(answer.read())


def _settle(request: dict[str, Any], log: int) -> None:
    """Make the fork a process of its own: group, output, directory and variables."""
    os.setsid()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.chdir(request["directory"])
    source, target = request["tmp"]
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    os.environ.update(request["env"])


def _replace_restore(control: socket.socket) -> None:
    client_module: Any = importlib.import_module("awslambdaric.lambda_runtime_client")

    def restore_next(client: Any) -> None:
        """Return when restored, which is in a fork."""
        request = serve_forks(control)
        del sys.modules["runtime_client"]
        native = importlib.import_module("runtime_client")
        native.initialize_client(client_module._user_agent())
        client_module.runtime_client = native
        client.lambda_runtime_address = request["env"]["AWS_LAMBDA_RUNTIME_API"]

    client_module.BaseLambdaRuntimeClient.restore_next = restore_next


def main() -> None:
    """Run the client with the handler from the command line."""
    # As for ``python -m``: modules come from the working directory, not from beside this file.
    sys.path[0] = os.getcwd()  # noqa: PTH109 - a string is what belongs there
    control = socket.socket(fileno=CONTROL_FD)
    control.set_inheritable(False)
    sys.modules["runtime_client"] = None  # type: ignore[assignment]
    _replace_restore(control)
    with contextlib.suppress(KeyboardInterrupt):
        importlib.import_module("awslambdaric.__main__").main(sys.argv)


if __name__ == "__main__":
    main()
