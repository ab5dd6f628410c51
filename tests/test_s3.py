"""Data in S3, from the emulator's."""

from __future__ import annotations

import dask
import pytest
import ROOT
from botocore.exceptions import ClientError

from dask_root_lambda import RDataFrame, s3_names
from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.rdf import probes
from lambda_runtime import storage
from lambda_runtime.remote import access, listing, objects
from tests.conftest import write_events

SUM = 499500.0
BUCKET = "physics"


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


def test_what_is_named_otherwise(bucket, s3, local, events_file, tmp_path, monkeypatch):
    """Chains with friends, specifications, RNTuples and both doors have local ROOT's numbers."""
    objects.prepare()
    name = f"s3://{BUCKET}/run 1/events+0.root"
    ROOT.RDataFrame("Events", events_file).Define("y", "2 * x").Snapshot(
        "Friend", str(tmp_path / "friend.root"), ["y"]
    )
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    ROOT.RDataFrame("Events", events_file).Snapshot("Ntuple", str(tmp_path / "n.root"), ["x"], options)
    for file in ("friend.root", "n.root"):
        s3.upload_file(str(tmp_path / file), BUCKET, file)

    chain, friend = ROOT.TChain("Events"), ROOT.TChain("Friend")
    chain.Add(name)
    friend.Add(f"s3://{BUCKET}/friend.root")
    chain.AddFriend(friend)
    spec = ROOT.RDF.Experimental.RDatasetSpec()
    spec.AddSample(("muons", "Events", name))
    client = local.get_client()
    results = [
        RDataFrame(chain, npartitions=3).Sum("y"),
        RDataFrame(spec, npartitions=3)
        .DefinePerSample("n", 'rdfsampleinfo_.GetSampleName() == "muons"')
        .Sum("n"),
        RDataFrame("Ntuple", f"s3://{BUCKET}/n.root", npartitions=3).Sum("x"),
        ROOT.RDataFrame("Events", name, executor=client, npartitions=2).Sum("x"),
    ]
    spec.AddSample(("none", "Events", f"s3://{BUCKET}/run 1/*.root"))
    with pytest.raises(InputError, match="the sample none has no files"):
        RDataFrame(spec)
    assert [result.GetValue() for result in results] == [2 * SUM, 1000, SUM, SUM]


def test_samples_have_the_names_that_users_gave(bucket, local):
    """Sample information names the object as the user did."""
    name = f"s3://{BUCKET}/run 1/events+0.root"
    frame = RDataFrame("Events", name, npartitions=2)
    named = frame.DefinePerSample("here", f'rdfsampleinfo_.AsString() == "{name}/Events"')
    assert named.Sum("here").compute() == 1000


def test_mistakes_are_told_at_the_line(bucket, local):
    """What is not there, or is no name of a file, is an error when the frame is made."""
    for name, said in {
        f"s3://{BUCKET}/nowhere.root": "there is no such object",
        "s3://no-bucket-here/a.root": "there is no such bucket",
        f"s3://{BUCKET}/none*.root": "no object matches",
        f"s3://{BUCKET}": "names no file",
    }.items():
        with pytest.raises(InputError, match=said):
            RDataFrame("Events", name)
    with pytest.raises(InputError, match="holds no 'Muons': it has Events"):
        RDataFrame("Muons", f"s3://{BUCKET}/run 1/events+0.root")


def test_an_object_replaced_before_it_is_read(bucket, s3, emulated, tmp_path):
    """Environments refuse an object that is not the one which the client saw."""
    s3.upload_file(write_events(tmp_path / "a.root"), BUCKET, "changing.root")
    with emulated.get_client():
        total = RDataFrame("Events", f"s3://{BUCKET}/changing.root", npartitions=2).Sum("x")
        s3.upload_file(write_events(tmp_path / "b.root", value="2 * int(rdfentry_)"), BUCKET, "changing.root")
        with pytest.raises(InputError, match=r"s3://physics/changing\.root was replaced"):
            total.compute()


class TestASecondStart:
    """What an earlier process has seen of objects is compared with what their bucket lists."""

    N = 6

    @pytest.fixture
    def urls(self, s3, events_file, tmp_path, monkeypatch):
        """Objects that an earlier start has looked at."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        monkeypatch.setattr(listing, "FEW", self.N - 2)
        s3.create_bucket(Bucket="many")
        for index in range(self.N):
            s3.upload_file(events_file, "many", f"run+{index}/a b.root")
        urls = [s3_names.read(f"s3://many/run+{index}/a b.root").internal() for index in range(self.N)]
        probes.identify(urls)
        return urls

    @pytest.fixture
    def asked(self, monkeypatch):
        """Objects that are asked for, one by one."""
        asked, identify = [], storage.identify

        def noted(url):
            asked.append(url)
            return identify(url)

        monkeypatch.setattr(storage, "identify", noted)
        return asked

    def test_what_is_as_it_was_is_not_asked_for(self, urls, asked):
        """The identities are those that a look at each gives."""
        found = probes.identify(urls)
        assert asked == []
        assert found == [storage.identify(url) for url in urls]

    def test_what_was_replaced_is_asked_for(self, urls, asked, s3, tmp_path):
        """The others are not. An object of the same length is another one."""
        s3.upload_file(write_events(tmp_path / "b.root", value="7"), "many", "run+3/a b.root")
        first = probes.identify(urls)
        assert asked == [urls[3]]
        assert probes.identify(urls) == first
        assert asked == [urls[3]]

    def test_what_was_deleted_is_told(self, urls, s3):
        """The list does not hide it."""
        s3.delete_object(Bucket="many", Key="run+3/a b.root")
        with pytest.raises(InputError, match=r"s3://many/run\+3/a b\.root.*there is no such object"):
            probes.identify(urls)

    def test_among_many_others_each_is_asked_for(self, urls, asked, s3, monkeypatch):
        """A list that is much longer than what is wanted of it is not read to its end."""
        monkeypatch.setattr(listing, "_PAGE", 1)
        monkeypatch.setattr(listing, "_VAIN", 1)
        for index in range(3 * self.N):
            s3.put_object(Bucket="many", Key=f"run+2/{index}", Body=b"")
        probes.identify(urls)
        assert sorted(asked) == sorted(urls[2:])

    def test_a_bucket_that_may_not_be_listed(self, urls, asked, monkeypatch):
        """Its objects are asked for, with signatures as before."""

        def denied(*_):
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "ListObjectsV2")

        monkeypatch.setattr(listing, "_pages", denied)
        assert len(probes.identify(urls)) == self.N
        assert sorted(asked) == sorted(urls)
        name = s3_names.read("s3://many/any.root")
        assert not access.signer(name.place).is_public("many")

    def test_a_frame_over_them(self, urls, local):
        """ROOT opens, and ranges read, objects that nobody has asked for in this process."""
        names = [f"s3://many/run+{index}/a b.root" for index in range(self.N)]
        assert RDataFrame("Events", names, npartitions=4).Sum("x").GetValue() == self.N * SUM
