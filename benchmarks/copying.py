"""Copies of 1 GB in four files from a real XRootD server, to an emulated S3 and to the disk.

The sides are measured alone: reading the files and dropping them, writing as many bytes to S3, and to files.
Targets: at least 85 % of the slower side through this process; three times as many bytes take at most 1.2
times the memory, in the client and in functions. Server, S3 and functions take CPU of this machine.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import memory
from benchmarks.figures import Figure, run
from dask_root_lambda.invocation.emulated import EmulatorProcess
from tests import xrootd

_BUCKET = "copies"
_BLOCK_BYTES = 8 << 20
_START_TIMEOUT_S = 60.0
_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Turn:
    """What a process did."""

    seconds: float
    cpu_s: float
    """CPU time of the process, its start included."""
    client_mb: float
    """Peak memory of the client, MB of 10^6 bytes."""
    function_mb: float = 0.0
    """Peak memory of an environment, MB of 2^20 bytes."""


def measure(n_files: int = 4, file_mb: float = 250.0) -> list[Figure]:
    """Copy the files to S3 in two ways, and to the disk."""
    total_mb = n_files * file_mb
    with xrootd.serving() as (data, url), _s3() as variables, tempfile.TemporaryDirectory() as disk:
        _fill(data / "small", n_files, 0.3 * file_mb)
        _fill(data / "all", n_files, file_mb)
        do = _Turns(url, {**variables, "XDG_STATE_HOME": f"{disk}/state"})
        reading = do("read", f"{url}/all/")
        sending = do("send", str(int(total_mb * 1e6)))
        writing = do("write", f"{disk}/alone", str(int(total_mb * 1e6)))
        near_small = do("copy", f"{url}/small/", f"s3://{_BUCKET}/near-small/")
        near = do("copy", f"{url}/all/", f"s3://{_BUCKET}/near/")
        by_functions = ("copy", "--execution", "emulated", "--at-once", "2")
        far_small = do(*by_functions, f"{url}/small/", f"s3://{_BUCKET}/far-small/")
        far = do(*by_functions, f"{url}/all/", f"s3://{_BUCKET}/far/")
        down = do("copy", f"{url}/all/", f"{disk}/down/")
    to_s3 = max(reading.seconds, sending.seconds) / near.seconds
    to_disk = max(reading.seconds, writing.seconds) / down.seconds
    client, function = near.client_mb / near_small.client_mb, far.function_mb / far_small.function_mb
    return [
        Figure("copying", "XRootD alone", total_mb / reading.seconds, "MB/s"),
        Figure("copying", "disk alone", total_mb / writing.seconds, "MB/s"),
        Figure("copying", "S3 alone", total_mb / sending.seconds, "MB/s"),
        Figure("copying", "to S3 through this process", total_mb / near.seconds, "MB/s"),
        Figure("copying", "to S3, part of the slower side", to_s3, at_least=0.85),
        Figure("copying", "to S3 through this process, its CPU", near.cpu_s, "s"),
        Figure("copying", "to S3 by two functions", total_mb / far.seconds, "MB/s"),
        Figure("copying", "to the disk", total_mb / down.seconds, "MB/s"),
        Figure("copying", "to the disk, CPU", down.cpu_s, "s"),
        Figure("copying", "to the disk, part of the slower side", to_disk, at_least=0.85),
        Figure("copying", "client's memory, three times the bytes", client, at_most=1.2),
        Figure("copying", "client's memory", near.client_mb, "MB"),
        Figure("copying", "function's memory, three times the bytes", function, at_most=1.2),
        Figure("copying", "function's memory", far.function_mb, "MB"),
        Figure("copying", "client's memory, where functions copy", far.client_mb, "MB"),
    ]


@contextmanager
def _s3() -> Iterator[dict[str, str]]:
    """Have an S3 in a process of its own; yield the variables by which the SDK finds it."""
    process = EmulatorProcess(_START_TIMEOUT_S)
    try:
        yield {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": process.endpoint,
        }
    finally:
        process.stop()


def _fill(directory: Path, n_files: int, file_mb: float) -> None:
    """Write files that do not compress, of blocks of one random one: making more would take longer."""
    directory.mkdir(mode=0o755)
    block = os.urandom(_BLOCK_BYTES)
    for number in range(n_files):
        path, left = directory / f"{number}.root", int(file_mb * 1e6)
        with path.open("wb") as file:
            file.write(number.to_bytes(8, "big"))
            for _ in range(left // len(block)):
                file.write(block)
            file.write(block[: left % len(block) - 8])
        path.chmod(0o644)


class _Turns:
    """Runs turns in processes of their own.

    Parameters
    ----------
    url
        The XRootD server.
    variables
        More environment variables of theirs.
    """

    def __init__(self, url: str, variables: dict[str, str]) -> None:
        self._url = url
        self._variables = variables

    def __call__(self, *arguments: str) -> Turn:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.copying", "--turn", *arguments]
        done = subprocess.run(
            command, env={**os.environ, **self._variables}, timeout=_TIMEOUT_S, check=True,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return Turn(**json.loads(done.stdout.splitlines()[-1]))


def turn(kind: str, *arguments: str) -> Turn:
    """Do what is measured, in this process."""
    function_mb = 0.0
    if kind == "copy":
        document = _copied(arguments)
        seconds = document["seconds"]
        function_mb = document.get("report", {}).get("total", {}).get("peak_memory_mb", 0.0)
    else:
        seconds = {"read": _read, "send": _send, "write": _write}[kind](*arguments)
    return Turn(seconds, time.process_time(), memory.peak_mb(), function_mb)


def _copied(arguments: tuple[str, ...]) -> dict[str, Any]:
    from dask_root_lambda import cli

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = cli.main(["copy", "--json", *arguments])
    if status:
        raise SystemExit(said.getvalue())
    document: dict[str, Any] = json.loads(said.getvalue())
    return document


def _read(folder: str) -> float:
    """Read all files, as a copy does, and drop what was read."""
    from concurrent.futures import ThreadPoolExecutor

    from dask_root_lambda.copying import places
    from lambda_runtime.copying import sources, stream

    def read(url: str) -> None:
        with stream.flowing(sources.look(url), lambda _: None) as flow:
            while flow.read(_BLOCK_BYTES):
                pass

    urls = [file.url for file in places.find(folder).files]
    begin_s = time.monotonic()
    with ThreadPoolExecutor(len(urls)) as pool:
        list(pool.map(read, urls))
    return time.monotonic() - begin_s


def _write(folder: str, n_bytes: str) -> float:
    """Write as many bytes to four files at once."""
    from concurrent.futures import ThreadPoolExecutor

    Path(folder).mkdir()
    block = os.urandom(_BLOCK_BYTES)

    def write(number: int) -> None:
        with (Path(folder) / str(number)).open("wb") as file:
            for _ in range(int(n_bytes) // 4 // len(block)):
                file.write(block)

    begin_s = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    return time.monotonic() - begin_s


def _send(text: str) -> float:
    """Send as many bytes to four objects at once."""
    from concurrent.futures import ThreadPoolExecutor

    from lambda_runtime.copying import uploads
    from lambda_runtime.copying.content import Content
    from lambda_runtime.remote import access
    from lambda_runtime.remote.names import S3Name

    place = access.place()
    access.signer(place).client(_BUCKET).create_bucket(Bucket=_BUCKET)
    n_bytes, block = int(text), os.urandom(_BLOCK_BYTES)

    def send(number: int) -> None:
        content = Content(f"/{number}", n_bytes // 4, "1")
        upload = uploads.begin(S3Name(_BUCKET, f"alone/{number}", place), content, _BLOCK_BYTES)

        def send_part(part: int) -> uploads.Part:
            return uploads.send(upload, part, block[: upload.span(part)[1]], lambda _: None)

        with ThreadPoolExecutor(3) as parts:
            uploads.complete(upload, list(parts.map(send_part, upload.numbers)), content)

    begin_s = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    return time.monotonic() - begin_s


if __name__ == "__main__":
    if sys.argv[1:2] == ["--turn"]:
        print(json.dumps(vars(turn(*sys.argv[2:]))))
    else:
        run(measure, __doc__)
