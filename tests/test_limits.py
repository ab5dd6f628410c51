"""What a machine may not have much of: it works all the same."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

_CALL = """
from dask_root_lambda import LambdaExecutor
with LambdaExecutor("emulated", concurrency=2) as executor:
    print(executor.submit(abs, -3).result(60))
"""
_WITHOUT_THE_RIGHT = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
"""Root may raise its limits again; who runs the tests as another user may not."""


def test_few_open_files():
    """Where 256 files may be open (`ulimit -n 256`) an emulated function runs, with a limit of 256."""
    unprivileged = _WITHOUT_THE_RIGHT if os.geteuid() == 0 else []
    done = subprocess.run(
        [*unprivileged, sys.executable, "-W", "ignore", "-c", _CALL],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)),
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert done.stderr.count("\n") == 1
    assert "raise the limit (ulimit -n)" in done.stderr
