"""Snapshots to S3: objects that are complete, each of one attempt, and read by the frame that comes back."""

from __future__ import annotations

import os
import signal
import time
from collections import namedtuple
from dataclasses import replace

import dask
import numpy as np
import pytest
import ROOT

from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import (
    FullStorageError,
    GraphError,
    IncompleteResultError,
    InputError,
    UserCodeError,
)
from lambda_runtime import room, snapshot_objects
from lambda_runtime.copying import buckets
from lambda_runtime.runner import SHARED

from . import scripts, slow_link
from .rdf.test_snapshot import RNTUPLE, options, values

BUCKET = "skims"
SKIM = f"s3://{BUCKET}/run 1/skim+a.root"


def frame_of(path, ranges=4):
    return RDataFrame("Events", path, npartitions=ranges)


@pytest.fixture
def bucket(s3):
    """An empty bucket."""
    s3.create_bucket(Bucket=BUCKET)
    yield BUCKET
    for key in keys(s3):
        s3.delete_object(Bucket=BUCKET, Key=key)
    for upload in uploads(s3):
        s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])


def keys(s3):
    return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def uploads(s3):
    return s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


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


def test_through_roots_own_door(bucket, s3, emulated, events_file):
    """The same."""
    with emulated.get_client() as client:
        frame = ROOT.RDataFrame("Events", events_file, executor=client, npartitions=2)
        written = frame.Filter("x < 700").Snapshot("s", SKIM, ["x"])
        assert written.files == tuple(f"s3://{BUCKET}/{key}" for key in parts(0, 1))
        assert values(written) == list(range(700))


def test_the_parts_are_read_by_pattern_and_by_name(bucket, local, events_file):
    """By frames that users make of them, lazily written ones too."""
    lazy = frame_of(events_file).Snapshot("s", SKIM, ["x"], options(fLazy=True))
    assert "'s3://skims/run 1/skim+a.root'" in repr(lazy)
    count = lazy.GetValue().Count()
    assert (count.GetValue(), lazy.GetValue().files[0]) == (1000, f"s3://{BUCKET}/run 1/skim+a_0.root")
    assert values(RDataFrame("s", f"s3://{BUCKET}/run 1/skim+a_*.root", npartitions=2)) == list(range(1000))


def test_what_is_read_from_a_bucket_may_be_written_to_it(bucket, s3, emulated, events_file):
    """A function reads and writes objects, all with the user's credentials."""
    s3.upload_file(events_file, BUCKET, "in/events.root")
    with emulated.get_client():
        written = frame_of(f"s3://{BUCKET}/in/events.root").Filter("x < 300").Snapshot("s", SKIM, ["x"])
        assert values(written) == list(range(300))


def test_what_is_shown_has_the_users_name(bucket, local, events_file):
    """Errors and the page name the object as the user did."""
    with pytest.raises(GraphError, match=r"'s3://skims/run 1/skim\+a.root', .*no column 'z'"):
        frame_of(events_file).Snapshot("s", SKIM, ["z"])
    frame_of(events_file).Snapshot("s", SKIM, ["x"])
    lazy = frame_of(events_file).Snapshot("s", SKIM, ["x"], options(fLazy=True))
    (mapper,) = (task for key, task in lazy.dask.items() if str(key).startswith("rdf-mapper"))
    assert mapper().results == ("Snapshot(s, s3://skims/run 1/skim+a.root)"[:39] + "…",)


