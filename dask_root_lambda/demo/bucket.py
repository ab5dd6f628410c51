"""An emulated S3 for the demo's data: the road from a bucket, without an account."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dask

from dask_root_lambda.config import Settings
from dask_root_lambda.invocation import aws
from dask_root_lambda.invocation.emulated import EmulatorProcess
from dask_root_lambda.protocol.store import EMULATED_KEY

_BUCKET = "demo"
_REGION = "us-east-1"
_KEYS = {
    "AWS_ACCESS_KEY_ID": EMULATED_KEY,
    "AWS_SECRET_ACCESS_KEY": EMULATED_KEY,
    "AWS_DEFAULT_REGION": _REGION,
}


@contextmanager
def holding(path: Path) -> Iterator[str]:
    """Put a file into an emulated S3, from which this process reads in the block; yield its name."""
    settings = Settings.resolve()
    process = EmulatorProcess(settings.start_timeout_s)
    try:
        own = Settings.resolve(endpoint_url=process.endpoint, region=_REGION)
        client = aws.Session(own, keys=(EMULATED_KEY, EMULATED_KEY)).client("s3")
        with aws.translated("the emulated bucket could not be filled"):
            client.create_bucket(Bucket=_BUCKET)
            client.upload_file(str(path), _BUCKET, path.name)
        client.close()
        with (
            _environment(_KEYS),
            dask.config.set(
                {"dask-root-lambda.s3.endpoint-url": process.endpoint, "dask-root-lambda.aws.profile": None}
            ),
        ):
            yield f"s3://{_BUCKET}/{path.name}"
    finally:
        process.stop()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
