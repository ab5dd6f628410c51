"""Snapshots to S3: objects that are complete, each of one attempt, and read by the frame that comes back."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import ROOT

from dask_root_lambda import RDataFrame

BUCKET = "skims"
SKIM = f"s3://{BUCKET}/run 1/skim+a.root"
RNTUPLE = ROOT.RDF.ESnapshotOutputFormat.kRNTuple


def options(**values):
    made = ROOT.RDF.RSnapshotOptions()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def frame_of(path, ranges=4):
    return RDataFrame("Events", path, npartitions=ranges)


def values(frame, column="x"):
    return frame.AsNumpy([column])[column].tolist()


@pytest.fixture
def bucket(s3):
    """An empty bucket."""
    s3.create_bucket(Bucket=BUCKET)
    yield BUCKET
    for key in keys(s3):
        s3.delete_object(Bucket=BUCKET, Key=key)


def keys(s3):
    return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def parts(*numbers):
    return [f"run 1/skim+a_{number}.root" for number in numbers]


@pytest.fixture(params=["local", "emulated", "synchronous"])
def client(request):
    """Whose current client computes: a cluster's, or none, which is Dask's own scheduler."""
    if request.param == "synchronous":
        with dask.config.set(scheduler="synchronous"):
            yield None
        return
    with request.getfixturevalue(request.param).get_client() as client:
        yield client


@pytest.mark.parametrize("output", [{}, {"fOutputFormat": RNTUPLE}], ids=["TTree", "RNTuple"])
def test_the_frame_that_comes_back_reads_the_parts(bucket, s3, client, events_file, output):
    """Its entries are local ROOT's, in order; its files can be asked for."""
    cut = "x % 3 == 0"
    expected = ROOT.RDataFrame("Events", events_file).Filter(cut).AsNumpy(["x", "pt"])
    written = frame_of(events_file).Filter(cut).Snapshot("s", SKIM, ["x", "pt"], options(**output))
    assert keys(s3) == parts(0, 1, 2, 3)
    assert written.files == tuple(f"s3://{BUCKET}/{key}" for key in parts(0, 1, 2, 3))
    found = written.AsNumpy(["x", "pt"])
    for column, array in expected.items():
        assert np.array_equal(found[column], array)
