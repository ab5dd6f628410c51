"""The function has `protocol` and `lambda_runtime`, and nothing else of ours: mappers must do with that."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from dask_root_lambda import RDataFrame
from dask_root_lambda.deployment.image import context_files
from dask_root_lambda.protocol.task import Body, Request
from dask_root_lambda.rdf import packing

PROGRAM = """
import json, sys
# An editable installation would find the modules that the image has not.
sys.meta_path[:] = [each for each in sys.meta_path if "editable" not in getattr(each, "__module__", "")]
import dask_root_lambda
from lambda_runtime.handler import handler
print(dask_root_lambda.__file__)
for line in sys.stdin:
    print(json.dumps(handler(json.loads(line)).get("failure")))
"""


@pytest.fixture(scope="module")
def image_files(tmp_path_factory):
    """A directory with what the image has of us."""
    directory = tmp_path_factory.mktemp("task")
    for name, content in context_files().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def ask(directory, requests):
    """Answer requests in a process that finds us in a directory only; return the failures."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        input="".join(json.dumps(request.to_json()) + "\n" for request in requests),
        env={**os.environ, "PYTHONPATH": str(directory)},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    where, *failures = done.stdout.splitlines()
    assert where.startswith(str(directory))
    return [json.loads(line) for line in failures]


def frames(events_file):
    """Frames over files and without, with Python and C++ of the user."""
    pytest.importorskip("numba")
    spaced = RDataFrame(1000).Define("x", "double(rdfentry_)")
    yield [spaced.Sum("x")]
    called = RDataFrame("Events", events_file).Filter(lambda x: x > 10, ["x"])
    yield [called.Count()]
    plotted = RDataFrame("Events", [events_file, events_file])
    yield [plotted.Histo1D(("h", "", 10, 0.0, 1000.0), "x"), plotted.Filter("x > 0", "positive").Report()]


def test_mappers_need_nothing_that_the_image_has_not(image_files, events_file):
    """Each range of each kind of frame runs with the image's files alone."""
    mappers = [
        packing.pack(results[0].bookings.head, [result.node for result in results], 2).mapper
        for results in frames(events_file)
    ]
    requests = [
        Request(
            "map",
            f"range-{index}",
            (Body.of(mapper.blob),),
            result_key="r",
            range_index=1,
            interval=mapper.division[1],
        )
        for index, mapper in enumerate(mappers)
    ]
    assert ask(image_files, requests) == [None] * len(requests)