class TestTwice:
    """Ranges that run twice, and Snapshots that are made again."""

    def packed(self, path, ranges=2):
        """A mapper, of a Snapshot whose ranges a test runs itself."""
        written = frame_of(path, ranges).Snapshot("t", SKIM, ["x"], options(fLazy=True))
        (mapper,) = (task for key, task in written.dask.items() if str(key).startswith("rdf-mapper"))
        return mapper()

    def run(self, packed, *indices):
        return [
            SHARED.map(packed.digest, lambda: packed.blob, index, packed.division[index])[0]
            for index in indices
        ]

    def test_a_range_that_runs_twice(self, bucket, s3, local, events_file):
        """One object is left, the first; both answers stand for it."""
        packed = self.packed(events_file)
        first, _ = self.run(packed, 0, 1)
        before = s3.head_object(Bucket=BUCKET, Key=parts(0)[0])
        again = self.run(packed, 0, 1)
        assert s3.head_object(Bucket=BUCKET, Key=parts(0)[0])["ETag"] == before["ETag"]
        assert keys(s3) == parts(0, 1)
        identities = [wire.loads(blob).values[0].parts[0].identity for blob in (first, again[0])]
        assert identities[0] == identities[1]
        ((blob,), _) = SHARED.finish(SHARED.merge(again), n_files=1, entries=None)
        assert [part.final for part in wire.loads(blob).parts] == [
            part.written for part in wire.loads(blob).parts
        ]

    def test_two_runs_to_one_place_at_once(self, bucket, s3, local, events_file):
        """The one that is late is told, and changes nothing."""
        first, second = self.packed(events_file), self.packed(events_file)
        self.run(first, 0)
        with pytest.raises(IncompleteResultError, match=r"s3://skims/run 1/skim\+a_0.root was written by"):
            self.run(second, 0)
        assert keys(s3) == parts(0)

    def test_an_older_one_stays_until_the_new_one_is_complete(self, bucket, s3, local, events_file):
        """Until then parts have hidden names; then those of an older, longer one are gone."""
        older = frame_of(events_file, 4).Snapshot("t", SKIM, ["x"])
        packed = self.packed(events_file)
        blobs = self.run(packed, 0, 1, 1)
        assert [key for key in keys(s3) if ".skim" not in key] == parts(0, 1, 2, 3)
        assert values(older) == list(range(1000))
        merged = SHARED.merge(blobs[:2])
        for _ in range(2):
            ((blob,), _) = SHARED.finish(merged, n_files=1, entries=None)
        visible = [key for key in keys(s3) if ".skim" not in key]
        assert visible == parts(0, 1)
        chain = RDataFrame("t", [part.final for part in wire.loads(blob).parts])
        assert values(chain) == list(range(1000))
        with pytest.raises(InputError, match="make the RDataFrame again"):
            older.Count().GetValue()

    def test_what_no_run_took_goes_later(self, bucket, s3, local, events_file, monkeypatch):
        """A hidden object that is an hour old is removed by the next Snapshot there."""
        frame_of(events_file, 1).Snapshot("t", SKIM, ["x"])
        self.run(self.packed(events_file), 0)
        frame_of(events_file, 1).Snapshot("t", SKIM, ["x"])
        assert len(keys(s3)) == 2
        found, hour_ago_s = snapshot_objects._found, time.time() - 3601
        monkeypatch.setattr(
            snapshot_objects, "_found", lambda *given: replace(found(*given), changed_s=hour_ago_s)
        )
        frame_of(events_file, 1).Snapshot("t", SKIM, ["x"])
        assert keys(s3) == parts(0)

    @pytest.mark.parametrize("cluster", ["local", "emulated"])
    def test_over_what_it_reads(self, bucket, s3, request, events_file, cluster):
        """What is read is there until all is written."""
        with request.getfixturevalue(cluster).get_client():
            first = frame_of(events_file).Snapshot("t", SKIM, ["x"])
            second = first.Filter("x < 500").Snapshot("t", SKIM, ["x"])
            assert values(second) == list(range(500))
            assert keys(s3) == [name.removeprefix(f"s3://{BUCKET}/") for name in second.files]
            # Some objects were replaced, others are gone: the first range tells of its own.
            with pytest.raises(InputError, match="make the RDataFrame again"):
                first.Count().GetValue()

    def test_a_graph_that_was_compiled_for_another_run(self, bucket, s3, local, events_file):
        """An equal graph is not compiled again; it writes as its own run says."""
        for _ in range(3):
            written = frame_of(events_file, 2).Snapshot("t", SKIM, ["x"])
        assert (values(written), keys(s3)) == (list(range(1000)), parts(0, 1))


