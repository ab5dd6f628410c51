"""What was fetched of far files is read from the bucket: numbers stay local ROOT's, whatever lies there."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import dask
import pytest
import ROOT

from dask_root_lambda import RDataFrame
from dask_root_lambda.plan.secret import Secret
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import DamagedBlobError, DaskRootLambdaError, InputError
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.store import S3Store
from dask_root_lambda.protocol.task import Body, DataFile, FarData, Request
from lambda_runtime import keeping, storage
from lambda_runtime.remote import packs
from tests import web, xrootd, xrootd_proxy

ENTRIES, CLUSTER = 200_000, 20_000
COLUMN = 1_000_000
"""Bytes of a column in a file, about: ROOT's random numbers have 32 bits."""
BUCKET = "dask-root-lambda"
WHOLE = (Fraction(0), Fraction(1))


def write(path, *, seed=1, ntuple=False):
    """Write three columns of random numbers, in some ten clusters."""
    ROOT.gRandom.SetSeed(seed)
    options = ROOT.RDF.RSnapshotOptions()
    if ntuple:
        options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
        options.fApproxZippedClusterSize = 300_000
    else:
        options.fAutoFlush = CLUSTER
    frame = ROOT.RDataFrame(ENTRIES)
    for column in "xyz":
        frame = frame.Define(column, "gRandom->Rndm()")
    frame.Snapshot("Events", str(path), list("xyz"), options)
    Path(path).chmod(0o644)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A tree and an RNTuple on this machine."""
    top = tmp_path_factory.mktemp("far")
    return {"tree": write(top / "tree.root"), "ntuple": write(top / "ntuple.root", ntuple=True)}


@pytest.fixture(scope="module")
def far(files):
    """The same files on an XRootD server and on a web server: how URLs begin."""
    with (
        xrootd.serving() as (data, url),
        xrootd_proxy.before(url) as proxy,
        web.serving_apart({f"/{name}.root": path for name, path in files.items()}) as server,
    ):
        for name, path in files.items():
            shutil.copy(path, data / f"{name}.root")
        yield {"root": proxy.url, "http": server.url, "directory": data, "server": server, "proxy": proxy}


@pytest.fixture(autouse=True)
def _empty(request):
    """Begin with nothing kept."""
    if "s3" in request.fixturenames:
        delete(request.getfixturevalue("s3"))


def kept(s3):
    return [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET, Prefix="far/").get("Contents", [])]


def delete(s3):
    for key in kept(s3):
        s3.delete_object(Bucket=BUCKET, Key=key)


def of(cluster, url):
    """Requests and bytes of the last run: from afar, and from the bucket."""
    found = {each.source: each for each in cluster.report().runs[-1].traffic}
    host = url[: url.index("/", url.index("//") + 2)]
    return found.get(host), found.get(f"s3://{BUCKET}")


def histogram(frame, column, cut):
    return frame.Filter(cut).Histo1D((column, "", 50, 0.0, 1.0), column)


def contents(h):
    return [h.GetBinContent(place) for place in range(52)]


def run(url, column, cut, **arguments):
    arguments = {"npartitions": 2, "cache_days": 7, **arguments}
    (h,) = dask.compute(histogram(RDataFrame("Events", url, **arguments), column, cut))
    return contents(h)


def here(path, column, cut):
    return contents(histogram(ROOT.RDataFrame("Events", path), column, cut).GetValue())


@pytest.mark.parametrize("scheme", ["root", "http"])
@pytest.mark.parametrize("kind", ["tree", "ntuple"])
def test_other_cuts_and_histograms_fetch_nothing(scheme, kind, far, files, emulated, s3):
    """The second run reads from the bucket what the first fetched; of a third column, that is fetched."""
    url, path = f"{far[scheme]}/{kind}.root", files[kind]
    with emulated.get_client():
        assert run(url, "x", "y > 0.5") == here(path, "x", "y > 0.5")
        fetched, bucket = of(emulated, url)
        assert fetched.bytes_read > COLUMN
        assert far["proxy"].requests()["readv"] >= 2 or scheme == "http"
        assert bucket.puts == len(kept(s3)) >= 2
        assert bucket.bytes_kept > COLUMN

        sent = far["server"].sent("/")
        far["proxy"].requests()
        assert run(url, "y", "x < 0.25 && y < 0.9", npartitions=3) == here(path, "y", "x < 0.25 && y < 0.9")
        fetched, bucket = of(emulated, url)
        # No more than what tells that it is the same file.
        assert fetched is None or fetched.bytes_read < 20_000
        # Columns would come by vectors of reads; of an RNTuple the client reads one, to open it.
        assert far["proxy"].requests()["readv"] == (kind == "ntuple" and scheme == "root")
        # With what the client reads to know the columns.
        assert far["server"].sent("/")[1] - sent[1] < COLUMN / 10
        assert bucket.bytes_read > COLUMN
        assert not bucket.bytes_kept

        assert run(url, "z", "x > 0.5") == here(path, "z", "x > 0.5")
        fetched, bucket = of(emulated, url)
        assert 0.8 * COLUMN < fetched.bytes_read < 1.2 * COLUMN
        assert bucket.bytes_read > 0.8 * COLUMN
        assert bucket.bytes_kept < 1.2 * COLUMN

        assert run(url, "z", "z > 0.1", npartitions=1) == here(path, "z", "z > 0.1")
        fetched, _ = of(emulated, url)
        assert fetched is None or fetched.bytes_read < 20_000


KEY = b"k" * 16


def place_of(s3, *, bucket=BUCKET, key=KEY, days=7):
    return keeping.Place(S3Store(bucket, "far", s3), FarData(key, days))


def total(place, url, column="x", identity=None):
    """Read a column in this process, as a range does."""
    file = DataFile(url, "Events", identity or storage.identify(url))
    with keeping.keeping(place, [(file, WHOLE)]):
        return ROOT.RDataFrame("Events", url).Sum(column).GetValue()


@pytest.fixture
def served(far, files):
    """A tree on the web server: its URL, the sum of a column, and how many bytes were sent of it so far."""
    url = f"{far['http']}/tree.root"
    value = ROOT.RDataFrame("Events", files["tree"]).Sum("x").GetValue()
    return url, value, lambda: far["server"].sent("/")[1]


def damage(s3, where):
    for key in kept(s3):
        blob = bytearray(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        blob[where] ^= 1
        s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(blob))


@pytest.mark.parametrize("where", [-1, -COLUMN // 2, 50, 0], ids=["end", "middle", "index", "length"])
def test_what_somebody_has_changed_is_fetched_anew(where, served, s3):
    """One bit, anywhere: the number is right, the range says so, and what it fetched is kept beside."""
    url, value, sent = served
    assert total(place_of(s3), url) == value
    damage(s3, where)
    before, place = sent(), place_of(s3)
    assert total(place, url) == value
    assert sent() > before
    assert place.problems
    before, whole = sent(), kept(s3)
    assert total(place_of(s3), url) == value
    assert sent() - before < 20_000
    assert kept(s3) == whole


def test_what_is_right_beside_what_is_changed_is_taken(served, s3):
    """Also by a range that comes upon the change before it reads what was right."""
    url, value, sent = served
    total(place_of(s3), url)
    damage(s3, -COLUMN // 2)
    before = sent()
    assert total(place_of(s3), url) == value
    assert sent() - before < COLUMN / 4
    before, file = sent(), DataFile(url, "Events", storage.identify(url))
    with keeping.keeping(place_of(s3), [(file, WHOLE)]):
        later, earlier = (
            ROOT.RDataFrame("Events", url).Range(*part).Sum("x").GetValue()
            for part in ((3 * CLUSTER, 0), (0, 3 * CLUSTER))
        )
    assert later + earlier == pytest.approx(value, rel=1e-12)
    assert sent() - before < 20_000


def test_a_pack_of_another_file_or_user_is_not_taken(served, s3):
    """Its seal holds for one name, by one key; under a name that the other user's file has, it is damaged."""
    url, value, sent = served
    assert total(place_of(s3), url) == value
    mine = kept(s3)
    other = place_of(s3, key=b"o" * 16)
    before = sent()
    assert total(other, url) == value
    assert sent() - before > COLUMN
    assert not other.problems
    theirs = [key for key in kept(s3) if key not in mine]
    assert theirs
    assert not {key.split("/")[1] for key in theirs} & {key.split("/")[1] for key in mine}
    s3.copy_object(Bucket=BUCKET, CopySource={"Bucket": BUCKET, "Key": mine[0]}, Key=theirs[0])
    other = place_of(s3, key=b"o" * 16)
    assert total(other, url) == value
    assert other.problems


