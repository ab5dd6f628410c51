"""What is kept of a far file, for the next start: starts in processes of their own, over S3 and XRootD."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ROOT

from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.rdf import outlines
from lambda_runtime.remote import objects
from tests import xrootd, xrootd_proxy
from tests.conftest import write_events

N = 6
BUCKET = "outlined"
START = """
import json, sys
import ROOT
from dask_root_lambda import RDataFrame
from lambda_runtime.remote import listing

listing.FEW = 3
names, tree, then = json.loads(sys.argv[1])
frame = RDataFrame(tree, names, npartitions=2)
assert frame.Count().dask  # for which all objects are looked at
reads_objects = "dask_root_lambda" in ROOT.gPluginMgr.FindHandler("TFile", "https://").GetClass()
columns = {str(name): str(frame.GetColumnType(name)) for name in frame.GetColumnNames()}
print(json.dumps([columns, "object" if reads_objects else "outline", str(frame.Describe()), eval(then)]))
"""
OUTLINE, OBJECT = "outline", "object"
LONG_AGO_S = 1_500_000_000
SUM = "frame.Sum('x').GetValue()"


@pytest.fixture
def bucket(s3, events_file, tmp_path):
    """A bucket with some more objects than are asked for one by one."""
    s3.create_bucket(Bucket=BUCKET)
    for number in range(N):
        s3.upload_file(events_file, BUCKET, f"{number}.root")
    return s3


@pytest.fixture
def script(tmp_path):
    """Starts a script over files; returns columns, what ROOT opens, the description and a value."""

    def started(place, tree, then):
        names = [f"{place}/{number}.root" for number in range(N)]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", START, json.dumps([names, tree, then])],
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
            timeout=120, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return json.loads(done.stdout)

    return started


@pytest.fixture
def start(bucket, script):
    """Starts it over those objects."""
    return lambda tree="Events", then="0": script(f"s3://{BUCKET}", tree, then)


@pytest.fixture
def server():
    """A directory that an XRootD server serves, and that server, which counts requests."""
    with xrootd.serving() as (data, url), xrootd_proxy.before(url) as far:
        yield data, far


@pytest.fixture
def start_far(server, script):
    """Puts files there, and starts the script over them; returns how often one was opened, too."""
    data, far = server

    def started(source=None, tree="Events", then="0", changed_s=LONG_AGO_S):
        for number in range(N) if source is not None else ():
            path = data / f"{number}.root"
            path.unlink(missing_ok=True)
            shutil.copyfile(source, path)
            os.utime(path, (changed_s, changed_s))
        far.requests()
        columns, _, described, value = script(far.url, tree, then)
        return columns, far.requests()["open"], described, value

    return started


@pytest.fixture
def kept(tmp_path):
    """Returns the outlines that are kept."""
    return lambda: sorted((tmp_path / "state" / "dask-root-lambda" / "outlines").iterdir())


def test_a_second_start_opens_no_object(start, kept, events_file):
    """The frame is the same, whatever is asked of it; ranges in that process read the objects."""
    columns, opened, described, _ = start()
    assert (columns, opened) == ({"x": "Int_t", "pt": "Float_t"}, OBJECT)
    (outline,) = kept()
    assert outline.stat().st_size == Path(events_file).stat().st_size
    assert start(then=SUM) == [columns, OUTLINE, described, N * 499500.0]
    opens = f"(file := ROOT.TFile.Open('s3://{BUCKET}/1.root')).Get('Events').GetEntries()"
    assert start(then=opens)[3] == 1000
    assert kept() == [outline]


def test_an_object_that_was_replaced(start, bucket, kept, tmp_path):
    """Its columns are those that it has now; the outline of what it was is of no use."""
    start()
    path = tmp_path / "other.root"
    ROOT.RDataFrame(10).Define("x", "2.5").Snapshot("Events", str(path))
    bucket.upload_file(str(path), BUCKET, "0.root")
    assert start()[:2] == [{"x": "Double_t"}, OBJECT]
    assert start()[:2] == [{"x": "Double_t"}, OUTLINE]
    assert len(kept()) == 2


def test_an_outline_that_does_not_do(start, kept):
    """The object is opened, nothing is said, and the outline is good again afterwards."""
    columns, *_ = start()
    (outline,) = kept()
    good = outline.read_bytes()
    for damage in (
        lambda: outline.write_bytes(bytes(len(good))),
        lambda: outline.write_bytes(good[:300]),
        lambda: outline.chmod(0o666),
        outline.unlink,
    ):
        damage()
        assert start()[:2] == [columns, OBJECT]
        assert outline.read_bytes() == good
    assert start()[:2] == [columns, OUTLINE]


def test_another_tree_of_the_object(start, bucket, kept, tmp_path):
    """It has an outline of its own."""
    path, options = write_events(tmp_path / "two.root"), ROOT.RDF.RSnapshotOptions()
    options.fMode = "UPDATE"
    ROOT.RDataFrame(10).Define("z", "1.f").Snapshot("Others", path, ["z"], options)
    for number in range(N):
        bucket.upload_file(path, BUCKET, f"{number}.root")
    for opened in (OBJECT, OUTLINE):
        assert start()[:2] == [{"x": "Int_t", "pt": "Float_t"}, opened]
        assert start("Others")[:2] == [{"z": "Float_t"}, opened]
    assert len(kept()) == 2


@pytest.fixture(scope="module")
def ntuple(tmp_path_factory):
    """A file with an RNTuple of 1,000 entries."""
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    path = str(tmp_path_factory.mktemp("ntuple") / "n.root")
    ROOT.RDataFrame(1000).Define("x", "int(rdfentry_)").Snapshot("Ntuple", path, ["x"], options)
    return path


def test_an_ntuple(start, bucket, ntuple):
    """RNTuples have outlines, too."""
    for number in range(N):
        bucket.upload_file(ntuple, BUCKET, f"{number}.root")
    columns, opened, _, _ = start("Ntuple")
    assert opened == OBJECT
    columns_again, opened, _, total = start("Ntuple", SUM)
    assert (columns_again, opened, total) == (columns, OUTLINE, N * 499500.0)


def test_many_columns(start, bucket, tmp_path):
    """The description of a tree may be longer than what is read at once."""
    path, frame = str(tmp_path / "wide.root"), ROOT.RDataFrame(100)
    for number in range(500):
        frame = frame.Define(f"column{number}", f"ROOT::RVecF{{{number}.f}}")
    frame.Snapshot("Events", path)
    for number in range(N):
        bucket.upload_file(path, BUCKET, f"{number}.root")
    columns, opened, _, _ = start()
    assert (len(columns), opened) == (500, OBJECT)
    columns_again, opened, _, total = start(then="frame.Sum('column7').GetValue()")
    assert (columns_again, opened, total) == (columns, OUTLINE, N * 700.0)


def test_a_tree_with_a_friend(start, bucket, tmp_path):
    """ROOT opens the friend with the tree, and the outline lacks it: the object is opened each time."""
    bucket.upload_file(write_events(tmp_path / "friend.root", tree="Friend"), BUCKET, "friend.root")
    path = write_events(tmp_path / "a.root")
    objects.prepare()  # ROOT opens the friend that it is given
    with ROOT.TFile.Open(path, "UPDATE") as file:
        tree = file.Get("Events")
        tree.AddFriend("Friend", f"s3://{BUCKET}/friend.root")
        tree.Write("", ROOT.TObject.kOverwrite)
    for number in range(N):
        bucket.upload_file(path, BUCKET, f"{number}.root")
    columns, opened, _, _ = start()
    assert ("Friend.x" in columns, opened) == (True, OBJECT)
    assert start()[:2] == [columns, OBJECT]


def test_over_xrootd(start_far, events_file, kept):
    """A second start opens one file, to see what it is; ranges in that process read the files."""
    columns, opens, described, _ = start_far(events_file)
    assert columns == {"x": "Int_t", "pt": "Float_t"}
    assert opens > N
    assert start_far() == (columns, 1, described, 0)
    assert start_far(then=SUM)[3] == N * 499500.0
    (outline,) = kept()
    outline.write_bytes(bytes(outline.stat().st_size))
    assert start_far()[::3] == (columns, 0)
    assert start_far() == (columns, 1, described, 0)


def test_an_ntuple_over_xrootd(start_far, ntuple):
    """The same, of a file that a server has."""
    columns, *_ = start_far(ntuple, "Ntuple")
    assert list(columns) == ["x"]
    assert start_far(tree="Ntuple")[:2] == (columns, 1)
    assert start_far(tree="Ntuple", then=SUM)[3] == N * 499500.0


def test_a_file_that_was_replaced(start_far, events_file, tmp_path):
    """Its columns are those that it has now; one that was written just now may be another still."""
    start_far(events_file)
    path = tmp_path / "other.root"
    ROOT.RDataFrame(10).Define("x", "2.5").Snapshot("Events", str(path))
    for changed_s, is_kept in ((time.time(), False), (LONG_AGO_S + 1, True)):
        assert start_far(path, changed_s=changed_s)[0] == {"x": "Double_t"}
        columns, opens, *_ = start_far()
        assert (columns, opens == 1) == ({"x": "Double_t"}, is_kept)


def test_a_tree_in_a_directory_with_many_columns(start_far, tmp_path):
    """All that leads to the tree is in its outline."""
    path, frame = str(tmp_path / "wide.root"), ROOT.RDataFrame(100)
    for number in range(300):
        frame = frame.Define(f"column{number}", f"ROOT::RVecF{{{number}.f}}")
    frame.Snapshot("one/two/Events", path)
    columns, opens, described, _ = start_far(path, "one/two/Events")
    assert (len(columns), opens > N) == (300, True)
    assert start_far(tree="one/two/Events") == (columns, 1, described, 0)


def test_those_that_were_not_used_for_long_go(events_file, tmp_path, monkeypatch):
    """So many are kept, and those that were used last."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(outlines, "_MOST_OUTLINES", 2)
    content, frame = Path(events_file).read_bytes(), ROOT.RDataFrame("Events", events_file)
    monkeypatch.setattr(outlines, "_of_object", lambda *_: [(0, content)])
    identity = FileIdentity(len(content), "", 1, '"a"')
    urls = [f"https://x.example/{name}.root" for name in "abc"]
    for url in urls:
        outlines.keep(url, identity, "Events", frame)
        os.utime(outlines._path(urls[0], identity, "Events", "TTreeDS"))
    paths = [outlines._path(url, identity, "Events", "TTreeDS") for url in urls]
    assert [path.exists() for path in paths] == [True, False, True]
    assert paths[0].read_bytes() == content