class TestFailures:
    """They leave nothing under the names of parts that are not complete, and say what to do."""

    @pytest.mark.parametrize("cluster", ["local", "emulated"])
    def test_a_range_that_fails(self, bucket, s3, request, events_file, cluster):
        """It has no object, nor anything in a temporary directory."""
        bad = frame_of(events_file, 2).Define("y", 'if (x == 990) throw std::runtime_error("no"); return x;')
        with request.getfixturevalue(cluster).get_client(), pytest.raises(UserCodeError, match="no"):
            bad.Snapshot("t", SKIM, ["y"])
        assert parts(1)[0] not in keys(s3)

    def test_scratch_files_go(self, bucket, s3, local, events_file, tmp_path, monkeypatch):
        """Of ranges that end well, that fail, and that cannot be stored."""
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        frame = frame_of(events_file, 2)
        frame.Snapshot("t", SKIM, ["x"])
        with pytest.raises(UserCodeError):
            frame.Define("y", 'if (x == 990) throw std::runtime_error("no"); return x;').Snapshot("t", SKIM)
        with pytest.raises(InputError):
            frame.Snapshot("t", "s3://no-bucket-here/a.root", ["x"])
        assert list(tmp_path.glob("snapshot-*")) == []

    def test_an_upload_that_fails(self, bucket, s3, local, events_file, monkeypatch):
        """What was sent of it is removed: S3 would bill it."""
        monkeypatch.setattr(buckets, "PART_BYTES", 1000)
        sent = snapshot_objects._sent

        def fail(*arguments):
            sent(*arguments)
            raise snapshot_objects.ClientError({"Error": {"Code": "AccessDenied"}}, "UploadPart")

        monkeypatch.setattr(snapshot_objects, "_sent", fail)
        with pytest.raises(InputError, match=r"cannot write s3://skims/.*deploy --output-bucket skims"):
            frame_of(events_file).Snapshot("t", SKIM, ["x"])
        assert keys(s3) == []
        assert uploads(s3) == []

    def test_no_such_bucket(self, s3, local, events_file):
        """It is told before anything runs."""
        with pytest.raises(InputError, match=r"cannot list s3://no-bucket-here/.*NoSuchBucket"):
            frame_of(events_file).Snapshot("t", "s3://no-bucket-here/a.root", ["x"])
        assert local.report().total.ranges == 0

    def test_a_bucket_that_goes(self, bucket, s3, local, events_file, monkeypatch):
        """It is named by the range that cannot write, with the key."""
        monkeypatch.setattr(snapshot_objects, "find", lambda *_: [])
        with pytest.raises(InputError, match=r"cannot write s3://gone/a_\d.root: there is no such bucket"):
            frame_of(events_file).Snapshot("t", "s3://gone/a.root", ["x"])

    def test_files_of_others_are_not_replaced(self, bucket, s3, local, events_file):
        """An object that has the name of a part, and is none."""
        s3.put_object(Bucket=BUCKET, Key=parts(1)[0], Body=b"mine")
        s3.put_object(Bucket=BUCKET, Key=parts(2018)[0], Body=b"mine")
        with pytest.raises(
            GraphError, match=r"would replace s3://skims/run 1/skim\+a_1.root, which no Snapsh"
        ):
            frame_of(events_file).Snapshot("t", SKIM, ["x"])
        s3.delete_object(Bucket=BUCKET, Key=parts(1)[0])
        for ranges in (4, 2):
            frame_of(events_file, ranges).Snapshot("t", SKIM, ["x"])
        assert keys(s3) == parts(0, 1, 2018)

    def test_modes_and_names(self, bucket, local, events_file):
        """NEW replaces nothing; web servers, patterns and folders are no places to write to."""
        frame = frame_of(events_file)
        frame.Snapshot("t", SKIM, ["x"], options(fMode="NEW"))
        with pytest.raises(GraphError, match=r"s3://skims/run 1/skim\+a_\d.root is there, which fMode='NEW'"):
            frame.Snapshot("t", SKIM, ["x"], options(fMode="NEW"))
        with pytest.raises(GraphError, match=r"another Snapshot .* writes s3://skims/a.root"):
            [frame.Snapshot("t", "s3://skims/a.root", ["x"], options(fLazy=True)) for _ in range(2)]
        for name, said in {
            "https://host/a.root": "web servers are read only",
            "s3://skims/a*.root": "make a pattern",
            "s3://skims/folder/": "names no file",
        }.items():
            with pytest.raises((GraphError, InputError), match=said):
                frame.Snapshot("t", name, ["x"])


