"""The image of the scheduler and the gateway, whose commands Fargate starts."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata

import pytest

from tests.image import building
from tests.image.conftest import FIGURES

pytestmark = pytest.mark.timeout(900)

# What dask-cloudprovider has Fargate start, in one container; then a client of it.
PROGRAM = """
import json, subprocess, sys, warnings
warnings.simplefilter("ignore")
from distributed import Client
scheduler = subprocess.Popen(["dask-scheduler", "--host", "127.0.0.1", "--idle-timeout", "60"])
worker = subprocess.Popen([
    "dask-worker", "tcp://127.0.0.1:8786", "--name", "0", "--nthreads", "5", "--memory-limit", "16GB",
    "--death-timeout", "60", "--preload", "lambda_runtime.runner",
])
def look():
    import os
    from dask_root_lambda import LambdaPlugin, RDataFrame
    import distributed
    return [os.getuid(), distributed.__version__, "ROOT" in __import__("sys").modules]
with Client("tcp://127.0.0.1:8786", timeout=60) as client:
    client.wait_for_workers(1, timeout=60)
    print(json.dumps(list(client.run(look).values())), flush=True)
worker.kill()
scheduler.kill()
"""


def test_scheduler_and_gateway_start_in_the_clusters_image(built):
    """Both commands, as an ordinary user on a read-only root; Dask is the client's, ROOT is there first."""
    image = building.build_cluster(built.name)
    FIGURES["cluster's image"] = f"{image.size_bytes / 1e6:,.0f} MB, built in {image.seconds:.1f} s"
    limits = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=1000:1000", "--read-only", "--tmpfs", "/tmp"]
    argv = ["podman", "--runtime", "runc", "run", "--rm", "--network", "none", *limits, image.name]
    done = subprocess.run(
        [*argv, "python", "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [(user, version, imported)] = json.loads(done.stdout.splitlines()[-1])
    assert (user, version, imported) == (65534, metadata.version("distributed"), True)
