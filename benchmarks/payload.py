"""Bytes of a range's request, for a dataset of many files.

Target: at most 1 KB (1,000 bytes) of JSON per range after the first, with a dataset of 2,000 files.

The files are hard links of one. The dimuon graph over them is packed as for a run, and every range is
submitted to an executor, as Dask's gateway does it, under the same task name; a stub server counts the
bytes of each payload as it receives them. The answers are not partial results, so nothing is merged.
Nothing here is random: the figures are the same in each run, up to the length of the directory's name.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks import datasets
from benchmarks.figures import Figure, run
from benchmarks.stub import Statistics, serving
from dask_root_lambda import LambdaExecutor
from dask_root_lambda.config import Settings
from dask_root_lambda.demo import generator
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.invocation.invokers import AwsInvoker


def measure(*, files: int = 2000, events: int = 100) -> list[Figure]:
    """Submit a range for each of ``files`` files of ``events`` events, and for one file."""
    with tempfile.TemporaryDirectory() as directory:
        source = generator.dataset(events, Path(directory))
        links = [f"{directory}/{index:06}.root" for index in range(files)]
        for link in links:
            os.link(source, link)
        many, mapper_bytes = _submit(links)
        one, _ = _submit(links[:1])
    what = f"payload of a range, {files:,} files"
    return [
        Figure(
            "payload", f"{what}, largest after the first", many.largest_later_bytes, "bytes", at_most=1000
        ),
        Figure("payload", f"{what}, first", many.first_bytes, "bytes"),
        Figure("payload", f"graph and file table in the store, {files:,} files", mapper_bytes, "bytes"),
        Figure("payload", "payload of a range, 1 file, largest", one.largest_bytes, "bytes"),
    ]


def _submit(files: list[str]) -> tuple[Statistics, int]:
    """Submit one range per file; return what the server saw, and the mapper's size."""
    mapper = datasets.packed(files, len(files))
    with serving() as server:
        settings = Settings.resolve(
            execution="emulated", concurrency=4, function="f", endpoint_url=server.endpoint
        )
        # The stub stands for a function that can read this machine's files.
        openers = {"emulated": lambda settings: AwsInvoker(settings, "emulated")}
        with LambdaExecutor(settings=settings, openers=openers) as executor:
            calls = [Call(f"range-{mapper.run}-{step.index}", step, [mapper]) for step in mapper.ranges]
            for future in [executor.submit_call(call) for call in calls]:
                future.result()
        seen = server.statistics()
    assert seen.invocations == len(files)
    return seen, len(mapper.blob)


if __name__ == "__main__":
    run(measure, __doc__)
