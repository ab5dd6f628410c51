"""Data in S3, from the emulator's."""

from __future__ import annotations

import boto3
import dask
import pytest

from dask_root_lambda import RDataFrame

SUM = 499500.0
BUCKET = "physics"


@pytest.fixture(scope="module")
def endpoint(emulated):
    """The endpoint of the cluster's emulator."""
    return emulated._executor._open("emulated")._process.endpoint


@pytest.fixture
def configured(endpoint, monkeypatch):
    """What users configure for the SDK."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def s3(configured):
    return boto3.client("s3")


@pytest.fixture
def bucket(s3, events_file):
    """A bucket with two files whose keys have characters with meanings."""
    s3.create_bucket(Bucket=BUCKET)
    for key in ("run 1/events+0.root", "run 1/events+1.root"):
        s3.upload_file(events_file, BUCKET, key)
    return BUCKET


PATTERN = f"s3://{BUCKET}/run 1/events+*.root"


def test_ranges_read_from_s3(bucket, local):
    """Under local execution the numbers are those of the files, by pattern and by name."""
    frame = RDataFrame("Events", PATTERN, npartitions=4)
    assert dask.compute(frame.Count(), frame.Sum("x")) == (2000, 2 * SUM)
    frame = RDataFrame("Events", [f"s3://{BUCKET}/run 1/events+0.root"], npartitions=2)
    assert frame.Sum("x").compute() == SUM


def test_environments_read_from_s3(bucket, emulated):
    """Environments read the same from the emulated S3, with their own role."""
    with emulated.get_client():
        frame = RDataFrame("Events", PATTERN, npartitions=4)
        assert dask.compute(frame.Count(), frame.Sum("x")) == (2000, 2 * SUM)