class TestLarge:
    """Parts that are sent in pieces, and those that do not fit."""

    def test_in_pieces(self, bucket, s3, local):
        """The object is the file, with S3's checksum of it."""
        frame = RDataFrame(200_000, npartitions=1).Define("x", "std::sin(double(rdfentry_))")
        level = options(fCompressionLevel=0, fCompressionAlgorithm=ROOT.RCompressionSetting.EAlgorithm.kZLIB)
        frame = frame.Define("v", "ROOT::RVecD(10, x)")
        written = frame.Snapshot("t", SKIM, ["x", "v"], level)
        found = s3.head_object(Bucket=BUCKET, Key=parts(0)[0], ChecksumMode="ENABLED")
        assert found["ContentLength"] > 2 * buckets.PART_BYTES
        assert found["ETag"].endswith('-3"')
        assert abs(written.Sum("x").GetValue() - np.sin(np.arange(200_000)).sum()) < 1e-6

    def test_told_beforehand(self, bucket, s3, local, events_file, monkeypatch):
        """Where nothing is cut, a range does not begin what will not fit."""
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage(10_000, 9_900, 100))
        with pytest.raises(FullStorageError, match=r"would write about 0 MB for s3://skims.*npartitions"):
            frame_of(events_file).Snapshot("t", SKIM)
        assert keys(s3) == []
        # What a cut leaves nobody knows.
        assert frame_of(events_file).Filter("x < 3").Snapshot("t", SKIM).Count().GetValue() == 3

    @pytest.mark.parametrize("kind", ["kTTree", "kRNTuple"])
    def test_a_full_tmp(self, bucket, s3, kind):
        """It is told, also where ROOT ends the process for it; what comes next has the room again."""
        level = options(
            fCompressionLevel=0,
            fCompressionAlgorithm=ROOT.RCompressionSetting.EAlgorithm.kZLIB,
            fOutputFormat=getattr(ROOT.RDF.ESnapshotOutputFormat, kind),
        )
        with LambdaCluster(execution="emulated", concurrency=1) as cluster, cluster.get_client():
            frame = RDataFrame(800, npartitions=1).Define("v", "ROOT::RVecD(100000, rdfentry_)")
            with pytest.raises(FullStorageError, match=r"into /tmp, which has 512 MB.*npartitions"):
                frame.Snapshot("t", SKIM, ["v"], level)
            assert keys(s3) == []
            few = RDataFrame(4, npartitions=1).Define("v", "ROOT::RVecD(100000, rdfentry_)")
            few.Snapshot("t", SKIM, ["v"], level)
        assert keys(s3) == parts(0)


SLOWLY = """
import sys, time
import ROOT
from dask_root_lambda import LambdaCluster, RDataFrame
from lambda_runtime.copying import buckets

buckets.PART_BYTES, goes_on = int(sys.argv[1]), sys.argv[2] == "True"
options = ROOT.RDF.RSnapshotOptions()
options.fCompressionLevel, options.fCompressionAlgorithm = 0, 1
with LambdaCluster(execution="local", concurrency=2, dashboard_address=None, progress=False) as cluster:
    with cluster.get_client():
        frame = RDataFrame(2000, npartitions=2).Define("v", "ROOT::RVecD(1000, rdfentry_)")
        try:
            frame.Snapshot("t", "s3://skims/a.root", ["v"], options)
        except KeyboardInterrupt:
            if not goes_on: raise
        while cluster._executor.ledger.in_flight: time.sleep(0.01)
        print("over", flush=True)
        small = RDataFrame(20, npartitions=2).Define("x", "rdfentry_")
        print(small.Snapshot("t", "s3://skims/a.root", ["x"]).Sum("x").GetValue(), flush=True)
"""


@pytest.mark.parametrize("goes_on", [False, True], ids=["script", "notebook"])
@pytest.mark.parametrize("part_bytes", [1 << 20, 1 << 30], ids=["parts", "whole"])
def test_ctrl_c_does_not_wait_for_what_is_sent_slowly(bucket, s3, part_bytes, goes_on):
    """It is cut off, and nothing of it stays, nor is in the way of what the process does next."""
    with (
        slow_link.to(os.environ["AWS_ENDPOINT_URL_S3"], up=200_000) as link,
        scripts.running(SLOWLY, part_bytes, goes_on, env={"AWS_ENDPOINT_URL_S3": link.url}) as script,
    ):
        script.wait_until(lambda: link.passed > 300_000)
        began_s = time.monotonic()
        script.send(signal.SIGINT)
        assert script.line() == ("over" if goes_on else None)
        took_s = time.monotonic() - began_s
        # A process that ends waits for half a second only.
        left = (keys(s3), uploads(s3) if goes_on else [])
        rest = script.line() if goes_on else None
        status, said = script.end()
    print(took_s, said)
    assert took_s < scripts.limit_s(3.0)
    assert left == ([], [])
    assert (status, rest) == ((0, "190.0") if goes_on else (-signal.SIGINT, None))