def test_what_is_too_old_is_fetched_anew(served, s3, monkeypatch):
    """Its age decides, which its seal holds; the bucket deletes it by a rule of its own."""
    url, value, sent = served
    with monkeypatch.context() as patch:
        now = time.time()
        patch.setattr(keeping.time, "time", lambda: now - 8 * 86400)
        total(place_of(s3), url)
    before = sent()
    assert total(place_of(s3, days=10), url) == value
    assert sent() - before < 20_000
    assert total(place_of(s3, days=7), url) == value
    assert sent() - before > COLUMN


def test_a_bucket_that_refuses_costs_nothing_but_a_warning(served, s3, caplog):
    """Neither reading nor writing works: the range reads from afar, and says what it could not do."""
    url, value, _ = served
    place = place_of(s3, bucket="a-bucket-that-is-not-there")
    began_s = time.monotonic()
    assert total(place, url) == value
    assert time.monotonic() - began_s < 10
    assert place.problems
    assert "a-bucket-that-is-not-there" in caplog.text


def test_what_is_more_than_a_range_may_hold_is_kept_by_later_ones(served, s3, monkeypatch):
    """Each keeps as much again of what it had to fetch, until there is nothing to fetch."""
    url, value, sent = served
    monkeypatch.setattr(keeping, "_room", lambda: COLUMN // 2)
    fetched = []
    for _ in range(4):
        before = sent()
        assert total(place_of(s3), url) == value
        fetched.append(sent() - before)
    assert fetched == sorted(fetched, reverse=True)
    assert fetched[0] - fetched[1] > COLUMN // 4
    assert fetched[-1] < 20_000


def test_packs_that_vanish_are_fetched_anew(served, s3, monkeypatch):
    """Expired between the look and the read: what they had comes from afar."""
    url, value, sent = served
    total(place_of(s3), url)
    place = place_of(s3)
    packs_of = place.packs

    def vanish(file, share):
        found = packs_of(file, share)
        delete(s3)
        return found

    monkeypatch.setattr(place, "packs", vanish)
    before = sent()
    assert total(place, url) == value
    assert sent() - before > COLUMN
    assert kept(s3)


def test_a_file_that_is_replaced(far, s3):
    """Under its old name it is another file; what was read while it changed is not kept."""
    path = far["directory"] / "replaced.root"
    url = f"{far['root']}/replaced.root"
    write(path)
    first = total(place_of(s3), url)
    written = kept(s3)
    write(path, seed=2)
    second = ROOT.RDataFrame("Events", str(path)).Sum("x").GetValue()
    assert second != first
    assert total(place_of(s3), url) == second
    assert len(kept(s3)) > len(written)
    # Functions have compared it by then: it is replaced while a range reads.
    delete(s3)
    place = place_of(s3)
    with keeping.keeping(place, [(DataFile(url, "Events", storage.identify(url)), WHOLE)]):
        assert ROOT.RDataFrame("Events", url).Sum("x").GetValue() == second
        write(path, seed=3)
    assert not kept(s3)
    assert "replaced" in place.problems[0]


def test_files_on_servers_are_roots_own_afterwards(far, s3):
    """What is read without being kept is read as ever; a file that is not there is told."""
    url = f"{far['root']}/tree.root"
    total(place_of(s3), url)
    assert type(ROOT.TFile.Open(url)).__name__ == "TNetXNGFile"
    identity = storage.identify(url)
    missing = f"{far['root']}/none.root"
    with pytest.raises(InputError, match=r"none\.root"):
        total(place_of(s3), missing, identity=identity)


def test_the_setting_asks_for_it_through_roots_door(far, files, emulated, s3):
    """`files.cache-days`, without a change to the script; without it, nothing is kept."""
    url = f"{far['root']}/tree.root"
    expected = here(files["tree"], "x", "x > 0.125")
    with emulated.get_client() as client:
        frame = ROOT.RDataFrame("Events", url, executor=client, npartitions=2)
        assert contents(histogram(frame, "x", "x > 0.125").GetValue()) == expected
        assert not kept(s3)
        with dask.config.set({"dask-root-lambda.files.cache-days": 3}):
            frame = ROOT.RDataFrame("Events", url, executor=client, npartitions=2)
        assert contents(histogram(frame, "x", "x > 0.125").GetValue()) == expected
    assert kept(s3)


def test_friends_are_kept_too(far, files, emulated, s3):
    """A friend's file is far as well: of both, a second run fetches nothing."""
    url = f"{far['root']}/tree.root"
    shutil.copy(files["tree"], far["directory"] / "friend.root")
    friend = f"{far['root']}/friend.root"
    (far["directory"] / "friend.root").chmod(0o644)

    made, other = ROOT.TChain("Events"), ROOT.TChain("Events")
    made.Add(url)
    other.Add(friend)
    made.AddFriend(other, "other")

    expected = ROOT.RDataFrame("Events", files["tree"]).Sum("y").GetValue()
    with emulated.get_client():
        frame = RDataFrame(made, npartitions=2, cache_days=1)
        assert frame.Sum("other.y").compute() == pytest.approx(expected, rel=1e-12)
        fetched, _ = of(emulated, url)
        assert fetched.bytes_read > COLUMN
        frame = RDataFrame(made, npartitions=2, cache_days=1)
        assert frame.Mean("other.y").compute() == pytest.approx(expected / ENTRIES, rel=1e-12)
        fetched, bucket = of(emulated, url)
        assert fetched.bytes_read < 20_000
        assert bucket.bytes_read > COLUMN


def test_the_report_says_why_something_is_not_taken(far, files, emulated, s3):
    """Once, of the first range that tells."""
    url = f"{far['http']}/tree.root"
    with emulated.get_client():
        assert run(url, "x", "y > 0.75", npartitions=1) == here(files["tree"], "x", "y > 0.75")
        assert not any("Far data" in note for note in emulated.report().notes)
        damage(s3, 50)
        assert run(url, "y", "y > 0.75", npartitions=1) == here(files["tree"], "y", "y > 0.75")
        (note,) = (note for note in emulated.report().notes if "Far data" in note)
    assert "is not what this run put there" in note


def test_its_cost_is_in_the_report(far, emulated, s3):
    """Requests and storage, by the price list; the text says how much is kept."""
    url = f"{far['http']}/tree.root"
    with emulated.get_client():
        run(url, "x", "x > 0.0625", cache_days=30)
    report = emulated.report().runs[-1]
    bucket = of(emulated, url)[1]
    assert report.kept_usd == pytest.approx(bucket.bytes_kept / 2**30 * 0.023)
    assert report.s3_usd == pytest.approx(bucket.gets * 4e-7 + (bucket.lists + bucket.puts) * 5e-6)
    assert report.usd > report.kept_usd + report.s3_usd
    assert "keeping far data" in str(emulated.report())
    assert " kept" in str(emulated.report())


class TestPacks:
    """The format, without ROOT."""

    def test_what_was_written_is_read(self):
        """The index says where parts were, and where their bytes are."""
        data = os.urandom(3 * packs.CHUNK_BYTES + 5)
        extents = [(10, len(data) - 7), (10**12, 7)]
        blob = packs.packed(KEY, "a/b", extents, data, 123)
        index = packs.read(KEY, "a/b", lambda at, size: blob[at : at + size])
        assert index.extents == tuple(extents)
        assert (index.made_s, index.size) == (123, len(data))
        assert blob[index.begin :] == data
        assert len(index.digests) == 4 * 32

    def test_a_long_index_takes_a_second_request(self):
        """A pack of many small parts."""
        extents = [(100 * place, 1) for place in range(20_000)]
        blob = packs.packed(KEY, "a/b", extents, b"x" * 20_000, 1)
        asked = []

        def get(at, size):
            asked.append((at, size))
            return blob[at : at + size]

        assert packs.read(KEY, "a/b", get).extents == tuple(extents)
        assert len(asked) == 2

    @pytest.mark.parametrize("blob", [b"", b"\0\0", b"\xff" * 100, b"\0\0\0\x20" + b"x" * 100])
    def test_what_is_no_pack_is_refused(self, blob):
        """Before anything of it is read."""
        with pytest.raises(DamagedBlobError):
            packs.read(KEY, "a/b", lambda at, size: blob[at : at + size])


def test_a_request_asks_for_it():
    """It travels whole; no text of it has the key, which is another than that of runs."""
    far = FarData(KEY, 7)
    interval = Interval(Fraction(0), Fraction(1))
    body = Body.of(wire.dumps(1))
    request = Request("map", "t", (body,), range_index=0, interval=interval, far=far)
    assert Request.from_json(request.to_json()).far == far
    assert Request.from_json(replace(request, far=None).to_json()).far is None
    assert str(KEY) not in repr(request)
    user = Secret(b"s" * 32)
    assert user.far_key not in (user.key("far data"), user.key(""), Secret(b"t" * 32).far_key)
    for wrong in ("yes", {}, {"key": "x", "days": 0}, {"key": 1, "days": 1}):
        with pytest.raises(DaskRootLambdaError):
            Request.from_json({**request.to_json(), "far": wrong})


def test_shares_travel_in_names():
    """Exactly: neighbours have nothing in common."""
    thirds = [(Fraction(n, 3), Fraction(n + 1, 3)) for n in range(3)]
    for share in (*thirds, WHOLE):
        assert keeping._share(f"file/{keeping._text(share)}-abc") == share
    assert [keeping._overlap(thirds[1], each) for each in thirds] == [False, True, False]
    assert keeping._share("file/nonsense") is None
    assert keeping._share("file/1.0-2.1-x") is None


def test_what_is_far():
    """Files of this machine and of S3 are near."""
    assert [keeping._is_far(url) for url in ("root://h//f", "roots://h//f", "https://h/f", "http://h/f")] == [
        True
    ] * 4
    assert not any(map(keeping._is_far, ("/f", "s3://b/f", "https://s3.invalid/aws/b/f", "file:///f")))


def test_names_depend_on_the_content(s3):
    """Each content of one URL has its own packs."""
    place = place_of(s3)
    identity = storage.FileIdentity(1, "h", 2, "v")
    contents = [
        identity,
        replace(identity, size=2),
        replace(identity, version="w"),
        replace(identity, mtime_ns=3),
    ]
    assert len({place._name(DataFile("root://h//f", "t", each)) for each in contents}) == 4
