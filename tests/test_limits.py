"""What a machine may not have much of: it works all the same."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest

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


_ANALYSIS = """
import sys
from dask_root_lambda import LambdaCluster, RDataFrame
with (
    LambdaCluster(execution=sys.argv[1], concurrency=2, dashboard_address=None, progress=False) as c,
    c.get_client(),
):
    frame = RDataFrame(100, npartitions=4).Define("x", "double(rdfentry_)")
    print(frame.Histo1D(("h", "", 10, 0, 100), "x").GetMean(), frame.Sum("x").GetValue())
"""
_RIGHT = "49.5 4950.0\n"

_PLACES = {
    "TMPDIR of 64 KB": ("mount -t tmpfs -o size=64k none . && TMPDIR=$PWD", ""),
    "full TMPDIR": ("mount -t tmpfs -o size=4k none . && echo full >a && TMPDIR=$PWD", ""),
    "read-only TMPDIR": ("mount -t tmpfs -o ro none . && TMPDIR=$PWD", "unable to make temporary file"),
    "missing TMPDIR": ("TMPDIR=/nonexistent", "unable to make temporary file"),
    "read-only HOME": ("mount -t tmpfs -o ro none . && HOME=$PWD", ""),
    "missing HOME": ("HOME=/nonexistent", ""),
    "no HOME": ("unset HOME;", ""),
    "read-only current directory": ("mount -t tmpfs -o ro none . && cd . &&", ""),
}
"""What a shell does first, in a directory and a namespace of mounts of its own; what Cling says of it."""


@pytest.mark.parametrize(
    ("place", "execution"),
    [
        *((place, "local") for place in _PLACES),
        ("TMPDIR of 64 KB", "emulated"),
        ("read-only HOME", "emulated"),
    ],
)
def test_places_that_cannot_be_written(place, execution, tmp_path):
    """An analysis gives its numbers, with one sentence at most."""
    prepare, expected = _PLACES[place]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], check=False).returncode:
        pytest.skip("needs a namespace of mounts of its own")
    done = subprocess.run(
        [*namespace, "sh", "-c", f'{prepare} exec "$@"', "sh",
         sys.executable, "-W", "ignore", "-c", _ANALYSIS, execution],
        cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, _RIGHT), done.stderr
    assert not done.stderr or (expected and expected in done.stderr)
    assert done.stderr.count("\n") <= 1


_IN_A_ROW = """
import json, os, psutil, sys, threading
from dask_root_lambda import LambdaCluster, RDataFrame
me = psutil.Process()
def cluster():
    with LambdaCluster(execution=sys.argv[1], concurrency=2, progress=False) as c, c.get_client():
        assert RDataFrame(100, npartitions=2).Count().GetValue() == 100
def held():
    return [threading.active_count(), me.num_fds(), len(me.children(recursive=True))]
few, many = map(int, sys.argv[2:])
for _ in range(few): cluster()
before = held()
for _ in range(many): cluster()
print(json.dumps([before, held()]))
"""


@pytest.mark.parametrize(("execution", "few", "many"), [("local", 5, 45), ("emulated", 1, 2)])
def test_clusters_in_a_row(execution, few, many):
    """Threads, open files and processes are as many after the last as after the first."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _IN_A_ROW, execution, str(few), str(many)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    before, after = json.loads(done.stdout)
    assert all(late <= early + 2 for early, late in zip(before, after, strict=True)), (before, after)
    assert after[2] == 0


_FORKING = """
import os, sys
from dask_root_lambda import LambdaCluster, RDataFrame
def count():
    with (
        LambdaCluster(execution=sys.argv[1], concurrency=2, dashboard_address=None, progress=False) as c,
        c.get_client(),
    ):
        return RDataFrame(100, npartitions=2).Define("x", "rdfentry_").Sum("x").GetValue()
child = os.fork()
if child == 0:
    print("child", count(), flush=True)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print("parent", count(), flush=True)
"""


@pytest.mark.parametrize("execution", ["local", "emulated"])
def test_a_fork_after_the_import(execution):
    """A process that was forked computes as its parent does, and ends with its own status."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKING, execution],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "child 4950.0\nparent 4950.0\n", "")


_NO_GROUND = {
    "no current directory": ("os.rmdir(os.getcwd())", "Change to one that exists"),
    "no home": ("del os.environ['HOME']; os.setuid(54321)", "has no home directory, which ROOT needs"),
}


@pytest.mark.parametrize("lacking", _NO_GROUND)
def test_what_root_cannot_start_without(lacking, tmp_path):
    """ROOT would end the process; a sentence says what is missing, and what to do."""
    if lacking == "no home" and os.geteuid() != 0:
        pytest.skip("needs root, to become a user whom the machine does not know")
    lose, expected = _NO_GROUND[lacking]
    # Who is not root any more may not read the modules.
    code = f"import os, dask_root_lambda.ground\n{lose}\ndask_root_lambda.RDataFrame"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert expected in done.stderr.splitlines()[-1]
